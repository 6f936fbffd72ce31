//! What `torch.save` writes: a pickle, and the memory of the tensors beside it.
//!
//! | format | pickle | memory of storage K |
//! |---|---|---|
//! | zip (PyTorch 1.6 and later, TorchScript) | `NAME/data.pkl` | `NAME/data/K` |
//! | before | the fourth of five pickles | behind the fifth, which lists the keys: elements in 8 bytes, then they |

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::pickle::{self, Pickle, Ref, Value};
use super::tensor::{Dtype, Place};
use crate::error::{Error, ErrorKind, Result};

/// What the format before the zip begins with: protocol 2, and 0x1950a86a20f9469cfc6c as a number.
pub(super) const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Levels of dictionaries and modules that are looked into.
const DEEPEST: usize = 16;
/// Values that are looked at: a value may be found in several places.
const MOST_STEPS: usize = 8 << 20;
/// Characters of a tensor's name, and tensors and dictionaries that are named.
const LONGEST_NAME: usize = 250;
const MOST_NAMED: usize = 200_000;

/// What a module keeps its tensors and its parts under.
const PARTS: [&str; 3] = ["_parameters", "_buffers", "_modules"];

/// Tensors by their dotted names, each with the key of its storage.
pub(super) type Tensors = BTreeMap<String, Place<String>>;

/// Lists the tensors of a pickle: those of dictionaries and lists by their keys, those of modules by the names
/// that `state_dict()` gives them.
///
/// # Errors
/// [`ErrorKind::Data`] for more than a model has.
pub(super) fn tensors(pickle: &Pickle) -> Result<Tensors> {
    let too_much = |what: &str| Error::new(ErrorKind::Data, format!("its pickle has {what}"));
    let mut found = Tensors::new();
    let mut waiting = vec![(pickle.root(), String::new(), 0)];
    let mut steps = 0;
    let mut named = 0;
    while let Some((at, name, depth)) = waiting.pop() {
        named += 1;
        if named + waiting.len() >= MOST_NAMED {
            return Err(too_much(&format!("more than {MOST_NAMED} tensors and dictionaries")));
        }
        if let Value::Tensor(view) = pickle.get(at) {
            let (at, dtype) = storage(pickle, view.storage).unwrap_or_else(|| {
                (String::new(), Err("what this version of the program does not know".to_owned()))
            });
            let strides = Some(view.strides.clone());
            found.insert(name, Place { at, dtype, offset: view.offset, shape: view.shape.clone(), strides });
            continue;
        }
        let (entries, list) = (pickle.entries(at).unwrap_or_default(), pickle.list(at).unwrap_or_default());
        steps += entries.len() + list.len();
        if steps > MOST_STEPS {
            return Err(too_much(&format!("more than {MOST_STEPS} values in its dictionaries")));
        }
        let is_inner = |at: Ref| {
            depth < DEEPEST
                && matches!(
                    pickle.get(at),
                    Value::Tensor(_) | Value::Dictionary(_) | Value::List(_) | Value::Object(_, Some(_))
                )
        };
        // What torch.nn.Module keeps its parts in; names of a state_dict leave it out.
        let is_part = |key: Ref| pickle.text(key).is_some_and(|key| PARTS.contains(&key));
        let is_module =
            matches!(pickle.get(at), Value::Object(..)) && entries.iter().any(|&(key, _)| is_part(key));
        for &(key, value) in entries.iter().filter(|(_, value)| is_inner(*value)).take(MOST_NAMED) {
            if is_module && !is_part(key) {
                continue;
            }
            let number = pickle.integer(key).map(|key| key.to_string());
            let Some(key) = pickle.text(key).or(number.as_deref()) else { continue };
            let name = if is_module { name.clone() } else { joined(&name, key) };
            if name.len() <= LONGEST_NAME {
                waiting.push((value, name, depth + 1));
            }
        }
        for (index, &value) in list.iter().enumerate().filter(|(_, value)| is_inner(**value)).take(MOST_NAMED)
        {
            waiting.push((value, joined(&name, &index.to_string()), depth + 1));
        }
    }
    Ok(found)
}

fn joined(name: &str, key: &str) -> String {
    if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") }
}

/// The key of a storage, and the numbers in it; `None` if it is not one. Its persistent id is
/// ('storage', class, key, device, elements, ...).
fn storage(pickle: &Pickle, id: Ref) -> Option<(String, Result<Dtype, String>)> {
    let [_, class, key, ..] = *pickle.list(id)? else { return None };
    let key = pickle.text(key).map(str::to_owned).or_else(|| Some(pickle.integer(key)?.to_string()))?;
    let class = pickle.class(class)?;
    let dtype = match class.as_str() {
        "torch.DoubleStorage" => Ok(Dtype::F64),
        "torch.FloatStorage" => Ok(Dtype::F32),
        "torch.HalfStorage" => Ok(Dtype::F16),
        "torch.BFloat16Storage" => Ok(Dtype::Bf16),
        _ => Err(class),
    };
    Some((key, dtype))
}

/// The value behind a dotted path of keys and indices.
pub(super) fn find(pickle: &Pickle, path: &str) -> Option<Ref> {
    path.split('.').filter(|key| !key.is_empty()).try_fold(pickle.root(), |at, key| {
        let number = key.parse::<usize>().ok();
        match pickle.list(at) {
            Some(items) => items.get(number?).copied(),
            None => {
                let is_key = |&&(found, _): &&(Ref, Ref)| {
                    pickle.text(found) == Some(key)
                        || number.is_some_and(|n| pickle.integer(found) == i64::try_from(n).ok())
                };
                // The last of equal keys is the one that Python keeps.
                pickle.entries(at)?.iter().rev().find(is_key).map(|(_, value)| *value)
            }
        }
    })
}

/// Reads the format before the zip: its tensors' pickle, and where the memory of each storage lies.
///
/// # Errors
/// [`ErrorKind::Data`] for a file that is cut off, or pickles of another kind.
pub(super) fn legacy(bytes: &[u8]) -> Result<(Pickle, HashMap<String, Range<usize>>)> {
    let cut_off = || Error::new(ErrorKind::Data, "the file is cut off").help("save the weights again");
    let mut at = LEGACY_MAGIC.len();
    // The number of the protocol, and what the machine was like.
    for _ in 0..2 {
        pickle::read(bytes, &mut at)?;
    }
    let model = pickle::read(bytes, &mut at)?;
    let keys = pickle::read(bytes, &mut at)?;
    // How wide its elements are is said by each tensor that uses a storage.
    let mut widths: HashMap<String, usize> = HashMap::new();
    for place in tensors(&model)?.into_values() {
        widths.insert(place.at, place.dtype.map_or(0, Dtype::width));
    }
    let mut places = HashMap::new();
    for &key in keys.list(keys.root()).unwrap_or_default() {
        let key = keys.text(key).ok_or_else(cut_off)?;
        let count = bytes.get(at..at + 8).and_then(|count| <[u8; 8]>::try_from(count).ok());
        let count = count.and_then(|count| usize::try_from(u64::from_le_bytes(count)).ok());
        let Some(&width) = widths.get(key).filter(|&&width| width > 0) else {
            let message = format!("storage {key} is of a type that no weights have, or of no tensor");
            return Err(Error::new(ErrorKind::Data, message).help(
                "what lies behind it in this older format cannot be found: load it in PyTorch and save the \
                 state_dict() alone",
            ));
        };
        let end = count.and_then(|count| count.checked_mul(width)?.checked_add(at + 8));
        let end = end.filter(|&end| end <= bytes.len()).ok_or_else(cut_off)?;
        places.insert(key.to_owned(), at + 8..end);
        at = end;
    }
    Ok((model, places))
}
