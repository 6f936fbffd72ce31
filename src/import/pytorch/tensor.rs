//! A tensor within the memory of a file: what is said of it, and its values as f32 once all of that holds.

use s2s_kernels::float_from_half;

use crate::error::{Error, ErrorKind, Result};

/// A tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    /// The lengths of its axes.
    pub(super) shape: Vec<usize>,
    /// As many values, all of them finite.
    pub(super) values: Vec<f32>,
}

/// Numbers that weights are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
}

/// Where a tensor lies in its memory, as the file says; nothing of it is checked.
#[derive(Clone, Debug)]
pub(super) struct Place<At> {
    /// Which memory: bytes of the file or a member of an archive.
    pub(super) at: At,
    /// The numbers, or the name of a type that no weights have.
    pub(super) dtype: Result<Dtype, String>,
    /// First element.
    pub(super) offset: i64,
    /// Lengths of the axes.
    pub(super) shape: Vec<i64>,
    /// Elements between neighbours of each axis; row-major where `None`.
    pub(super) strides: Option<Vec<i64>>,
}

impl Dtype {
    /// Bytes of a number.
    pub(super) fn width(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The number in so many little-endian bytes; a double is rounded.
    fn read(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Self::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
            (Self::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Self::F16, &[a, b]) => float_from_half(u16::from_le_bytes([a, b])),
            (Self::Bf16, &[a, b]) => f32::from_bits(u32::from(u16::from_le_bytes([a, b])) << 16),
            _ => f32::NAN,
        }
    }
}

impl<At> Place<At> {
    /// Checks what is said of the tensor as far as that goes without its memory: the type, the lengths of its
    /// axes. Gives the type and the lengths.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] about a tensor called `name`.
    pub(super) fn outline(&self, name: &str) -> Result<(Dtype, Vec<usize>)> {
        let wrong = |message: String| Error::new(ErrorKind::Data, format!("tensor {name} {message}"));
        let dtype = self.dtype.clone().map_err(|found| {
            wrong(format!("holds {found}, and weights are floating-point numbers"))
                .help("save it as float32: .float()")
        })?;
        let shape = self.shape.iter().map(|&axis| usize::try_from(axis)).collect::<Result<Vec<_>, _>>();
        let shape = shape.map_err(|_| wrong(format!("has the shape {:?}", self.shape)))?;
        Ok((dtype, shape))
    }

    /// The values out of `memory`.
    ///
    /// # Errors
    /// As [`outline`](Self::outline); for what lies outside the memory, more values than it has, and values
    /// that are not finite.
    pub(super) fn read(&self, name: &str, memory: &[u8]) -> Result<Tensor> {
        let (dtype, shape) = self.outline(name)?;
        let wrong = |message: String| {
            let error = Error::new(ErrorKind::Data, format!("tensor {name} {message}"));
            error.help("the file is damaged or cut off: save the weights again")
        };
        let elements = memory.len() / dtype.width();
        let count = shape.iter().try_fold(1usize, |product, &axis| product.checked_mul(axis));
        let Some(count) = count.filter(|&count| count <= elements) else {
            return Err(wrong(format!(
                "has the shape {shape:?}, and there are {elements} values in its memory"
            )));
        };
        let row_major = || {
            let mut strides = vec![1; shape.len()];
            for axis in (1..shape.len()).rev() {
                strides[axis - 1] = strides[axis] * shape[axis];
            }
            strides
        };
        let strides = match &self.strides {
            None => row_major(),
            Some(strides) => {
                strides.iter().map(|&stride| usize::try_from(stride).unwrap_or(usize::MAX)).collect()
            }
        };
        let first = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let last = shape.iter().zip(&strides).try_fold(first, |at, (&axis, &stride)| {
            stride.checked_mul(axis.saturating_sub(1)).and_then(|step| at.checked_add(step))
        });
        let is_inside = count == 0 || last.is_some_and(|last| last < elements);
        if strides.len() != shape.len() || !is_inside {
            return Err(wrong("does not lie within its memory".to_owned()));
        }
        let width = dtype.width();
        let value = |at: usize| dtype.read(&memory[at * width..][..width]);
        let values: Vec<f32> = if strides == row_major() {
            (first..first + count).map(value).collect()
        } else {
            let at = |index: usize| {
                let (mut rest, mut at) = (index, first);
                for (&axis, &stride) in shape.iter().zip(&strides).rev() {
                    at += rest % axis * stride;
                    rest /= axis;
                }
                at
            };
            (0..count).map(|index| value(at(index))).collect()
        };
        if let Some(at) = values.iter().position(|x| !x.is_finite()) {
            let message = format!("value {at} of tensor {name} is {}", values[at]);
            return Err(Error::new(ErrorKind::Data, message)
                .help("the training diverged; import another save of the model"));
        }
        Ok(Tensor { shape, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(shape: &[i64], offset: i64, strides: Option<&[i64]>) -> Place<()> {
        let (shape, strides) = (shape.to_vec(), strides.map(<[i64]>::to_vec));
        Place { at: (), dtype: Ok(Dtype::F32), offset, shape, strides }
    }

    #[test]
    fn views_are_read_as_their_strides_say_and_never_outside_of_their_memory() -> Result<()> {
        let memory: Vec<u8> = (0..6u8).flat_map(|x| f32::from(x).to_le_bytes()).collect();
        let read = |place: Place<()>| place.read("w", &memory);
        assert_eq!(read(place(&[2, 3], 0, None))?.values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(read(place(&[3, 2], 0, Some(&[1, 3])))?.values, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(read(place(&[2], 3, None))?.values, [3.0, 4.0]);
        assert_eq!(read(place(&[0, 7], 99, None))?.values, [0.0; 0]);
        for wrong in [
            place(&[7], 0, None),
            place(&[2, 3], 1, None),
            place(&[6], 0, Some(&[0, 0])),
            place(&[i64::MAX, 8], 0, None),
            place(&[2], 0, Some(&[i64::MAX])),
            place(&[2], -1, None),
            place(&[-2], 0, None),
        ] {
            let error = read(wrong.clone()).err().map(|e| e.message().to_owned());
            assert!(error.is_some_and(|e| e.starts_with("tensor w ")), "{wrong:?}");
        }
        Ok(())
    }

    #[test]
    fn halves_are_the_numbers_that_ieee_754_says() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
            (0x7bff, 65504.0),
        ] {
            assert_eq!(float_from_half(bits), value);
        }
        assert!(float_from_half(0xfc00) == f32::NEG_INFINITY && float_from_half(0x7e00).is_nan());
        assert_eq!(Dtype::Bf16.read(&[0x80, 0x3f]), 1.0);
        assert_eq!(Dtype::F64.read(&0.1f64.to_le_bytes()), 0.1);
    }
}
