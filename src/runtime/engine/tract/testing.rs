//! What the tests of several operators share.

use tract_onnx::tract_core::internal::*;

/// Numbers between -1/2 and 1/2 in a tensor.
pub(super) fn numbers(shape: &[usize], seed: u64) -> Tensor {
    let count: usize = shape.iter().product();
    let random = s2s_kernels::random::Random::new(seed, 0);
    let values: Vec<f32> =
        (0..count as u64).map(|at| (random.bits_after(at) >> 40) as f32 / 16_777_216.0 - 0.5).collect();
    Tensor::from_shape(shape, &values).expect("as many values as the shape has")
}

/// The sums of products that an expression means, in f64.
pub(super) fn defined(expression: &str, a: &Tensor, b: &Tensor) -> Vec<f64> {
    let (inputs, output) = expression.split_once("->").expect("an arrow");
    let (left, right) = inputs.split_once(',').expect("two operands");
    let letters: std::collections::BTreeSet<char> = [left, right, output].concat().chars().collect();
    let mut letters: Vec<char> = letters.into_iter().collect();
    // Those of the output first, in its order, so that its values come one behind the other.
    letters.sort_by_key(|letter| output.find(*letter).unwrap_or(usize::MAX));
    let size = |letter: &char| {
        let of = |axes: &str, tensor: &Tensor| axes.find(*letter).map_or(1, |axis| tensor.shape()[axis]);
        of(left, a).max(of(right, b))
    };
    let sizes: Vec<usize> = letters.iter().map(size).collect();
    let count: usize = sizes.iter().product();
    let values: usize = sizes[..output.len()].iter().product();
    let mut sums = vec![0.0; values];
    for at in 0..count {
        let mut left_over = at;
        let mut place = vec![0; letters.len()];
        for (place, size) in place.iter_mut().zip(&sizes).rev() {
            (*place, left_over) = (left_over % size, left_over / size);
        }
        let value = |axes: &str, tensor: &Tensor| {
            let offset = axes.chars().zip(tensor.shape()).fold(0, |offset, (letter, &size)| {
                let axis = letters.iter().position(|other| *other == letter).expect("a letter");
                offset * size + if size == 1 { 0 } else { place[axis] }
            });
            let data = tensor.try_as_plain_ram().expect("values").as_slice::<f32>().expect("f32").to_vec();
            f64::from(data[offset])
        };
        sums[at / (count / values)] += value(left, a) * value(right, b);
    }
    sums
}

/// Asserts that sums of products of such numbers are what they should be.
pub(super) fn assert_near(result: &Tensor, want: &[f64]) {
    let data = result.try_as_plain_ram().expect("values");
    let data = data.as_slice::<f32>().expect("f32");
    assert_eq!(data.len(), want.len());
    for (got, want) in data.iter().zip(want) {
        // Sums of at most 70 products of numbers below 1/2.
        assert!((f64::from(*got) - want).abs() < 1e-5, "{got} for {want}");
    }
}

/// How many operators of this name a model has.
pub(super) fn has(model: &TypedModel, name: &str) -> usize {
    model.nodes().iter().filter(|node| node.op.name() == name).count()
}
