//! The files that weights come in, all of them as tensors by dotted names.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::Path;

use s2s_runtime::bundle::sha256;
use s2s_runtime::files::{self, FileKind};
use safetensors::SafeTensors;
use zip::ZipArchive;

use super::pickle::{Pickle, Value};
use super::tensor::{Dtype, Place, Tensor};
use super::{numpy, pickle, torch};
use crate::error::{Error, ErrorKind, Result, did_you_mean};

/// Weights hardly shrink; a member of an archive that unpacks to more than this times the file, beyond
/// [`FREE_SIZE`], is no honest one.
const LARGEST_RATIO: u64 = 16;
/// Weights of zeros may shrink as they like.
const FREE_SIZE: u64 = 64 << 20;
/// Most bytes of a pickle: names and vocabularies, but no weights.
const LARGEST_PICKLE: u64 = 64 << 20;
/// Members of an archive.
const MOST_MEMBERS: usize = 100_000;

/// A file of tensors.
#[derive(Debug)]
pub(super) struct Checkpoint {
    memory: Memory,
    tensors: BTreeMap<String, Place<At>>,
    /// All that `torch.save` was given.
    pickle: Option<Pickle>,
}

#[derive(Debug)]
enum Memory {
    Bytes(Vec<u8>),
    Archive(Box<Archive>),
}

#[derive(Debug)]
struct Archive {
    zip: ZipArchive<Cursor<Vec<u8>>>,
    /// Bytes of it.
    length: u64,
}

/// Where the memory of a tensor lies.
#[derive(Clone, Debug)]
enum At {
    Bytes(Range<usize>),
    /// A member of the archive, its first bytes left out.
    Member(String, usize),
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Data, message)
}

impl Checkpoint {
    /// Reads a file, and gives its sha256 too.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] for a file that holds no tensors in a way that is known.
    pub(super) fn open(path: &Path) -> Result<(Self, String)> {
        let bytes = files::read(path, files::FOREIGN_MODEL)?;
        let hash = sha256(&bytes);
        Ok((Self::read(bytes).map_err(|e| e.in_file(path))?, hash))
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(super) fn read(bytes: Vec<u8>) -> Result<Self> {
        if bytes.starts_with(b"PK") {
            return of_archive(bytes);
        }
        if bytes.starts_with(torch::LEGACY_MAGIC) {
            let (pickle, places) = torch::legacy(&bytes)?;
            let tensors = torch::tensors(&pickle)?.into_iter().filter_map(|(name, place)| {
                let at = At::Bytes(places.get(&place.at)?.clone());
                Some((name, place.at(at)))
            });
            return Ok(Self {
                tensors: tensors.collect(),
                memory: Memory::Bytes(bytes),
                pickle: Some(pickle),
            });
        }
        if bytes.starts_with(numpy::MAGIC) {
            let (place, start) = numpy::header(&bytes)?;
            let place = place.at(At::Bytes(start.min(bytes.len())..bytes.len()));
            return Ok(Self {
                tensors: [(String::new(), place)].into(),
                memory: Memory::Bytes(bytes),
                pickle: None,
            });
        }
        if bytes.starts_with(b"\x89HDF") {
            return Err(wrong("an HDF5 file, as Keras saves models").help("s2s import keras reads it"));
        }
        if bytes.get(8) == Some(&b'{') {
            return of_safetensors(bytes);
        }
        Err(wrong("neither a .safetensors, a .pt of torch.save, nor an .npz").help(
            "save the weights with torch.save(model.state_dict(), \"model.pt\"), or with \
             safetensors.torch.save_file",
        ))
    }

    /// The names of its tensors.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether it has a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The same with `prefix` in front of all names; an array without a name is called that.
    pub(super) fn under(mut self, prefix: &str) -> Self {
        if !prefix.is_empty() {
            let named =
                |name: String| if name.is_empty() { prefix.to_owned() } else { format!("{prefix}.{name}") };
            self.tensors = self.tensors.into_iter().map(|(name, place)| (named(name), place)).collect();
        }
        self
    }

    /// The values of a tensor.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] if there is none of this name, or it does not lie in the file as it says.
    pub(super) fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let Some(place) = self.tensors.get(name) else {
            let known = self.tensors.keys().map(String::as_str);
            let error = wrong(format!("there is no tensor {name}"));
            return Err(match did_you_mean(name, known) {
                Some(near) => error.help(format!("did you mean {near}?")),
                None => error,
            });
        };
        place.outline(name)?;
        match (&mut self.memory, &place.at) {
            (Memory::Bytes(bytes), At::Bytes(range)) => place.read(name, &bytes[range.clone()]),
            (Memory::Archive(archive), At::Member(member, skipped)) => {
                let bytes = archive.member(member, u64::MAX)?;
                place.read(name, bytes.get(*skipped..).unwrap_or_default())
            }
            _ => Err(wrong(format!("tensor {name} lies nowhere"))),
        }
    }

    /// The strings behind a dotted path in what `torch.save` was given: a list of them, or a dictionary of
    /// their ids, with the ids; `None` if there is no such path.
    pub(super) fn texts(&self, path: &str) -> Option<Vec<(String, usize)>> {
        let pickle = self.pickle.as_ref()?;
        let at = torch::find(pickle, path)?;
        if let Value::List(items) = pickle.get(at) {
            let texts = items.iter().enumerate();
            return texts.map(|(id, &at)| Some((pickle.text(at)?.to_owned(), id))).collect();
        }
        let id = |at| usize::try_from(pickle.integer(at)?).ok();
        let entries = pickle.entries(at)?.iter();
        entries
            .map(|&(key, value)| match pickle.text(key) {
                Some(symbol) => Some((symbol.to_owned(), id(value)?)),
                // `index2word` has it the other way round.
                None => Some((pickle.text(value)?.to_owned(), id(key)?)),
            })
            .collect()
    }
}

impl<From> Place<From> {
    fn at<To>(self, at: To) -> Place<To> {
        let Self { dtype, offset, shape, strides, .. } = self;
        Place { at, dtype, offset, shape, strides }
    }
}

fn of_archive(bytes: Vec<u8>) -> Result<Checkpoint> {
    let length = bytes.len() as u64;
    let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| {
        wrong("the list of files in it cannot be read").caused_by(e).help("save the weights again")
    })?;
    if zip.len() > MOST_MEMBERS {
        return Err(wrong(format!("{} files in it, more than a model has", zip.len())));
    }
    let mut archive = Archive { zip, length };
    let names: Vec<String> =
        archive.zip.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
    let is_pickle = |name: &&String| *name == "data.pkl" || name.ends_with("/data.pkl");
    let (mut tensors, mut model) = (BTreeMap::new(), None);
    if let Some(name) = names.iter().find(is_pickle) {
        let folder = &name[..name.len() - "data.pkl".len()];
        let order = format!("{folder}byteorder");
        if names.contains(&order) && archive.member(&order, 64)? != b"little" {
            return Err(wrong("its numbers are big-endian").help("save the weights on another machine"));
        }
        let bytes = archive.member(name, LARGEST_PICKLE)?;
        let pickle = pickle::read(&bytes, &mut 0)?;
        for (name, place) in torch::tensors(&pickle)? {
            let at = At::Member(format!("{folder}data/{}", place.at), 0);
            tensors.insert(name, place.at(at));
        }
        model = Some(pickle);
    } else {
        for name in names.iter().filter(|name| name.ends_with(".npy")) {
            let mut beginning = Vec::new();
            let file = archive.zip.by_name(name).map_err(|e| unreadable(name).caused_by(e))?;
            file.take(numpy::LONGEST_HEADER as u64)
                .read_to_end(&mut beginning)
                .map_err(|e| unreadable(name).caused_by(e))?;
            let (place, start) = numpy::header(&beginning).map_err(|e| {
                wrong(format!("{name} in it is {}", e.message())).help("save it again with numpy.savez")
            })?;
            let array = name.trim_end_matches(".npy").to_owned();
            tensors.insert(array, place.at(At::Member(name.clone(), start)));
        }
        if tensors.is_empty() {
            return Err(wrong("an archive with neither data.pkl (torch.save) nor .npy (numpy.savez) in it")
                .help("a .keras file is for s2s import keras"));
        }
    }
    Ok(Checkpoint { memory: Memory::Archive(Box::new(archive)), tensors, pickle: model })
}

fn of_safetensors(bytes: Vec<u8>) -> Result<Checkpoint> {
    let damaged =
        |e: safetensors::SafeTensorError| wrong(format!("not a safetensors file: {e}")).help("save it again");
    let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let mut tensors = BTreeMap::new();
    for (name, about) in metadata.tensors() {
        let dtype = match about.dtype {
            safetensors::Dtype::F64 => Ok(Dtype::F64),
            safetensors::Dtype::F32 => Ok(Dtype::F32),
            safetensors::Dtype::F16 => Ok(Dtype::F16),
            safetensors::Dtype::BF16 => Ok(Dtype::Bf16),
            other => Err(other.to_string()),
        };
        let shape = about.shape.iter().map(|&axis| i64::try_from(axis).unwrap_or(i64::MAX)).collect();
        // Behind the header's length, and the header.
        let (start, end) = (about.data_offsets.0 + header + 8, about.data_offsets.1 + header + 8);
        if end > bytes.len() || start > end {
            return Err(wrong(format!("tensor {name} does not lie within the file")));
        }
        tensors.insert(name, Place { at: At::Bytes(start..end), dtype, offset: 0, shape, strides: None });
    }
    Ok(Checkpoint { memory: Memory::Bytes(bytes), tensors, pickle: None })
}

fn unreadable(name: &str) -> Error {
    wrong(format!("{name} in it cannot be read")).help("save the weights again")
}

impl Archive {
    /// A member, of at most `limit` bytes and no more than the archive may honestly hold.
    fn member(&mut self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let honest = self.length.saturating_mul(LARGEST_RATIO).clamp(FREE_SIZE, files::FOREIGN_MODEL.limit);
        let limit = limit.min(honest);
        let kind = FileKind { name: "a member of a checkpoint", limit, ..files::FOREIGN_MODEL };
        let file =
            self.zip.by_name(name).map_err(|e| wrong(format!("there is no {name} in it")).caused_by(e))?;
        let expected = file.size();
        files::read_limited(file, expected, name, kind).map_err(|e| match e.kind() {
            ErrorKind::Io => unreadable(name).caused_by(e),
            _ => wrong(format!("{name} in it is {}", e.message())).help("save the weights again"),
        })
    }
}
