//! Tensors on the wire: JSON, and the binary tensor extension.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use s2s_runtime::graph_info::{FLOAT, INT64};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::wire::{RawRequest, RawTensor};
use crate::serve::error::{ApiError, Fault};
use crate::serve::json::{Flat, VALUES};

/// Bytes of JSON before the binary part.
pub(super) const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Element types that this server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataType {
    Bytes,
    Int64,
    Float32,
}

impl DataType {
    /// As the protocol writes it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "BYTES",
            Self::Int64 => "INT64",
            Self::Float32 => "FP32",
        }
    }

    /// As Triton's configuration writes it.
    pub(super) fn in_config(self) -> &'static str {
        match self {
            Self::Bytes => "TYPE_STRING",
            Self::Int64 => "TYPE_INT64",
            Self::Float32 => "TYPE_FP32",
        }
    }

    /// Of an ONNX graph.
    pub(super) fn of_onnx(element_type: i32) -> Option<Self> {
        match element_type {
            INT64 => Some(Self::Int64),
            FLOAT => Some(Self::Float32),
            _ => None,
        }
    }
}

/// Values in row-major order, the last axis fastest.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    Bytes(Vec<String>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(v) => v.len(),
            Self::Int64(v) => v.len(),
            Self::Float32(v) => v.len(),
        }
    }

    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Bytes(_) => DataType::Bytes,
            Self::Int64(_) => DataType::Int64,
            Self::Float32(_) => DataType::Float32,
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Bytes(v) => {
                for text in v {
                    // A text longer than 4 GiB is beyond every limit.
                    bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                    bytes.extend(text.as_bytes());
                }
            }
            Self::Int64(v) => bytes.extend(v.iter().flat_map(|x| x.to_le_bytes())),
            Self::Float32(v) => bytes.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        }
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes(v) => v.serialize(serializer),
            Self::Int64(v) => v.serialize(serializer),
            // As the numbers that they are, not as the shortest ones that round to them.
            Self::Float32(v) => serializer.collect_seq(v.iter().map(|&x| f64::from(x))),
        }
    }
}

/// A tensor with its name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) data: Data,
}

/// A request for an inference, read but not held against a model.
#[derive(Debug)]
pub(super) struct InferRequest {
    pub(super) id: Option<String>,
    /// Those of the request, without the ones that are about the wire.
    pub(super) parameters: Map<String, Value>,
    pub(super) inputs: Vec<Tensor>,
    /// Names, and whether as bytes; `None` is all outputs.
    outputs: Option<Vec<(String, bool)>>,
    binary_output: bool,
}

/// Bytes of a 32-bit number in JSON, with its comma, at most.
const JSON_NUMBER: usize = 25;

/// An output as it is written in JSON.
#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Data>,
}

/// An answer as it is written in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    model_name: &'a str,
    model_version: &'a str,
    outputs: Vec<Output<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(Fault::BadRequest, message)
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, ApiError> {
    value.as_object().ok_or_else(|| bad(format!("{what} must be an object")))
}

/// A field of parameters that says whether tensors are sent as bytes.
fn flag(parameters: Option<&Map<String, Value>>, name: &str) -> Result<Option<bool>, ApiError> {
    match parameters.and_then(|parameters| parameters.get(name)) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(bad(format!("the parameter {name} must be true or false"))),
    }
}

fn parameters(of: &Map<String, Value>) -> Result<Option<&Map<String, Value>>, ApiError> {
    of.get("parameters").map(|value| object(value, "parameters")).transpose()
}

fn name_of(tensor: &Map<String, Value>) -> Result<String, ApiError> {
    tensor.get("name").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| bad("a tensor has no name"))
}

impl InferRequest {
    /// Reads a body: JSON, and after it, if the header says so, the bytes of tensors.
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, ApiError> {
        let (json, mut binary) = match headers.get(HEADER_LENGTH) {
            None => (body, &[][..]),
            Some(length) => {
                let length = length.to_str().ok().and_then(|length| length.trim().parse::<usize>().ok());
                length.and_then(|length| body.split_at_checked(length)).ok_or_else(|| {
                    bad(format!(
                        "{HEADER_LENGTH} must be a number of bytes, at most the {} of the body",
                        body.len()
                    ))
                })?
            }
        };
        let text = std::str::from_utf8(json)
            .map_err(|_| ApiError::new(Fault::InvalidUtf8, "the JSON is not UTF-8"))?;
        let RawRequest { fields: request, inputs } = RawRequest::read(text)?;
        let id = match request.get("id") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(bad("id must be a string")),
        };
        let of_request = parameters(&request)?;
        let binary_output = flag(of_request, "binary_data_output")?.unwrap_or(false);
        let inputs = inputs.ok_or_else(|| bad("inputs must be an array of tensors"))?;
        let inputs =
            inputs.into_iter().map(|input| read_tensor(input, &mut binary)).collect::<Result<Vec<_>, _>>()?;
        if !binary.is_empty() {
            return Err(bad(format!("{} bytes are left after the last tensor", binary.len())));
        }
        let outputs = match request.get("outputs") {
            None => None,
            Some(Value::Array(outputs)) if outputs.is_empty() => None,
            Some(Value::Array(outputs)) => {
                let read = |output: &Value| {
                    let output = object(output, "an output")?;
                    Ok((name_of(output)?, flag(parameters(output)?, "binary_data")?.unwrap_or(binary_output)))
                };
                Some(outputs.iter().map(read).collect::<Result<Vec<_>, ApiError>>()?)
            }
            Some(_) => return Err(bad("outputs must be an array")),
        };
        // What Triton's clients add by themselves.
        const OF_THE_WIRE: [&str; 7] = [
            "binary_data_output",
            "sequence_id",
            "sequence_start",
            "sequence_end",
            "priority",
            "timeout",
            "headers",
        ];
        let mut parameters = of_request.cloned().unwrap_or_default();
        parameters.retain(|name, _| !OF_THE_WIRE.contains(&name.as_str()));
        Ok(Self { id, parameters, inputs, outputs, binary_output })
    }

    /// Bytes in memory of an answer with outputs of these names and numbers of values.
    pub(super) fn answer_bytes<'a>(&self, outputs: impl Iterator<Item = (&'a str, usize)>) -> usize {
        let is_json = |name: &str| match &self.outputs {
            None => !self.binary_output,
            Some(outputs) => outputs.iter().any(|(output, as_bytes)| output == name && !as_bytes),
        };
        let bytes = |(name, values): (&str, usize)| {
            values.saturating_mul(if is_json(name) { 4 + JSON_NUMBER } else { 8 })
        };
        outputs.map(bytes).fold(0, usize::saturating_add)
    }

    /// The answer: the outputs that were asked for, in that order.
    pub(super) fn answer(&self, model: &str, version: &str, made: &[Tensor]) -> Result<Response, ApiError> {
        let wanted: Vec<(&str, bool)> = match &self.outputs {
            None => made.iter().map(|tensor| (tensor.name.as_str(), self.binary_output)).collect(),
            Some(outputs) => outputs.iter().map(|(name, as_bytes)| (name.as_str(), *as_bytes)).collect(),
        };
        let (mut outputs, mut binary) = (Vec::with_capacity(wanted.len().min(made.len())), Vec::new());
        for (at, &(name, as_bytes)) in wanted.iter().enumerate() {
            let tensor = made
                .iter()
                .find(|tensor| tensor.name == name && wanted[..at].iter().all(|(other, _)| *other != name));
            let tensor = tensor
                .ok_or_else(|| bad(format!("{model} has no output {name:?}, or it is asked for twice")))?;
            let before = binary.len();
            if as_bytes {
                tensor.data.write(&mut binary);
            }
            outputs.push(Output {
                name,
                datatype: tensor.data.data_type().as_str(),
                shape: &tensor.shape,
                parameters: as_bytes.then(|| json!({ "binary_data_size": binary.len() - before })),
                data: (!as_bytes).then_some(&tensor.data),
            });
        }
        let answer = Answer { model_name: model, model_version: version, outputs, id: self.id.as_deref() };
        let written = serde_json::to_vec(&answer);
        let mut bytes =
            written.map_err(|_| ApiError::new(Fault::Internal, "the answer could not be written"))?;
        if binary.is_empty() {
            return Ok(([(header::CONTENT_TYPE, "application/json")], Body::from(bytes)).into_response());
        }
        let length = HeaderValue::from(bytes.len());
        bytes.append(&mut binary);
        let content_type = HeaderValue::from_static("application/octet-stream");
        Ok(([(header::CONTENT_TYPE, content_type), (HEADER_LENGTH, length)], Body::from(bytes))
            .into_response())
    }

    /// Whether `name` is among the outputs that were asked for.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.outputs.as_ref().is_none_or(|outputs| outputs.iter().any(|(output, _)| output == name))
    }
}

fn read_tensor(tensor: RawTensor, binary: &mut &[u8]) -> Result<Tensor, ApiError> {
    let RawTensor { fields: tensor, data } = tensor;
    let name = name_of(&tensor)?;
    let shape = tensor
        .get("shape")
        .and_then(Value::as_array)
        .ok_or_else(|| bad(format!("the tensor {name:?} has no shape")))?;
    let shape: Option<Vec<usize>> =
        shape.iter().map(|axis| axis.as_u64().and_then(|axis| usize::try_from(axis).ok())).collect();
    let shape =
        shape.ok_or_else(|| bad(format!("the shape of {name:?} must be whole numbers of at least 0")))?;
    let count = shape.iter().try_fold(1_usize, |count, &axis| count.checked_mul(axis));
    let count = count.ok_or_else(|| bad(format!("the shape of {name:?} is too large")))?;
    let data_type = match tensor.get("datatype").and_then(Value::as_str) {
        Some("BYTES") => DataType::Bytes,
        Some("INT64") => DataType::Int64,
        Some("FP32") => DataType::Float32,
        other => {
            let other = other.unwrap_or("missing");
            return Err(bad(format!(
                "the datatype of {name:?} is {other}; BYTES, INT64 and FP32 are read here"
            )));
        }
    };
    let size = parameters(&tensor)?.and_then(|parameters| parameters.get("binary_data_size"));
    let data = match (size, data) {
        (Some(_), Some(_)) => return Err(bad(format!("{name:?} has both data and binary_data_size"))),
        (Some(size), None) => {
            let size = size.as_u64().and_then(|size| usize::try_from(size).ok());
            let parts = size.and_then(|size| binary.split_at_checked(size));
            let (bytes, rest) = parts.ok_or_else(|| {
                bad(format!("binary_data_size of {name:?} is no number, or beyond the body"))
            })?;
            *binary = rest;
            from_bytes(bytes, data_type, &name)?
        }
        (None, Some(data)) => from_json(data, data_type, &name)?,
        (None, None) => return Err(bad(format!("the tensor {name:?} has no data"))),
    };
    if data.len() != count {
        return Err(bad(format!("{name:?} has {} values for shape {shape:?}", data.len())));
    }
    Ok(Tensor { name, shape, data })
}

fn from_bytes(mut bytes: &[u8], data_type: DataType, name: &str) -> Result<Data, ApiError> {
    let incomplete = || bad(format!("the bytes of {name:?} end inside a value"));
    Ok(match data_type {
        DataType::Int64 => {
            let (values, rest) = bytes.as_chunks();
            if !rest.is_empty() {
                return Err(incomplete());
            }
            Data::Int64(values.iter().map(|value| i64::from_le_bytes(*value)).collect())
        }
        DataType::Float32 => {
            let (values, rest) = bytes.as_chunks();
            if !rest.is_empty() {
                return Err(incomplete());
            }
            Data::Float32(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
        }
        DataType::Bytes => {
            let mut texts = Vec::new();
            while !bytes.is_empty() {
                if texts.len() == VALUES {
                    return Err(ApiError::new(
                        Fault::TooLong,
                        format!("{name:?} has more than {VALUES} texts"),
                    ));
                }
                let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(incomplete)?;
                let (text, rest) =
                    rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(incomplete)?;
                let text = std::str::from_utf8(text).map_err(|_| {
                    ApiError::new(
                        Fault::InvalidUtf8,
                        format!("text {} of {name:?} is not UTF-8", texts.len()),
                    )
                })?;
                texts.push(text.to_owned());
                bytes = rest;
            }
            Data::Bytes(texts)
        }
    })
}

/// Values that came in one array or in nested ones.
fn from_json(data: Flat, data_type: DataType, name: &str) -> Result<Data, ApiError> {
    let wrong = || bad(format!("a value of {name:?} is not {}", data_type.as_str()));
    let Flat { integers, floats, texts, is_mixed } = data;
    let (is_number, is_text) = (!integers.is_empty() || !floats.is_empty(), !texts.is_empty());
    match data_type {
        DataType::Bytes if !is_number && !is_mixed => Ok(Data::Bytes(texts)),
        DataType::Int64 if floats.is_empty() && !is_text && !is_mixed => Ok(Data::Int64(integers)),
        DataType::Float32 if !is_text && !is_mixed => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "rounding to f32 is what the type says; what overflows is refused"
            )]
            let rounded = |value: f64| Some(value as f32).filter(|value| value.is_finite());
            #[expect(clippy::cast_precision_loss, reason = "rounding to f32 is what the type says")]
            let whole = integers.into_iter().map(|integer| integer as f64);
            whole.chain(floats).map(rounded).collect::<Option<_>>().map(Data::Float32).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}
