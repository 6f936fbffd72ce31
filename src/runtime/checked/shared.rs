//! A checked model and its bytes, each made when it is first wanted.

use std::ops::Deref;
use std::sync::OnceLock;

use prost::Message as _;
use prost::bytes::Bytes;

use super::{CheckedModel, External};
use crate::error::Result;

/// A checked model beside the bytes of its ONNX file.
///
/// Weights are in memory once: those of the model are parts of the file that it was read from. One that was made
/// in memory is written down when somebody asks for its bytes.
#[derive(Clone, Debug)]
pub struct SharedModel {
    model: CheckedModel,
    bytes: OnceLock<Bytes>,
}

impl SharedModel {
    /// Reads and checks a model.
    ///
    /// - `name`: what the graph is called in errors.
    ///
    /// # Errors
    /// As [`CheckedModel::read`].
    pub fn read(name: &str, bytes: Bytes) -> Result<Self> {
        Ok(Self { model: CheckedModel::read_shared(name, bytes.clone())?, bytes: OnceLock::from(bytes) })
    }

    /// Reads and checks a model whose tensors may have their values in other files; its
    /// [`bytes`](Self::bytes) have them within.
    ///
    /// - `fetch`: as for [`CheckedModel::read_with`].
    ///
    /// # Errors
    /// As [`CheckedModel::read_with`].
    pub fn read_with(
        name: &str,
        bytes: Bytes,
        fetch: &mut dyn FnMut(External<'_>) -> Result<Bytes>,
    ) -> Result<Self> {
        let mut fetched = false;
        let mut noted = |tensor: External<'_>| {
            fetched = true;
            fetch(tensor)
        };
        let model = CheckedModel::read_with(name, bytes.clone(), &mut noted)?;
        Ok(Self { model, bytes: if fetched { OnceLock::new() } else { OnceLock::from(bytes) } })
    }

    /// The ONNX file, at most 2 GiB.
    pub fn bytes(&self) -> &Bytes {
        self.bytes.get_or_init(|| self.model.encode_to_vec().into())
    }

    /// Gives the ONNX file to `read`, and keeps it no longer than that where it is not there anyway: beside
    /// the model it is a second copy of all weights.
    pub fn with_bytes<T>(&self, read: impl FnOnce(&[u8]) -> T) -> T {
        match self.bytes.get() {
            Some(bytes) => read(bytes),
            None => read(&self.model.encode_to_vec()),
        }
    }

    /// The length of the ONNX file, which is not made for that.
    pub fn len(&self) -> usize {
        self.bytes.get().map_or_else(|| self.model.encoded_len(), Bytes::len)
    }

    /// Whether the file has no byte, which that of a checked model never is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<CheckedModel> for SharedModel {
    fn from(model: CheckedModel) -> Self {
        Self { model, bytes: OnceLock::new() }
    }
}

impl Deref for SharedModel {
    type Target = CheckedModel;

    fn deref(&self) -> &CheckedModel {
        &self.model
    }
}
