//! A layered drawing of a directed graph: ranks by longest path, order by barycentres, positions by their
//! neighbours (after Sugiyama, Tagawa and Toda, "Methods for Visual Understanding of Hierarchical System
//! Structures", 1981).
//!
//! The work is a number of sweeps over boxes, edges and lanes, and [`MOST_LANES`] bounds the lanes: 5,000
//! boxes take a tenth of a second or two, however they hang together.

use std::collections::HashMap;

/// A box to place: its width and height.
pub type Size = (f64, f64);

/// Where everything is.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Centre of each box.
    pub centres: Vec<(f64, f64)>,
    /// For each edge the points that it passes, from the lower side of one box to the upper side of the
    /// other.
    pub paths: Vec<Vec<(f64, f64)>>,
    /// Width of the drawing.
    pub width: f64,
    /// Height of the drawing.
    pub height: f64,
}

/// Distance between neighbours of a rank.
const GAP_X: f64 = 28.0;
/// Width kept for an edge that passes a rank.
const LANE: f64 = 14.0;

/// Lanes of a drawing: places of edges in the ranks that they pass. Where edges want more, the longest go
/// straight.
pub const MOST_LANES: usize = 40_000;

/// A box or, for an edge that passes several ranks, its place in one of them.
struct Place {
    rank: usize,
    width: f64,
    above: Vec<usize>,
    below: Vec<usize>,
    x: f64,
}

/// Places `boxes`; `edges` are (from, to) with `from` before `to`; `gap` is the height between two ranks.
pub fn place(boxes: &[Size], edges: &[(usize, usize)], gap: f64) -> Layout {
    if boxes.is_empty() {
        return Layout::default();
    }
    let ranks = ranks(boxes.len(), edges);
    let mut places: Vec<Place> = boxes
        .iter()
        .zip(&ranks)
        .map(|(b, &rank)| Place { rank, width: b.0, above: vec![], below: vec![], x: 0.0 })
        .collect();
    let longest = longest_with_lanes(edges, &ranks);
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for &(from, to) in edges {
        let mut chain = vec![from];
        let passed =
            if ranks[to].saturating_sub(ranks[from]) > longest { 0..0 } else { ranks[from] + 1..ranks[to] };
        for rank in passed {
            places.push(Place { rank, width: LANE, above: vec![], below: vec![], x: 0.0 });
            chain.push(places.len() - 1);
        }
        chain.push(to);
        for pair in chain.windows(2) {
            places[pair[0]].below.push(pair[1]);
            places[pair[1]].above.push(pair[0]);
        }
        chains.push(chain);
    }
    let last = ranks.iter().max().copied().unwrap_or(0);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); last + 1];
    (0..places.len()).for_each(|i| rows[places[i].rank].push(i));
    order(&mut rows, &places);
    spread(&rows, &mut places);
    // What comes first in the graph stands left.
    let sources: Vec<usize> = (0..boxes.len()).filter(|&i| places[i].above.is_empty()).collect();
    if let [first, second, ..] = sources[..]
        && places[first].x > places[second].x
    {
        places.iter_mut().for_each(|place| place.x = -place.x);
    }

    let heights: Vec<f64> = rows
        .iter()
        .map(|row| row.iter().filter(|&&i| i < boxes.len()).map(|&i| boxes[i].1).fold(0.0, f64::max))
        .collect();
    let mut tops = vec![0.0];
    heights.iter().for_each(|h| tops.push(tops[tops.len() - 1] + h + gap));
    let middle = |i: usize| tops[places[i].rank] + heights[places[i].rank] / 2.0;
    let left = places.iter().map(|p| p.x - p.width / 2.0).fold(f64::MAX, f64::min);
    let right = places.iter().map(|p| p.x + p.width / 2.0).fold(f64::MIN, f64::max);
    let centres = (0..boxes.len()).map(|i| (places[i].x - left, middle(i))).collect();
    // Edges of one box leave and enter side by side: the place of each neighbour among all, and how many
    // there are.
    let ports = |neighbours: fn(&Place) -> &Vec<usize>| {
        let mut ports: HashMap<(usize, usize), usize> = HashMap::new();
        for (i, place) in places.iter().enumerate().take(boxes.len()) {
            let mut sorted = neighbours(place).clone();
            sorted.sort_by(|&a, &b| places[a].x.total_cmp(&places[b].x));
            for (position, other) in sorted.into_iter().enumerate() {
                ports.entry((i, other)).or_insert(position);
            }
        }
        ports
    };
    let (leaving, entering) = (ports(|place| &place.below), ports(|place| &place.above));
    let port = |i: usize, at: usize, count: usize, ports: &HashMap<(usize, usize), usize>| {
        let position = ports.get(&(i, at)).copied().unwrap_or(0);
        let step = (boxes[i].0 * 0.7 / count as f64).min(40.0);
        places[i].x - left + (position as f64 - (count as f64 - 1.0) / 2.0) * step
    };
    let paths = chains
        .iter()
        .map(|chain| {
            let (from, to) = (chain[0], chain[chain.len() - 1]);
            let mut points = vec![(
                port(from, chain[1], places[from].below.len(), &leaving),
                middle(from) + boxes[from].1 / 2.0,
            )];
            points.extend(chain[1..chain.len() - 1].iter().map(|&i| (places[i].x - left, middle(i))));
            let x = port(to, chain[chain.len() - 2], places[to].above.len(), &entering);
            points.push((x, middle(to) - boxes[to].1 / 2.0));
            points
        })
        .collect();
    Layout { centres, paths, width: right - left, height: tops[last] + heights[last] }
}

/// The most ranks that an edge may span to get lanes, so that all such edges have [`MOST_LANES`] together.
fn longest_with_lanes(edges: &[(usize, usize)], ranks: &[usize]) -> usize {
    let mut spans: Vec<usize> =
        edges.iter().map(|&(from, to)| ranks[to].saturating_sub(ranks[from])).collect();
    spans.sort_unstable();
    let mut lanes = 0usize;
    for span in &spans {
        lanes = lanes.saturating_add(span.saturating_sub(1));
        if lanes > MOST_LANES {
            // Edges of this length all go straight, or the choice among them would be an accident.
            return span - 1;
        }
    }
    usize::MAX
}

/// Longest path from a source; then what has no more inputs than readers moves down beside the first that
/// reads it, so that the long edges are few.
fn ranks(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let (mut readers, mut inputs) = (vec![Vec::new(); count], vec![0usize; count]);
    for &(from, to) in edges {
        readers[from].push(to);
        inputs[to] += 1;
    }
    let mut ranks = vec![0; count];
    let mut waiting = inputs.clone();
    let mut ready: Vec<usize> = (0..count).filter(|&i| inputs[i] == 0).collect();
    let (mut done, mut next) = (vec![false; count], 0);
    loop {
        while let Some(i) = ready.pop() {
            if std::mem::replace(&mut done[i], true) {
                continue;
            }
            for &to in readers[i].iter().filter(|&&to| to != i) {
                if !done[to] {
                    ranks[to] = ranks[to].max(ranks[i] + 1);
                }
                waiting[to] -= 1;
                if waiting[to] == 0 {
                    ready.push(to);
                }
            }
        }
        // Layers that read each other in turn: the first of them breaks the circle.
        match (next..count).find(|&i| !done[i]) {
            Some(i) => {
                next = i;
                ready.push(i);
            }
            None => break,
        }
    }
    for i in (0..count).rev() {
        if let Some(least) = readers[i].iter().map(|&to| ranks[to]).min()
            && inputs[i] <= readers[i].len()
            && least > 0
        {
            ranks[i] = least - 1;
        }
    }
    ranks
}

/// Fewer crossings: each row in the order of the mean position of its neighbours, downwards and upwards in
/// turn.
fn order(rows: &mut [Vec<usize>], places: &[Place]) {
    let mut position = vec![0.0; places.len()];
    let number = |row: &[usize], position: &mut [f64]| {
        row.iter().enumerate().for_each(|(at, &i)| position[i] = (at as f64 + 0.5) / row.len() as f64);
    };
    rows.iter().for_each(|row| number(row, &mut position));
    for sweep in 0..12 {
        let downwards = sweep % 2 == 0;
        let count = rows.len();
        for step in 0..count {
            let row = if downwards { step } else { count - 1 - step };
            let key = |i: usize| {
                let neighbours = if downwards { &places[i].above } else { &places[i].below };
                match neighbours.len() {
                    0 => position[i],
                    n => neighbours.iter().map(|&o| position[o]).sum::<f64>() / n as f64,
                }
            };
            let mut keys: Vec<(f64, usize)> = rows[row].iter().map(|&i| (key(i), i)).collect();
            keys.sort_by(|a, b| a.0.total_cmp(&b.0));
            rows[row] = keys.into_iter().map(|(_, i)| i).collect();
            number(&rows[row], &mut position);
        }
    }
}

/// Positions: as near to the neighbours as the row allows.
fn spread(rows: &[Vec<usize>], places: &mut [Place]) {
    for row in rows {
        let mut x = 0.0;
        for &i in row {
            places[i].x = x + places[i].width / 2.0;
            x += places[i].width + GAP_X;
        }
        let half = x / 2.0;
        row.iter().for_each(|&i| places[i].x -= half);
    }
    for sweep in 0..40 {
        let rows: Vec<&Vec<usize>> =
            if sweep % 2 == 0 { rows.iter().collect() } else { rows.iter().rev().collect() };
        for row in rows {
            let wanted: Vec<f64> = row
                .iter()
                .map(|&i| {
                    let p = &places[i];
                    let (above, below): (&[usize], &[usize]) = match sweep {
                        37.. => (&p.above, &p.below),
                        _ if sweep % 2 == 0 => (&p.above, &[]),
                        _ => (&p.below, &[]),
                    };
                    match above.len() + below.len() {
                        0 => p.x,
                        n => above.iter().chain(below).map(|&o| places[o].x).sum::<f64>() / n as f64,
                    }
                })
                .collect();
            settle(row, &wanted, places);
        }
    }
    // A chain stands upright, over what it ends in.
    for row in rows.iter().rev() {
        let straight = |i: usize| match places[i].below[..] {
            [below] if places[below].above.len() == 1 => places[below].x,
            _ => places[i].x,
        };
        let wanted: Vec<f64> = row.iter().map(|&i| straight(i)).collect();
        settle(row, &wanted, places);
    }
}

/// Moves a row's boxes to where they want to be, in their order and without overlap: blocks that touch move
/// together.
fn settle(row: &[usize], wanted: &[f64], places: &mut [Place]) {
    // Each block: its members, and the mean of what they want its first one to have.
    struct Block {
        first: usize,
        count: usize,
        sum: f64,
    }
    // Where each would stand if all of the row touched: within a block they do.
    let mut touching = vec![0.0; row.len()];
    for at in 1..row.len() {
        touching[at] = touching[at - 1] + (places[row[at - 1]].width + places[row[at]].width) / 2.0 + GAP_X;
    }
    let mut blocks: Vec<Block> = Vec::new();
    for (at, &sum) in wanted.iter().enumerate() {
        let mut block = Block { first: at, count: 1, sum };
        while let Some(previous) = blocks.last() {
            let shift = touching[block.first] - touching[previous.first];
            if previous.sum / previous.count as f64 + shift <= block.sum / block.count as f64 {
                break;
            }
            let (count, sum) =
                (previous.count + block.count, previous.sum + block.sum - shift * block.count as f64);
            block = Block { first: previous.first, count, sum };
            blocks.pop();
        }
        blocks.push(block);
    }
    for block in blocks {
        let start = block.sum / block.count as f64;
        for at in block.first..block.first + block.count {
            places[row[at]].x = start + touching[at] - touching[block.first];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_do_not_overlap_and_edges_run_downwards() {
        let boxes: Vec<Size> = (0..12).map(|i| (60.0 + 10.0 * f64::from(i % 4), 30.0)).collect();
        let edges = [
            (0, 1),
            (0, 2),
            (1, 3),
            (2, 3),
            (0, 3),
            (4, 3),
            (3, 5),
            (3, 6),
            (5, 7),
            (6, 7),
            (0, 7),
            (7, 8),
            (7, 9),
            (8, 10),
            (9, 10),
            (4, 11),
        ];
        let layout = place(&boxes, &edges, 20.0);
        for (a, (&(ax, ay), (aw, ah))) in layout.centres.iter().zip(&boxes).enumerate() {
            for (&(bx, by), (bw, bh)) in layout.centres[a + 1..].iter().zip(&boxes[a + 1..]) {
                assert!(
                    (ax - bx).abs() >= (aw + bw) / 2.0 || (ay - by).abs() >= (ah + bh) / 2.0,
                    "boxes at {ax},{ay} and {bx},{by}"
                );
            }
            assert!(ax - aw / 2.0 >= -1e-9 && ax + aw / 2.0 <= layout.width + 1e-9);
        }
        for path in &layout.paths {
            assert!(path.windows(2).all(|p| p[0].1 < p[1].1), "{path:?}");
        }
    }
}
