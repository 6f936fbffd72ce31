//! Measures products with constant weights on one thread: the bytes of weights that are read a second beside
//! what plain reading of as much memory reaches, and the operations a second.
//!
//! `cargo run --release -p s2s-kernels --example products [KxN ...]`

use std::hint::black_box;
use std::time::{Duration, Instant};

use s2s_kernels::{Level, MatMut, MatRef, Scratch, Store, Weights, matmul_weights};

/// Rows of each product.
const ROWS: [usize; 6] = [1, 2, 4, 8, 16, 64];
/// Inner size and columns of a decoder of 128, of 256, of 512, and of the logits of a large vocabulary.
const SHAPES: [(usize, usize); 4] = [(128, 512), (256, 1024), (512, 2048), (512, 58_101)];

/// The seconds of the fastest call.
fn fastest(mut call: impl FnMut()) -> f64 {
    let until = Instant::now() + Duration::from_millis(150);
    let mut best = f64::INFINITY;
    while Instant::now() < until {
        let begin = Instant::now();
        call();
        best = best.min(begin.elapsed().as_secs_f64());
    }
    best
}

fn reading(elements: usize) -> f64 {
    const LANES: usize = 64;
    let data = vec![1.0f32; elements];
    fastest(|| {
        let mut sums = [0.0f32; LANES];
        for chunk in black_box(&data).chunks_exact(LANES) {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *sum += x;
            }
        }
        black_box(sums);
    })
}

fn measure(k: usize, n: usize) {
    let number = |i: usize| ((i * 2_654_435_761) % 1_000_003) as f32 / 1_000_003.0 - 0.5;
    let b: Vec<f32> = (0..k * n).map(number).collect();
    let on_a_grid: Vec<f32> = b.iter().map(|x| (x * 254.0).round()).collect();
    let kinds =
        [("f32", &b), ("int8", &on_a_grid)].map(|(kind, b)| (kind, Weights::of(MatRef::new(b, k, n))));
    let reading = (4 * k * n) as f64 / reading(k * n) / 1e9;
    println!("{k} x {n}: reading {reading:.1} GB/s");
    let mut scratch = Scratch::default();
    for rows in ROWS {
        print!("  {rows:3} rows");
        let a: Vec<f32> = (0..rows * k).map(number).collect();
        let mut c = vec![0.0; rows * n];
        for (kind, weights) in &kinds {
            let seconds = fastest(|| {
                let to = MatMut::new(&mut c, rows, n, n);
                let a = MatRef::new(black_box(&a), rows, k);
                matmul_weights(to, Store::Overwrite, a, weights, &mut scratch);
            });
            print!(
                "  {kind} {:9.2} us {:6.1} GB/s {:6.1} GFLOP/s",
                seconds * 1e6,
                weights.bytes() as f64 / seconds / 1e9,
                (2 * rows * k * n) as f64 / seconds / 1e9
            );
        }
        println!();
    }
}

fn main() {
    println!("{}", Level::detect().name());
    let asked: Vec<(usize, usize)> = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.split_once('x').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?))))
        .collect();
    let shapes = if asked.is_empty() { SHAPES.to_vec() } else { asked };
    shapes.into_iter().for_each(|(k, n)| measure(k, n));
}
