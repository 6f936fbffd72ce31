//! Tensors: as many bytes as axes and element type say, and all of them in the file.

use super::Walk;
use super::elements::bits;
use super::limits::MOST_AXES;
use crate::error::{Error, Result};
use crate::onnx::{SparseTensorProto, TensorProto};

/// Elements of a sparse tensor when it is filled up, which runtimes do at once: 1 GiB of f32.
const LARGEST_SPARSE: u64 = 1 << 28;

/// ONNX's number of the element type for texts.
const STRING: i32 = 8;

impl Walk<'_> {
    /// - `place`: the initialiser, or the node that has the tensor in an attribute.
    pub(super) fn tensor(&self, place: &str, tensor: &TensorProto) -> Result<()> {
        self.short(&tensor.name)?;
        if tensor.data_location != 0 || !tensor.external_data.is_empty() {
            return Err(self.external(place, tensor));
        }
        let elements = self.elements(place, &tensor.dims)?;
        let wrong = |message: String| {
            Err(self.wrong(place, message).help("the file is damaged: export the model again"))
        };
        let fields = [
            ("float_data", tensor.float_data.len()),
            ("int32_data", tensor.int32_data.len()),
            ("string_data", tensor.string_data.len()),
            ("int64_data", tensor.int64_data.len()),
            ("double_data", tensor.double_data.len()),
            ("uint64_data", tensor.uint64_data.len()),
        ];
        let mut filled = fields.iter().filter(|(_, count)| *count > 0);
        let (typed, other) = (filled.next(), filled.next());
        if other.is_some() || (typed.is_some() && !tensor.raw_data.is_empty()) {
            return wrong("the tensor has its values in several fields".to_owned());
        }
        if tensor.data_type == STRING {
            return match typed.map_or(("string_data", 0), |field| *field) {
                ("string_data", count) if count as u64 == elements => Ok(()),
                (field, count) => wrong(format!(
                    "{count} values in {field}, where its axes {:?} make {elements} texts",
                    tensor.dims
                )),
            };
        }
        let Some(bits) = bits(tensor.data_type) else {
            return wrong(format!(
                "a tensor of the element type {} (ONNX's number), which is not known",
                tensor.data_type
            ));
        };
        let Some(&(field, count)) = typed else {
            let bytes = elements.saturating_mul(bits).div_ceil(8);
            return match tensor.raw_data.len() as u64 {
                found if found == bytes => Ok(()),
                found => wrong(format!(
                    "the tensor has {found} bytes, where its axes {:?} and its type need {bytes}",
                    tensor.dims
                )),
            };
        };
        let (expected, needed) = match tensor.data_type {
            1 => ("float_data", elements),
            14 => ("float_data", elements.saturating_mul(2)),
            7 => ("int64_data", elements),
            11 => ("double_data", elements),
            15 => ("double_data", elements.saturating_mul(2)),
            12 | 13 => ("uint64_data", elements),
            // Several of the narrow types share an entry.
            _ if bits < 8 => ("int32_data", elements.saturating_mul(bits).div_ceil(8)),
            _ => ("int32_data", elements),
        };
        if (field, count as u64) == (expected, needed) {
            return Ok(());
        }
        wrong(format!(
            "the tensor has {count} values in {field}, where its axes {:?} and its type need {needed} in \
             {expected}",
            tensor.dims
        ))
    }

    /// Values, indices, and the size of the whole.
    pub(super) fn sparse(&self, place: &str, sparse: &SparseTensorProto) -> Result<()> {
        let parts = sparse.values.iter().chain(&sparse.indices);
        let place = sparse
            .values
            .as_ref()
            .map_or(place, |values| if values.name.is_empty() { place } else { &values.name });
        parts.into_iter().try_for_each(|part| self.tensor(place, part))?;
        let elements = self.elements(place, &sparse.dims)?;
        if elements > LARGEST_SPARSE {
            return Err(self.wrong(
                place,
                format!(
                    "a sparse tensor of {elements} values when filled up; at most {LARGEST_SPARSE} are read"
                ),
            ));
        }
        Ok(())
    }

    fn elements(&self, place: &str, dims: &[i64]) -> Result<u64> {
        if dims.len() > MOST_AXES {
            return Err(
                self.wrong(place, format!("a tensor of {} axes; at most {MOST_AXES} are read", dims.len()))
            );
        }
        let lengths = dims.iter().map(|&length| u64::try_from(length).ok());
        let product = lengths.collect::<Option<Vec<u64>>>().and_then(|lengths| match lengths.contains(&0) {
            true => Some(0),
            false => lengths.into_iter().try_fold(1u64, u64::checked_mul),
        });
        product.ok_or_else(|| {
            self.wrong(place, format!("a tensor with the axes {dims:?}, which no tensor can have"))
        })
    }

    fn external(&self, place: &str, tensor: &TensorProto) -> Error {
        let location = tensor
            .external_data
            .iter()
            .find(|entry| entry.key == "location")
            .map_or("", |entry| entry.value.as_str());
        let name = if tensor.name.is_empty() {
            "a tensor".to_owned()
        } else {
            format!("the tensor `{}`", tensor.name)
        };
        self.wrong(place, format!("{name} has its values in another file, {location:?}, which is not read"))
            .help(
                "put all weights into the .onnx file: onnx.save_model(onnx.load(FILE), NEW, \
                save_as_external_data=False)",
            )
    }
}
