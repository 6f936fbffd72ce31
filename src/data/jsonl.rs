//! An object of JSON a line, as data sets of Hugging Face come.

use serde_json::{Map, Value};

use super::reading::{Reading, expected};
use super::separated::Lines;
use crate::error::Result;

/// Pairs out of objects; `names` are the keys of source and target.
pub(super) fn lines(reading: &mut Reading<'_>, names: Option<&[String; 2]>) -> Result<()> {
    let mut lines = Lines::new(reading.bytes);
    while let Some((at, line)) = lines.read(reading)? {
        if line.bytes.trim_ascii().is_empty() {
            continue;
        }
        let text = reading.text(line.number, line.bytes)?;
        let value: Value = serde_json::from_str(text).map_err(|cause| {
            let message = format!("not readable as JSON: {cause}");
            let message = message.replace(" at line 1 column", ", column");
            reading.problem(line.number, message, expected(reading.format))
        })?;
        let Value::Object(object) = &value else {
            let help = expected(reading.format);
            return Err(reading.problem(line.number, "this is no object of JSON", help));
        };
        let (source, target) = pair(reading, line.number, object, names)?;
        reading.pair(line.number, source, target)?;
        reading.at(at);
    }
    Ok(())
}

fn pair<'a>(
    reading: &Reading<'_>,
    line: u64,
    object: &'a Map<String, Value>,
    names: Option<&[String; 2]>,
) -> Result<(&'a str, &'a str)> {
    let plain = ["source", "target"].map(str::to_owned);
    // Without names, whatever two texts there are, the first of them first.
    if names.is_none() && find(object, &plain[0]).is_none() && find(object, &plain[1]).is_none() {
        let inner = if object.len() == 1 { object.values().next().and_then(Value::as_object) } else { None };
        let texts: Vec<&str> = inner.unwrap_or(object).values().filter_map(Value::as_str).collect();
        if let [source, target] = texts[..] {
            return Ok((source, target));
        }
    }
    let [source, target] = names.unwrap_or(&plain);
    let text = |name: &str| {
        let keys = || object.keys().take(8).map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        match find(object, name) {
            Some(Value::String(text)) => Ok(text.as_str()),
            // What is not known has nothing in it.
            Some(Value::Null) => Ok(""),
            Some(_) => {
                Err(reading.problem(line, format!("`{name}` is not a text"), expected(reading.format)))
            }
            None => {
                let help = format!(
                    "the keys here are {}; `columns: {{source: NAME, target: NAME}}` in `data` chooses two",
                    keys()
                );
                Err(reading.problem(line, format!("the object has no `{name}`"), help))
            }
        }
    };
    Ok((text(source)?, text(target)?))
}

/// The value of a key, of a path such as `translation.en`, or of a key in the object that is all there is.
fn find<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let by_path = || {
        let (first, rest) = name.split_once('.')?;
        find(object.get(first)?.as_object()?, rest)
    };
    let within = || {
        let mut inner = object.values().filter_map(Value::as_object);
        let only = inner.next().filter(|_| inner.next().is_none())?;
        only.get(name)
    };
    object.get(name).or_else(by_path).or_else(within)
}
