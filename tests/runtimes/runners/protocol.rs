//! The protocol that `serve.py` describes, for runners in Rust.

use std::collections::HashMap;
use std::io::{BufRead, Write};

use serde_json::{Value, json};

/// Values of an input.
#[derive(Debug)]
pub(crate) enum Values {
    /// Ids.
    Ints(Vec<i64>),
    /// Lengths of texts, as recurrent operators want them.
    Int32s(Vec<i32>),
    /// All else.
    Floats(Vec<f32>),
}

/// Shape and values of an input.
pub(crate) type Input = (Vec<usize>, Values);
/// Shape and values of an output.
pub(crate) type Output = (Vec<usize>, Vec<f32>);
/// A loaded graph: inputs in the order of the request to outputs in its order.
pub(crate) type Run = Box<dyn FnMut(Vec<Input>) -> Result<Vec<Output>, String>>;

/// Answers requests until stdin ends.
///
/// - `load`: bytes, path, names of inputs and outputs.
pub(crate) fn serve(
    version: &str,
    load: impl Fn(&[u8], &str, &[String], &[String]) -> Result<Run, String>,
) -> std::io::Result<()> {
    say(&json!({ "version": version }))?;
    let mut graphs: HashMap<String, (Vec<String>, Run)> = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let answered = serde_json::from_str(&line?)
            .map_err(|e| e.to_string())
            .and_then(|request| answer(&request, &load, &mut graphs));
        say(&answered
            .unwrap_or_else(|error| json!({ "error": error.lines().next().unwrap_or_default().chars().take(600).collect::<String>() })))?;
    }
    Ok(())
}

/// Says why the runtime is not here.
pub(crate) fn missing(why: &str) -> std::io::Result<()> {
    say(&json!({ "missing": why }))
}

fn say(value: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

fn answer(
    request: &Value,
    load: impl Fn(&[u8], &str, &[String], &[String]) -> Result<Run, String>,
    graphs: &mut HashMap<String, (Vec<String>, Run)>,
) -> Result<Value, String> {
    let names = |key: &str| -> Vec<String> {
        request[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if let Some(name) = request["load"].as_str() {
        let path = request["path"].as_str().unwrap_or_default();
        let bytes = std::fs::read(path).map_err(|e| format!("{path}: {e}"))?;
        let inputs = names("inputs");
        let run = load(&bytes, path, &inputs, &names("outputs"))?;
        graphs.insert(name.to_owned(), (inputs, run));
        return Ok(json!({}));
    }
    let (inputs, run) = graphs.get_mut(request["run"].as_str().unwrap_or_default()).ok_or("no such graph")?;
    let feed = inputs.iter().map(|name| input(&request["feed"][name.as_str()])).collect::<Result<_, _>>()?;
    let outputs: Vec<Value> = run(feed)?
        .into_iter()
        .map(|(shape, data)| {
            let hex: String =
                data.iter().flat_map(|x| x.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect();
            json!({ "shape": shape, "hex": hex })
        })
        .collect();
    Ok(json!({ "outputs": outputs }))
}

fn input(value: &Value) -> Result<Input, String> {
    let shape =
        value["shape"].as_array().into_iter().flatten().map(|n| n.as_u64().unwrap_or(0) as usize).collect();
    let hex = value["hex"].as_str().ok_or("an input without values")?;
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).map_err(|e| e.to_string()))
        .collect::<Result<_, _>>()?;
    Ok((
        shape,
        match value["type"].as_str() {
            Some("int64") => {
                Values::Ints(bytes.as_chunks().0.iter().map(|chunk| i64::from_le_bytes(*chunk)).collect())
            }
            Some("int32") => {
                Values::Int32s(bytes.as_chunks().0.iter().map(|chunk| i32::from_le_bytes(*chunk)).collect())
            }
            _ => Values::Floats(bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()),
        },
    ))
}
