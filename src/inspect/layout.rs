//! A layered drawing of a directed graph: ranks by longest path, order by barycentres, positions by their neighbours
//! (after Sugiyama, Tagawa and Toda, "Methods for Visual Understanding of Hierarchical System Structures", 1981).

/// A box to place: its width and height.
pub type Size = (f64, f64);

/// Where everything is.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Centre of each box.
    pub centres: Vec<(f64, f64)>,
    /// For each edge the points that it passes, from the lower side of one box to the upper side of the other.
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
    let mut places: Vec<Place> =
        boxes.iter().zip(&ranks).map(|(b, &rank)| Place { rank, width: b.0, above: vec![], below: vec![], x: 0.0 }).collect();
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for &(from, to) in edges {
        let mut chain = vec![from];
        for rank in ranks[from] + 1..ranks[to] {
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

    let heights: Vec<f64> =
        rows.iter().map(|row| row.iter().filter(|&&i| i < boxes.len()).map(|&i| boxes[i].1).fold(0.0, f64::max)).collect();
    let mut tops = vec![0.0];
    heights.iter().for_each(|h| tops.push(tops[tops.len() - 1] + h + gap));
    let middle = |i: usize| tops[places[i].rank] + heights[places[i].rank] / 2.0;
    let left = places.iter().map(|p| p.x - p.width / 2.0).fold(f64::MAX, f64::min);
    let right = places.iter().map(|p| p.x + p.width / 2.0).fold(f64::MIN, f64::max);
    let centres = (0..boxes.len()).map(|i| (places[i].x - left, middle(i))).collect();
    let paths = chains
        .iter()
        .map(|chain| {
            let (from, to) = (chain[0], chain[chain.len() - 1]);
            // Edges of one box leave and enter side by side.
            let port = |i: usize, at: usize, others: &[usize]| {
                let mut sorted: Vec<usize> = others.to_vec();
                sorted.sort_by(|&a, &b| places[a].x.total_cmp(&places[b].x));
                let position = sorted.iter().position(|&o| o == at).unwrap_or(0);
                let step = (boxes[i].0 * 0.7 / sorted.len() as f64).min(40.0);
                places[i].x - left + (position as f64 - (sorted.len() as f64 - 1.0) / 2.0) * step
            };
            let mut points = vec![(port(from, chain[1], &places[from].below), middle(from) + boxes[from].1 / 2.0)];
            points.extend(chain[1..chain.len() - 1].iter().map(|&i| (places[i].x - left, middle(i))));
            points.push((port(to, chain[chain.len() - 2], &places[to].above), middle(to) - boxes[to].1 / 2.0));
            points
        })
        .collect();
    Layout { centres, paths, width: right - left, height: tops[last] + heights[last] }
}

/// Longest path from a source; then what has no more inputs than readers moves down beside the first that reads it, so
/// that the long edges are few.
fn ranks(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut ranks = vec![0; count];
    let mut sorted = edges.to_vec();
    sorted.sort_unstable();
    for _ in 0..count {
        let mut changed = false;
        for &(from, to) in &sorted {
            if ranks[to] <= ranks[from] {
                ranks[to] = ranks[from] + 1;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    for i in (0..count).rev() {
        let inputs = edges.iter().filter(|e| e.1 == i).count();
        let readers = edges.iter().filter(|e| e.0 == i);
        if let Some(least) = readers.clone().map(|e| ranks[e.1]).min()
            && inputs <= readers.count()
        {
            ranks[i] = least - 1;
        }
    }
    ranks
}

/// Fewer crossings: each row in the order of the mean position of its neighbours, downwards and upwards in turn.
fn order(rows: &mut [Vec<usize>], places: &[Place]) {
    for sweep in 0..12 {
        let mut position = vec![0.0; places.len()];
        let number = |rows: &[Vec<usize>], position: &mut Vec<f64>| {
            for row in rows {
                row.iter().enumerate().for_each(|(at, &i)| position[i] = (at as f64 + 0.5) / row.len() as f64);
            }
        };
        let downwards = sweep % 2 == 0;
        let count = rows.len();
        for step in 0..count {
            number(rows, &mut position);
            let row = if downwards { step } else { count - 1 - step };
            let key = |i: usize| {
                let neighbours = if downwards { &places[i].above } else { &places[i].below };
                match neighbours.len() {
                    0 => position[i],
                    n => neighbours.iter().map(|&o| position[o]).sum::<f64>() / n as f64,
                }
            };
            let keys: Vec<(f64, usize)> = rows[row].iter().map(|&i| (key(i), i)).collect();
            let mut sorted = keys;
            sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
            rows[row] = sorted.into_iter().map(|(_, i)| i).collect();
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
        let rows: Vec<&Vec<usize>> = if sweep % 2 == 0 { rows.iter().collect() } else { rows.iter().rev().collect() };
        for row in rows {
            let wanted: Vec<f64> = row
                .iter()
                .map(|&i| {
                    let p = &places[i];
                    let near: Vec<usize> = if sweep > 36 {
                        [&p.above[..], &p.below].concat()
                    } else if sweep % 2 == 0 {
                        p.above.clone()
                    } else {
                        p.below.clone()
                    };
                    match near.len() {
                        0 => p.x,
                        n => near.iter().map(|&o| places[o].x).sum::<f64>() / n as f64,
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

/// Moves a row's boxes to where they want to be, in their order and without overlap: blocks that touch move together.
fn settle(row: &[usize], wanted: &[f64], places: &mut [Place]) {
    // Each block: its members' offsets from the first, and the mean of what they want.
    struct Block {
        first: usize,
        count: usize,
        sum: f64,
        width: f64,
    }
    let distance = |a: usize, b: usize, places: &[Place]| (places[a].width + places[b].width) / 2.0 + GAP_X;
    let mut offsets = vec![0.0; row.len()];
    let mut blocks: Vec<Block> = Vec::new();
    for at in 0..row.len() {
        let mut block = Block { first: at, count: 1, sum: wanted[at], width: 0.0 };
        offsets[at] = 0.0;
        while let Some(previous) = blocks.last() {
            let end = previous.sum / previous.count as f64 + previous.width;
            let gap = distance(row[block.first - 1], row[block.first], places);
            if end + gap <= block.sum / block.count as f64 {
                break;
            }
            let shift = previous.width + gap;
            for offset in &mut offsets[block.first..block.first + block.count] {
                *offset += shift;
            }
            block = Block {
                first: previous.first,
                count: previous.count + block.count,
                sum: previous.sum + block.sum - shift * block.count as f64,
                width: shift + block.width,
            };
            blocks.pop();
        }
        blocks.push(block);
    }
    for block in blocks {
        let start = block.sum / block.count as f64;
        for at in block.first..block.first + block.count {
            places[row[at]].x = start + offsets[at];
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
                assert!((ax - bx).abs() >= (aw + bw) / 2.0 || (ay - by).abs() >= (ah + bh) / 2.0, "boxes at {ax},{ay} and {bx},{by}");
            }
            assert!(ax - aw / 2.0 >= -1e-9 && ax + aw / 2.0 <= layout.width + 1e-9);
        }
        for path in &layout.paths {
            assert!(path.windows(2).all(|p| p[0].1 < p[1].1), "{path:?}");
        }
    }
}
