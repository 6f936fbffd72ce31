//! What operators make of the axes of their inputs.

use super::axis::{Axis, Shape, fixed, product};
use crate::onnx::NodeProto;

pub(super) fn wrap(axis: i64, rank: usize) -> usize {
    if axis < 0 { (rank as i64 + axis).max(0) as usize } else { axis as usize }
}

pub(super) fn at(shape: &[Axis], axis: i64) -> Axis {
    shape.get(wrap(axis, shape.len())).cloned().unwrap_or(Axis::Unknown)
}

pub(super) fn with(shape: &[Axis], axis: usize, length: Axis) -> Vec<Axis> {
    shape.iter().enumerate().map(|(i, a)| if i == axis { length.clone() } else { a.clone() }).collect()
}

/// numpy's rule: axes from the right, 1 stretches.
pub(super) fn broadcast(a: Shape, b: Shape) -> Shape {
    let (a, b) = (a?, b?);
    let rank = a.len().max(b.len());
    let one = Axis::Fixed(1);
    let from = |s: &[Axis], i: usize| (i + s.len()).checked_sub(rank).map_or(one.clone(), |i| s[i].clone());
    let axis = |i| match (from(&a, i), from(&b, i)) {
        (x, y) if x == y || y == one => x,
        (x, y) if x == one => y,
        (Axis::Unknown, y) => y,
        (Axis::Symbol(_), Axis::Fixed(length)) if length > LARGE => Axis::Fixed(length),
        (x, _) => x,
    };
    Some((0..rank).map(axis).collect())
}

pub(super) fn reshape(data: Shape, target: Option<Vec<Axis>>) -> Shape {
    let target = target?;
    let kept: Vec<Axis> = target
        .iter()
        .enumerate()
        .map(|(i, a)| {
            if *a == Axis::Fixed(0) {
                data.as_ref().and_then(|d| d.get(i)).cloned().unwrap_or(Axis::Unknown)
            } else {
                a.clone()
            }
        })
        .collect();
    let rest: Vec<Axis> = kept.iter().filter(|a| **a != Axis::Fixed(-1)).cloned().collect();
    let inferred = match (data.as_deref().and_then(product), product(&rest)) {
        (Some(all), Some(others)) if others > 0 => Axis::Fixed(all / others),
        _ => Axis::Unknown,
    };
    Some(kept.into_iter().map(|a| if a == Axis::Fixed(-1) { inferred.clone() } else { a }).collect())
}

pub(super) fn flatten(shape: &[Axis], axis: i64) -> Vec<Axis> {
    let axis = wrap(axis, shape.len()).min(shape.len());
    let side = |part: &[Axis]| match part {
        [one] => one.clone(),
        part => fixed(product(part)),
    };
    vec![side(&shape[..axis]), side(&shape[axis..])]
}

pub(super) fn unsqueeze(shape: &[Axis], axes: &[i64]) -> Vec<Axis> {
    let rank = shape.len() + axes.len();
    let new: Vec<usize> = axes.iter().map(|&a| wrap(a, rank)).collect();
    let mut old = shape.iter().cloned();
    (0..rank)
        .map(|i| if new.contains(&i) { Axis::Fixed(1) } else { old.next().unwrap_or(Axis::Unknown) })
        .collect()
}

pub(super) fn squeeze(shape: &[Axis], axes: &[i64]) -> Vec<Axis> {
    let gone: Vec<usize> = axes.iter().map(|&a| wrap(a, shape.len())).collect();
    shape.iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, a)| a.clone()).collect()
}

pub(super) fn concat(parts: &[Vec<Axis>], axis: i64) -> Vec<Axis> {
    let Some(first) = parts.first() else { return Vec::new() };
    let along = wrap(axis, first.len());
    let sum = parts.iter().try_fold(0i64, |n, p| {
        if let Some(Axis::Fixed(m)) = p.get(along) { n.checked_add(*m) } else { None }
    });
    with(first, along, fixed(sum))
}

pub(super) fn split_size(
    shape: &[Axis],
    along: usize,
    sizes: Option<&[i64]>,
    part: usize,
    parts: usize,
) -> Axis {
    match (sizes, shape.get(along)) {
        (Some(sizes), _) => sizes.get(part).map_or(Axis::Unknown, |&n| Axis::Fixed(n)),
        (None, Some(Axis::Fixed(n))) if n % parts as i64 == 0 => Axis::Fixed(n / parts as i64),
        _ => Axis::Unknown,
    }
}

pub(super) fn pad(shape: &[Axis], pads: Option<&[i64]>) -> Vec<Axis> {
    let added = |i: usize| pads.and_then(|p| p.get(i)?.checked_add(*p.get(i + shape.len())?));
    shape
        .iter()
        .enumerate()
        .map(|(i, a)| match (a, added(i)) {
            (a, Some(0)) => a.clone(),
            (Axis::Fixed(n), Some(m)) => fixed(n.checked_add(m)),
            // However long the axis is, it becomes this long at least.
            (_, Some(m)) if m > LARGE => Axis::Fixed(m),
            _ => Axis::Unknown,
        })
        .collect()
}

/// Lengths beyond which an axis counts as known though only its least length is: see [`least_elements`].
const LARGE: i64 = 1 << 20;

/// Each axis so many times.
pub(super) fn scaled(shape: &[Axis], times: &[i64]) -> Vec<Axis> {
    let axis = |(axis, times): (&Axis, &i64)| match axis {
        Axis::Fixed(length) => fixed(length.checked_mul(*times)),
        axis if *times == 1 => axis.clone(),
        _ if *times > LARGE => Axis::Fixed(*times),
        _ => Axis::Unknown,
    };
    shape.iter().zip(times).map(axis).collect()
}

pub(super) fn known_scalar(values: &Shape) -> Option<i64> {
    match values.as_deref() {
        Some([Axis::Fixed(value)]) => Some(*value),
        _ => None,
    }
}

/// Elements of the longest part of an axis that is taken for a window of that length.
const LONGEST_WINDOW: i64 = 1 << 16;

pub(super) fn slice(
    shape: &[Axis],
    starts: Option<Vec<i64>>,
    ends: Option<Vec<i64>>,
    axes: Option<Vec<i64>>,
    steps: Option<Vec<i64>>,
) -> Vec<Axis> {
    let unknown = || vec![Axis::Unknown; shape.len()];
    let (Some(starts), Some(ends)) = (starts, ends) else { return unknown() };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let mut out = shape.to_vec();
    for (i, (&start, &end)) in starts.iter().zip(&ends).enumerate() {
        let along = wrap(axes.get(i).copied().unwrap_or(0), shape.len());
        let step = steps.as_ref().and_then(|s| s.get(i)).copied().unwrap_or(1);
        let (Some(axis), true) = (out.get_mut(along), step > 0) else { return unknown() };
        *axis = match axis {
            Axis::Fixed(n) => {
                let clamp = |v: i64| if v < 0 { v.saturating_add(*n).max(0) } else { v.min(*n) };
                Axis::Fixed(clamp(end).saturating_sub(clamp(start)).max(0).saturating_add(step - 1) / step)
            }
            // A window of known length from one end; whether the axis is that long is known only when it
            // runs. Larger numbers stand for the end itself: TensorFlow's converter writes 2^31 - 1,
            // PyTorch's 2^63 - 1.
            _ if start >= 0 && end >= start && end - start <= LONGEST_WINDOW && step == 1 => {
                Axis::Fixed(end - start)
            }
            _ => Axis::Unknown,
        };
    }
    out
}

pub(super) fn matmul(a: &[Axis], b: &[Axis]) -> Shape {
    match (a, b) {
        ([], _) | (_, []) => None,
        ([_], [_]) => Some(Vec::new()),
        ([batch @ .., rows, _], [_]) => Some([batch, std::slice::from_ref(rows)].concat()),
        ([_], [batch @ .., _, columns]) => Some([batch, std::slice::from_ref(columns)].concat()),
        ([batch_a @ .., rows, _], [batch_b @ .., _, columns]) => {
            let mut shape = broadcast(Some(batch_a.to_vec()), Some(batch_b.to_vec()))?;
            shape.extend([rows.clone(), columns.clone()]);
            Some(shape)
        }
    }
}

pub(super) fn directions(node: &NodeProto) -> Axis {
    Axis::Fixed(if node.attribute("direction").is_some_and(|a| a.s == b"bidirectional") { 2 } else { 1 })
}

pub(super) fn hidden(node: &NodeProto) -> Axis {
    node.attribute("hidden_size").map_or(Axis::Unknown, |a| Axis::Fixed(a.i()))
}

pub(super) fn recurrent(node: &NodeProto, x: Shape) -> Shape {
    let x = x?;
    Some(vec![at(&x, 0), directions(node), at(&x, 1), hidden(node)])
}

pub(super) fn state(node: &NodeProto, x: Shape) -> Shape {
    Some(vec![directions(node), at(&x?, 1), hidden(node)])
}

pub(super) fn reduce(shape: &[Axis], axes: Option<Vec<i64>>, keep: bool) -> Vec<Axis> {
    let gone: Vec<usize> = match axes.as_deref() {
        None | Some([]) => (0..shape.len()).collect(),
        Some(axes) => axes.iter().map(|&a| wrap(a, shape.len())).collect(),
    };
    let axis = |(i, a): (usize, &Axis)| match (gone.contains(&i), keep) {
        (true, true) => Some(Axis::Fixed(1)),
        (true, false) => None,
        (false, _) => Some(a.clone()),
    };
    shape.iter().enumerate().filter_map(axis).collect()
}
