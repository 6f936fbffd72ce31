//! Decodes a file of texts with several engines in turns: texts a second, and whether all say the same. An
//! engine is `auto`, `tract` or `ort`, or `ort@cuda` on a device.
//!
//! ```sh
//! cargo run --release --workspace --example throughput -- exported/dates texts.txt --batch 64 --rounds 5 tract ort
//! ```

use std::time::Instant;

use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::{Device, EngineKind};
use s2s_runtime::translator::Translator;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let (mut positional, mut batch, mut rounds, mut beams) = (Vec::new(), 64, 5, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let number = match argument.as_str() {
            "--batch" => &mut batch,
            "--rounds" => &mut rounds,
            "--beams" => &mut beams,
            _ => {
                positional.push(argument);
                continue;
            }
        };
        *number = arguments.next().ok_or("a number is missing")?.parse()?;
    }
    let [bundle, texts, engines @ ..] = positional.as_slice() else {
        return Err("usage: throughput BUNDLE TEXTS [--batch N] [--rounds N] [--beams N] ENGINE...".into());
    };
    let texts = std::fs::read_to_string(texts)?;
    let texts: Vec<&str> = texts.lines().collect();
    let options = DecodingOptions { num_beams: Some(beams), ..DecodingOptions::default() };
    let mut contestants = Vec::new();
    for engine in engines {
        let begin = Instant::now();
        let (kind, device) = engine.split_once('@').unwrap_or((engine, Device::Cpu.as_str()));
        let (kind, device) = (kind.parse::<EngineKind>()?, device.parse()?);
        let translator = Translator::open_on(bundle, kind, device)?.with_max_batch(batch);
        eprintln!("{engine}: opened in {:.1} ms", 1e3 * begin.elapsed().as_secs_f64());
        contestants.push((engine, translator, Vec::new()));
    }
    let mut expected: Option<Vec<String>> = None;
    for round in 0..=rounds {
        for (engine, translator, seconds) in &mut contestants {
            let begin = Instant::now();
            let said: Vec<String> = if batch == 1 {
                let each = texts.iter().map(|text| translator.translate(&[text], &options));
                each.map(|one| one.map(|one| one[0].text.clone())).collect::<Result<_, _>>()?
            } else {
                translator.translate(&texts, &options)?.iter().map(|one| one.text.clone()).collect()
            };
            // The first round warms up.
            if round > 0 {
                seconds.push(begin.elapsed().as_secs_f64());
            }
            let expected = expected.get_or_insert_with(|| said.clone());
            let differ = expected.iter().zip(&said).filter(|(a, b)| a != b).count();
            if differ > 0 {
                eprintln!("{engine}: {differ} texts differ from the first engine's");
            }
        }
    }
    for (engine, _, mut seconds) in contestants {
        seconds.sort_by(f64::total_cmp);
        let rate = |seconds: f64| texts.len() as f64 / seconds;
        let median = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
        println!("{engine}: {:.0} texts/s (fastest {:.0})", rate(median), rate(seconds[0]));
    }
    Ok(())
}
