use super::*;
use proptest::prelude::*;

#[test]
fn every_half_survives_the_way_through_f32() {
    for half in (0..=u16::MAX).filter(|half| half & 0x7c00 != 0x7c00) {
        assert_eq!(half_from_float(float_from_half(half)), half, "{half:#06x}");
    }
    assert_eq!(
        (float_from_half(0x3c00), float_from_half(0xc000), float_from_half(1)),
        (1.0, -2.0, 2f32.powi(-24))
    );
    // Halfway between two: the even one.
    assert_eq!(
        [half_from_float(1.0 + 2f32.powi(-11)), half_from_float(1.0 + 3.0 * 2f32.powi(-11))],
        [0x3c00, 0x3c02]
    );
    assert_eq!([half_from_float(1e9), half_from_float(-65520.0), half_from_float(1e-9)], [0x7bff, 0xfbff, 0]);
}

proptest! {
    #[test]
    fn a_half_is_the_nearest_one(x in -70000f32..70000.0, scale in -20i32..1) {
        let x = x * 2f32.powi(scale);
        let half = half_from_float(x);
        let error = |half: u16| (f64::from(float_from_half(half)) - f64::from(x)).abs();
        for other in [half.wrapping_sub(1), half.wrapping_add(1)].into_iter().filter(|h| h & 0x7c00 != 0x7c00) {
            prop_assert!(error(half) <= error(other), "{x}");
        }
    }

    #[test]
    fn an_8_bit_weight_is_within_half_a_step_of_its_output(values in prop::collection::vec(-3f32..3.0, 24), axis in 0usize..3) {
        let shape = [2, 3, 4];
        let tensor = TensorProto::of_floats("w", &shape, &values);
        let stored = quantised(&tensor, axis).expect("floats");
        let inner: usize = shape[axis + 1..].iter().product();
        for (at, (&x, &y)) in values.iter().zip(&stored.restored).enumerate() {
            let same = |other: usize| other / inner % shape[axis] == at / inner % shape[axis];
            let largest = (0..24).filter(|&o| same(o)).map(|o| values[o].abs()).fold(0.0, f32::max);
            prop_assert!((x - y).abs() <= largest / 254.0 + 1e-6);
        }
    }
}

/// A graph whose one node reads weights of a recurrent layer.
fn with_recurrent_node(op: &str, w: &TensorProto, r: &TensorProto) -> GraphProto {
    let input = ["x", &w.name, &r.name].map(str::to_owned).into();
    let node =
        NodeProto { op_type: op.to_owned(), input, output: vec!["y".to_owned()], ..NodeProto::default() };
    GraphProto { node: vec![node], initializer: vec![w.clone(), r.clone()], ..GraphProto::default() }
}

#[test]
fn int8_rounds_the_weights_of_recurrent_nodes_and_leaves_them_f32_and_their_bias_alone() {
    let (gates, inputs, hidden) = (12, 5, 3);
    let number = |i: usize| ((i * 7919) % 1009) as f32 / 504.5 - 1.0;
    let values: Vec<f32> = (0..gates * (inputs + 1 + hidden)).map(number).collect();
    let (w_values, r_values) = values.split_at(gates * (inputs + 1));
    let w = TensorProto::of_floats("w", &[1, gates, inputs + 1], w_values);
    let r = TensorProto::of_floats("r", &[1, gates, hidden], r_values);
    for op in ["LSTM", "GRU"] {
        let before = with_recurrent_node(op, &w, &r);
        let mut graph = before.clone();
        Compressor::new(Dtype::F16).compress(&mut graph);
        assert_eq!(graph, before, "f16 would cost a Cast in front of the node");
        let mut compressor = Compressor::new(Dtype::Int8);
        compressor.compress(&mut graph);
        assert_eq!(graph.node, before.node);
        for (tensor, before, beside) in
            [(&graph.initializer[0], w_values, 1), (&graph.initializer[1], r_values, 0)]
        {
            let after = tensor.floats().expect("f32");
            assert_eq!(compressor.restored(&tensor.name), Some(after.as_slice()));
            let columns = after.len() / gates;
            for (after, before) in after.chunks_exact(columns).zip(before.chunks_exact(columns)) {
                let (weights, bias) = after.split_at(columns - beside);
                assert_eq!(bias, &before[columns - beside..]);
                let unit =
                    before[..columns - beside].iter().fold(0.0f32, |largest, x| largest.max(x.abs())) / 127.0;
                for (after, before) in weights.iter().zip(before) {
                    let integer = after / unit;
                    assert!((integer - integer.round()).abs() < 1e-4, "{after} is {integer} units");
                    assert!((after - before).abs() <= 0.501 * unit);
                }
            }
        }
        // What is rounded stays as it is.
        let rounded = graph.clone();
        Compressor::new(Dtype::Int8).compress(&mut graph);
        for (again, rounded) in graph.initializer.iter().zip(&rounded.initializer) {
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs();
            let (again, rounded) = (again.floats().expect("f32"), rounded.floats().expect("f32"));
            assert!(again.iter().zip(&rounded).all(close));
        }
    }
}
