//! Our parameters as PyTorch's tensors: its gate order, two biases, weights as (outputs, inputs).

use crate::error::{Error, ErrorKind, Result};
use crate::network::{Architecture, Cell, Exported};

/// A tensor of the module, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// Where our parameters are looked up.
struct Parameters<'a>(&'a [Exported<'a, f32>]);

impl<'a> Parameters<'a> {
    fn find(&self, name: &str) -> Option<(&'a [usize], &'a [f32])> {
        self.0.iter().find(|(known, ..)| known == name).map(|(_, shape, values)| (&shape[..], &values[..]))
    }

    fn get(&self, name: &str) -> Result<(&'a [usize], &'a [f32])> {
        self.find(name)
            .ok_or_else(|| Error::new(ErrorKind::Internal, format!("the network has no parameter {name}")))
    }
}

/// All tensors, as `Seq2Seq.state_dict()` names them.
///
/// # Errors
/// [`ErrorKind::Internal`] for parameters that are not those of the architecture.
pub(super) fn of(a: &Architecture, parameters: &[Exported<'_, f32>]) -> Result<Vec<Tensor>> {
    let p = Parameters(parameters);
    let mut out = Vec::new();
    for side in ["source", "target"] {
        let ours = if side == "source" { "encoder.embedding" } else { "decoder.embedding" };
        if let Some((shape, values)) = p.find(ours) {
            let name = format!("{side}_embedding.weight");
            out.push(Tensor { name, shape: shape.to_vec(), values: values.to_vec() });
        }
    }
    let cell = a.cell.name();
    for l in 0..a.layers {
        recurrent(&p, a, &format!("encoder.{cell}_{l}"), ["encoder", &format!("l{l}")], &mut out)?;
        if a.bidirectional {
            let ours = format!("encoder.{cell}_{l}.reverse");
            recurrent(&p, a, &ours, ["encoder", &format!("l{l}_reverse")], &mut out)?;
        }
    }
    for l in 0..a.decoder_depth() {
        recurrent(&p, a, &format!("decoder.{cell}_{l}"), ["decoder", &format!("l{l}")], &mut out)?;
    }
    for (ours, theirs) in [
        ("decoder.attention.key", "attention_query.weight"),
        ("decoder.attention.query", "attention_query.weight"),
        ("decoder.attention.score_bias", "attention_query.bias"),
        ("decoder.attention.memory", "attention_keys.weight"),
        ("decoder.attention.score", "attention_score.weight"),
        ("decoder.attention.combine", "combine.weight"),
        ("decoder.attention.combine_bias", "combine.bias"),
        ("decoder.dense.weight", "output.weight"),
        ("decoder.dense.bias", "output.bias"),
    ] {
        out.extend(p.find(ours).map(|found| dense(theirs.to_owned(), found)));
    }
    for (name, shape, values) in parameters {
        // decoder.bridge.state_h_0.weight
        if let Some(name) = name.strip_prefix("decoder.bridge.state_") {
            out.push(dense(format!("bridge.{name}"), (shape, values)));
        }
    }
    Ok(out)
}

/// A weight (inputs, outputs), transposed; a bias, or a vector that gives one score, by its name.
fn dense(name: String, (shape, values): (&[usize], &[f32])) -> Tensor {
    match *shape {
        [inputs, outputs] => {
            let values =
                (0..inputs * outputs).map(|at| values[at % inputs * outputs + at / inputs]).collect();
            Tensor { name, shape: vec![outputs, inputs], values }
        }
        _ if name.ends_with("weight") => {
            Tensor { name, shape: vec![1, values.len()], values: values.to_vec() }
        }
        _ => Tensor { name, shape: shape.to_vec(), values: values.to_vec() },
    }
}

/// The four tensors of one layer in one direction.
///
/// Ours has one bias behind the columns of the inputs, which becomes that of W; that of R is zeros, but for
/// the bias within the reset product.
fn recurrent(
    p: &Parameters<'_>,
    a: &Architecture,
    ours: &str,
    [module, suffix]: [&str; 2],
    out: &mut Vec<Tensor>,
) -> Result<()> {
    let (shape, w) = p.get(&format!("{ours}.W"))?;
    let (r_shape, r) = p.get(&format!("{ours}.R"))?;
    let (gates, columns, hidden) = (shape[1], shape[2], r_shape[2]);
    // Behind the bias stands what holds a state at padding.
    let inputs = columns - if a.cell == Cell::GruResetBias { 2 } else { 1 };
    // Ours are i, o, f, c and z, r, n; PyTorch's i, f, g, o and r, z, n.
    let order: &[usize] = if a.cell == Cell::Lstm { &[0, 2, 3, 1] } else { &[1, 0, 2] };
    let rows: Vec<usize> = order.iter().flat_map(|gate| gate * hidden..(gate + 1) * hidden).collect();
    let fed = p.find(&format!("{ours}.feed")).map_or((0, &[][..]), |(shape, values)| (shape[0], values));
    let mut weight = Vec::with_capacity(gates * (inputs + fed.0));
    for &row in &rows {
        weight.extend_from_slice(&w[row * columns..][..inputs]);
        weight.extend((0..fed.0).map(|at| fed.1[at * gates + row]));
    }
    let of_state = p.find(&format!("{ours}.B")).map(|(_, values)| &values[gates..]);
    let values = |row: &usize| r[row * hidden..][..hidden].iter().copied();
    for (part, shape, values) in [
        ("weight_ih", vec![gates, inputs + fed.0], weight),
        ("weight_hh", vec![gates, hidden], rows.iter().flat_map(values).collect()),
        ("bias_ih", vec![gates], rows.iter().map(|row| w[row * columns + inputs]).collect()),
        ("bias_hh", vec![gates], rows.iter().map(|&row| of_state.map_or(0.0, |b| b[row])).collect()),
    ] {
        out.push(Tensor { name: format!("{module}.{part}_{suffix}"), shape, values });
    }
    Ok(())
}
