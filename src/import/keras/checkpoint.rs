//! TensorFlow's checkpoints, and the folders (SavedModel) in which Keras 2 keeps one: the parts that weights
//! need.
//!
//! | file | what |
//! |---|---|
//! | `keras_metadata.pb` | `SavedMetadata`: the config of the model as JSON, at the node `root` |
//! | `variables/variables.index`, `NAME.index` | a table of LevelDB's form: key to `BundleEntryProto` |
//! | `....data-00000-of-00001` | the tensors' bytes, little-endian, where the entries say |
//!
//! The key `_CHECKPOINTABLE_OBJECT_GRAPH` holds a `TrackableObjectGraph`, which has the full name of each
//! variable (`lstm/lstm_cell/kernel`) beside its key. The messages are those of tensorflow/core/protobuf.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use prost::Message;
use s2s_runtime::bundle::sha256;
use s2s_runtime::files;
use serde_json::Value;

use super::hdf5::Array;
use super::saved::Arrays;
use crate::error::{Error, ErrorKind, Result};

/// What ends a table.
const MAGIC: [u8; 8] = 0xdb47_7524_8b80_fb57_u64.to_le_bytes();
/// The two handles, padded, and the magic number.
const FOOTER: usize = 48;
/// Bytes that a table's keys and values may take: keys are told by what they share, and may be long.
const MOST_BYTES: usize = 64 << 20;
/// Files that the data may be spread over.
const MOST_SHARDS: i32 = 100;
const OBJECT_GRAPH: &str = "_CHECKPOINTABLE_OBJECT_GRAPH";

#[derive(Message)]
struct SavedMetadata {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<SavedObject>,
}

#[derive(Message)]
struct SavedObject {
    #[prost(string, tag = "3")]
    node_path: String,
    #[prost(string, tag = "5")]
    metadata: String,
}

#[derive(Message)]
struct BundleHeader {
    #[prost(int32, tag = "1")]
    num_shards: i32,
    /// 0 is little.
    #[prost(int32, tag = "2")]
    endianness: i32,
}

#[derive(Message)]
struct BundleEntry {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShape>,
    #[prost(int32, tag = "3")]
    shard_id: i32,
    #[prost(int64, tag = "4")]
    offset: i64,
    #[prost(int64, tag = "5")]
    size: i64,
}

#[derive(Message)]
struct TensorShape {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Dimension>,
}

#[derive(Message)]
struct Dimension {
    #[prost(int64, tag = "1")]
    size: i64,
}

#[derive(Message)]
struct ObjectGraph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Object>,
}

#[derive(Message)]
struct Object {
    #[prost(message, repeated, tag = "2")]
    attributes: Vec<SerializedTensor>,
}

#[derive(Message)]
struct SerializedTensor {
    #[prost(string, tag = "2")]
    full_name: String,
    #[prost(string, tag = "3")]
    checkpoint_key: String,
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Data, format!("a damaged checkpoint: {what}"))
        .help("copy its files again, or save the model again")
}

/// The checkpoint that a path means, without the ending of its files: that of a SavedModel folder, or one of
/// its own, named with or without `.index`.
pub(super) fn prefix(path: &Path) -> Option<PathBuf> {
    let within = path.join("variables").join("variables");
    let bare = if path.extension().is_some_and(|ending| ending == "index") {
        path.with_extension("")
    } else {
        path.to_owned()
    };
    [within, bare].into_iter().find(|prefix| with_ending(prefix, ".index").is_file())
}

fn with_ending(prefix: &Path, ending: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The config of a SavedModel folder, and the version of Keras, which was 2.
pub(super) fn metadata(folder: &Path) -> Result<(Value, String)> {
    let path = folder.join("keras_metadata.pb");
    let help = "give --config FILE with what model.to_json() says; of the model in memory, \
        model.save(\"s2s.keras\") writes a file";
    if !path.is_file() {
        return Err(Error::new(ErrorKind::Data, "no keras_metadata.pb, which would describe the layers")
            .in_file(folder)
            .help(help));
    }
    let bytes = files::read(&path, files::VOCABULARY)?;
    let wrong = |message: &str| Error::new(ErrorKind::Data, message.to_owned()).in_file(&path).help(help);
    let saved = SavedMetadata::decode(&bytes[..])
        .map_err(|e| wrong("not readable as Keras's metadata").caused_by(e))?;
    let root = saved.nodes.iter().find(|node| node.node_path == "root");
    let root = root.ok_or_else(|| wrong("there is no model at its root"))?;
    let config: Value = serde_json::from_str(&root.metadata)
        .map_err(|e| wrong("the config of its model is not readable as JSON").caused_by(e))?;
    let version = config["keras_version"].as_str().unwrap_or("2").to_owned();
    Ok((config, version))
}

/// All variables by their full names, and the hash of the first file of data.
pub(super) fn read(prefix: &Path) -> Result<(Arrays, String)> {
    let index = with_ending(prefix, ".index");
    let here = |e: Error| e.in_file(&index);
    let table = table(&files::read(&index, files::VOCABULARY)?).map_err(here)?;
    let header = table.get(&b""[..]).and_then(|bytes| BundleHeader::decode(&bytes[..]).ok());
    let header = header.ok_or_else(|| here(damaged("it has no header")))?;
    if header.endianness != 0 || !(1..=MOST_SHARDS).contains(&header.num_shards) {
        let message = "a checkpoint of a big-endian machine, or of very many parts";
        return Err(here(Error::new(ErrorKind::Data, message).help("save the model again, on one machine")));
    }
    let shards = (0..header.num_shards)
        .map(|shard| {
            let path = with_ending(prefix, &format!(".data-{shard:05}-of-{:05}", header.num_shards));
            files::read(path, files::FOREIGN_MODEL)
        })
        .collect::<Result<Vec<_>>>()?;
    let hash = sha256(&shards[0]);
    let mut arrays = Arrays::new();
    // Many names may claim the same bytes.
    let mut left = 2 * shards.iter().map(Vec::len).sum::<usize>();
    for (name, key) in names(&table, &shards).map_err(here)? {
        let entry = entry(&table, &key).map_err(here)?;
        let wrong = |e| here(damaged(&format!("{name}: {e}")));
        if let Some(array) = array(&entry, &shards).map_err(wrong)? {
            left = left
                .checked_sub(size_of_val(&array.values[..]))
                .ok_or_else(|| wrong("more is claimed than its files hold"))?;
            arrays.push((name, Rc::new(array)));
        }
    }
    Ok((arrays, hash))
}

fn entry(table: &BTreeMap<Vec<u8>, Vec<u8>>, key: &str) -> Result<BundleEntry> {
    let bytes = table.get(key.as_bytes()).ok_or_else(|| damaged(&format!("there is no {key} in it")))?;
    BundleEntry::decode(&bytes[..]).map_err(|e| damaged(&format!("{key} is not readable")).caused_by(e))
}

/// Each variable's full name and key.
fn names(table: &BTreeMap<Vec<u8>, Vec<u8>>, shards: &[Vec<u8>]) -> Result<Vec<(String, String)>> {
    let bytes = bytes(&entry(table, OBJECT_GRAPH)?, shards).map_err(damaged)?;
    // One text: its length, the checksum of that, the text.
    let mut at = 0;
    let length = varint(bytes, &mut at).and_then(|length| usize::try_from(length).ok());
    let text = length.and_then(|length| bytes.get(at + 4..)?.get(..length));
    let graph = text.and_then(|text| ObjectGraph::decode(text).ok());
    let graph = graph.ok_or_else(|| damaged("its object graph is not readable"))?;
    let mut names: Vec<(String, String)> = graph
        .nodes
        .into_iter()
        .flat_map(|node| node.attributes)
        .filter(|variable| !variable.full_name.is_empty())
        .map(|variable| (variable.full_name, variable.checkpoint_key))
        // Those of the optimiser have longer keys.
        .filter(|(_, key)| !key.contains("/.OPTIMIZER_SLOT/") && !key.starts_with("optimizer/"))
        .collect();
    // One variable may be reached, and saved, in several ways.
    names.sort();
    names.dedup();
    Ok(names)
}

/// The bytes of a tensor.
fn bytes<'a>(entry: &BundleEntry, shards: &'a [Vec<u8>]) -> Result<&'a [u8], &'static str> {
    let number = |n: i64| usize::try_from(n).map_err(|_| "a number below zero");
    let shard = usize::try_from(entry.shard_id).ok().and_then(|shard| shards.get(shard));
    let shard = shard.ok_or("it names a part that is not there")?;
    shard
        .get(number(entry.offset)?..)
        .and_then(|rest| rest.get(..number(entry.size).ok()?))
        .ok_or("its data ends before it")
}

/// A tensor of numbers; `None` for those of other types, which no layer has.
fn array(entry: &BundleEntry, shards: &[Vec<u8>]) -> Result<Option<Array>, &'static str> {
    let bytes = bytes(entry, shards)?;
    let shape = entry.shape.iter().flat_map(|shape| &shape.dim).map(|dim| usize::try_from(dim.size));
    let shape = shape.collect::<Result<Vec<_>, _>>().map_err(|_| "an axis of less than nothing")?;
    // DT_FLOAT and DT_DOUBLE.
    let width = match entry.dtype {
        1 => 4,
        2 => 8,
        _ => return Ok(None),
    };
    let count = shape.iter().try_fold(width, |product: usize, &axis| product.checked_mul(axis));
    if count != Some(bytes.len()) {
        return Err("its shape and its data do not fit");
    }
    let values = if width == 4 {
        bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect()
    } else {
        #[expect(clippy::cast_possible_truncation, reason = "weights of f64 are kept in f32")]
        bytes.as_chunks().0.iter().map(|&eight| f64::from_le_bytes(eight) as f32).collect()
    };
    Ok(Some(Array { shape, values }))
}

/// A table's keys and values.
fn table(file: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let footer = file.len().checked_sub(FOOTER).map(|at| &file[at..]);
    let footer = footer.filter(|footer| footer.ends_with(&MAGIC));
    let footer = footer.ok_or_else(|| damaged("its index is no table"))?;
    let mut at = 0;
    handle(footer, &mut at).ok_or_else(|| damaged("the end of its index"))?;
    let index = handle(footer, &mut at).ok_or_else(|| damaged("the end of its index"))?;
    let mut entries = BTreeMap::new();
    let mut left = MOST_BYTES;
    for (_, block) in self::entries(block(file, index)?, &mut left)? {
        let block =
            self::block(file, handle(&block, &mut 0).ok_or_else(|| damaged("a block of its index"))?)?;
        entries.extend(self::entries(block, &mut left)?);
    }
    Ok(entries)
}

/// Where a block lies: offset and size.
fn handle(bytes: &[u8], at: &mut usize) -> Option<[usize; 2]> {
    let mut number = || usize::try_from(varint(bytes, at)?).ok();
    Some([number()?, number()?])
}

fn block(file: &[u8], [offset, size]: [usize; 2]) -> Result<&[u8]> {
    // Its kind stands behind it, and a checksum.
    let block = file.get(offset..).and_then(|rest| Some((rest.get(..size)?, *rest.get(size)?)));
    match block {
        Some((block, 0)) => Ok(block),
        Some(_) => Err(Error::new(ErrorKind::Data, "a checkpoint with a compressed index")
            .help("of the model in memory, model.save(\"s2s.keras\") writes a file")),
        None => Err(damaged("its index is cut off")),
    }
}

/// The entries of a block: each key is told by what it shares with the one before it.
fn entries(block: &[u8], left: &mut usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut read = || -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let restarts = u32::from_le_bytes(*block.last_chunk()?);
        let end = block.len().checked_sub((restarts as usize).checked_add(1)?.checked_mul(4)?)?;
        let (block, mut at, mut key) = (&block[..end], 0, Vec::new());
        let mut found = Vec::new();
        while at < block.len() {
            let mut number = || usize::try_from(varint(block, &mut at)?).ok();
            let [shared, own, length] = [number()?, number()?, number()?];
            let rest = block.get(at..)?;
            let (own, rest) = (rest.get(..own)?, rest.get(own..)?);
            let value = rest.get(..length)?;
            at += own.len() + length;
            if shared > key.len() {
                return None;
            }
            key.truncate(shared);
            key.extend_from_slice(own);
            *left = left.checked_sub(key.len() + length + 1)?;
            found.push((key.clone(), value.to_vec()));
        }
        Some(found)
    };
    read().ok_or_else(|| damaged("a block of its index"))
}

/// A number in protobuf's form: seven bits a byte, the lowest first.
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
