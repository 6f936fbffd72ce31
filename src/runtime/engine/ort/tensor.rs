//! Tensors of ONNX Runtime's sessions.

use std::sync::Arc;

use ort::value::{DynValue, TensorElementType, ValueType};

use crate::engine::arrange::foreign;
use crate::engine::graph::{DataView, DeviceTensor, Tensor, TensorView, Value};
use crate::graph_info::{BOOL, FLOAT, INT32, INT64};

/// Where the values of a tensor lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// Where this program can read them.
    Host,
    /// Where only sessions can.
    Device,
}

/// A tensor of ONNX Runtime, wherever its session keeps it.
pub(super) struct OrtTensor {
    pub(super) value: DynValue,
    pub(super) shape: Vec<usize>,
    pub(super) element_type: i32,
    pub(super) memory: Memory,
}

impl DeviceTensor for OrtTensor {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn element_type(&self) -> i32 {
        self.element_type
    }
}

impl OrtTensor {
    pub(super) fn of(value: &Value) -> ort::Result<&Self> {
        let any: &dyn std::any::Any = &**value;
        any.downcast_ref().ok_or_else(|| ort::Error::new(foreign().message()))
    }

    pub(super) fn wrapped(value: DynValue, memory: Memory) -> ort::Result<Value> {
        let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
            return Err(ort::Error::new("a value that is no tensor"));
        };
        let element_type = match ty {
            TensorElementType::Float32 => FLOAT,
            TensorElementType::Int32 => INT32,
            TensorElementType::Int64 => INT64,
            TensorElementType::Bool => BOOL,
            other => return Err(ort::Error::new(format!("a tensor of {other}, which is not handled"))),
        };
        let shape = shape.iter().map(|&length| usize::try_from(length).unwrap_or_default()).collect();
        Ok(Arc::new(Self { value, shape, element_type, memory }))
    }

    /// Values of the host as a tensor of its own.
    pub(super) fn uploaded(TensorView { shape, data }: TensorView<'_>) -> ort::Result<DynValue> {
        Ok(match data {
            DataView::I64(data) => ort::value::Tensor::from_array((shape, data.to_vec()))?.into_dyn(),
            DataView::I32(data) => ort::value::Tensor::from_array((shape, data.to_vec()))?.into_dyn(),
            DataView::F32(data) => ort::value::Tensor::from_array((shape, data.to_vec()))?.into_dyn(),
            DataView::Bool(data) => ort::value::Tensor::from_array((shape, data.to_vec()))?.into_dyn(),
        })
    }

    /// The values as f32.
    ///
    /// # Errors
    /// For one whose values this program cannot read.
    pub(super) fn read(&self, into: &mut Tensor) -> ort::Result<()> {
        if self.memory == Memory::Device {
            return Err(ort::Error::new("a tensor of a device was read as if it were in the host's memory"));
        }
        let shape = self.shape.iter().copied();
        match self.element_type {
            FLOAT => into.fill(shape, self.value.try_extract_tensor::<f32>()?.1.iter().copied()),
            INT32 => {
                let (_, data) = self.value.try_extract_tensor::<i32>()?;
                into.fill(shape, data.iter().map(|&x| x as f32));
            }
            INT64 => {
                let (_, data) = self.value.try_extract_tensor::<i64>()?;
                into.fill(shape, data.iter().map(|&x| x as f32));
            }
            _ => {
                let (_, data) = self.value.try_extract_tensor::<bool>()?;
                into.fill(shape, data.iter().map(|&x| f32::from(u8::from(x))));
            }
        }
        Ok(())
    }
}
