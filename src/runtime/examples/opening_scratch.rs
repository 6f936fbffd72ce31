//! Scratch.
use s2s_runtime::bundle::Bundle;
use s2s_runtime::engine;
use std::time::Instant;
fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap();
    let kind: engine::EngineKind = args.next().unwrap().parse().unwrap();
    let rounds: usize = args.next().map_or(1, |n| n.parse().unwrap());
    for _ in 0..rounds {
        let t = Instant::now();
        let b = Bundle::open(&path).unwrap();
        let opened = t.elapsed();
        let e = engine::open(&b, kind).unwrap();
        let all = t.elapsed();
        println!(
            "bundle {:.2} ms, engine {:.2} ms",
            opened.as_secs_f64() * 1e3,
            (all - opened).as_secs_f64() * 1e3
        );
        let rss = std::fs::read_to_string("/proc/self/status").unwrap();
        if rounds == 1 {
            for l in rss.lines().filter(|l| l.starts_with("VmHWM") || l.starts_with("VmRSS")) {
                println!("{l}");
            }
        }
        drop(e);
    }
}
