//! Translates lines with ONNX Runtime, without s2s: vocabularies and special ids come from the graphs' own
//! metadata.
use {
    ort::{
        session::{Session, SessionInputValue},
        value::{DynValue, Tensor},
    },
    serde_json::{Value, from_str},
    unicode_normalization::UnicodeNormalization as _,
};
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bundle = std::env::args().nth(1).expect("name a bundle");
    if std::path::Path::new(&bundle).join("model.onnx").exists() {
        eprintln!("{bundle} is a classifier, model.onnx alone: it has no decoding loop");
        std::process::exit(1);
    }
    let library = ort::init_from(std::env::var("ORT_DYLIB_PATH")?)?.build()?;
    let load = |file| {
        Session::builder(&library)?
            .with_config_entry("session.disable_quant_qdq", "1")?
            .commit_from_file(format!("{bundle}/{file}"))
    };
    let (mut encoder, mut decoder) = (load("encoder.onnx")?, load("decoder.onnx")?);
    let [source, target, special] = ["s2s.source_vocabulary", "s2s.target_vocabulary", "s2s.special_ids"]
        .map(|key| {
            from_str::<Value>(&decoder.metadata().ok().and_then(|m| m.custom(key)).expect("an export of s2s"))
                .expect("JSON")
        });
    let [pad, start, end, unk] =
        ["pad", "start", "end", "unk"].map(|name| special[name].as_u64().expect("an id") as usize);
    let strings = |list: &Value| {
        list.as_array()
            .into_iter()
            .flatten()
            .filter_map(|s| s.as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let (known, written, steps) =
        (strings(&source["symbols"]), strings(&target["symbols"]), strings(&source["normalisation"]));
    let longest = std::fs::read_to_string(format!("{bundle}/s2s.yaml"))?
        .lines()
        .find_map(|line| line.strip_prefix("  max_new_tokens: ")?.parse().ok())
        .unwrap_or(256);
    let ids = |row: &[usize]| {
        Tensor::from_array(([1, row.len()], row.iter().map(|&id| id as i64).collect::<Vec<_>>()))
            .map(Tensor::into_dyn)
    };
    for line in std::io::stdin().lines() {
        let text = steps.iter().fold(line?, |text, step| match step.as_str() {
            "nfc" => text.nfc().collect(),
            "nfd" => text.nfd().collect(),
            "nfkc" => text.nfkc().collect(),
            "nfkd" => text.nfkd().collect(),
            "lowercase" => text.to_lowercase(),
            "trim" => text.trim().to_owned(),
            _ => text.chars().fold(String::new(), |t, c| {
                if c.is_whitespace() { t.trim_end().to_owned() + " " } else { t + &c.to_string() }
            }),
        });
        let units = if source["unit"] == "character" { text.split("") } else { text.split(" ") }
            .filter(|unit| !unit.is_empty());
        let row: Vec<usize> =
            units.map(|unit| known.iter().position(|symbol| symbol == unit).unwrap_or(unk)).collect();
        if row.is_empty() {
            println!();
            continue;
        }
        let (mut state, mut token, mut output): (Vec<DynValue>, _, _) =
            (encoder.run(ort::inputs![ids(&row)?])?.into_iter().map(|(_, v)| v).collect(), start, vec![]);
        while output.len() < longest {
            let fed: Vec<SessionInputValue<'_>> =
                std::iter::once(ids(&[token])?.into()).chain(state.iter().map(Into::into)).collect();
            let mut found: Vec<DynValue> =
                decoder.run(fed.as_slice())?.into_iter().map(|(_, value)| value).collect();
            let scores = found[0].try_extract_tensor::<f32>()?.1;
            token = (0..scores.len())
                .rev()
                .filter(|id| ![pad, start].contains(id))
                .max_by(|&a, &b| scores[a].total_cmp(&scores[b]))
                .unwrap_or(end);
            if token == end {
                break;
            }
            output.push(if token == unk { "\u{fffd}" } else { &written[token] });
            let states = state.len() - if state.len() < found.len() { 0 } else { 2 }; // With attention two more tensors, which stay.
            state.splice(..states, found.drain(1..=states));
        }
        println!("{}", output.join(if target["unit"] == "character" { "" } else { " " }));
    }
    Ok(())
}
