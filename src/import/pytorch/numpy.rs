//! NumPy's arrays: the header of `.npy` (NEP 1), which is a dictionary of Python in ASCII.

use super::tensor::{Dtype, Place};
use crate::error::{Error, ErrorKind, Result};

/// What a `.npy` begins with.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// Bytes of a file that its header lies in; headers of arrays have 128.
pub(super) const LONGEST_HEADER: usize = 10_000;

/// Reads the header at the beginning of `bytes`: where the array lies behind it, and at which byte.
///
/// # Errors
/// [`ErrorKind::Data`] for another version, or a header that is not as NumPy writes it.
pub(super) fn header(bytes: &[u8]) -> Result<(Place<()>, usize)> {
    let wrong = || {
        Error::new(ErrorKind::Data, "not an array that NumPy saved: its header cannot be read")
            .help("save it again with numpy.save or numpy.savez")
    };
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(wrong)?;
    // Version 1 has a length of two bytes, versions 2 and 3 one of four.
    let (start, length) = match *rest {
        [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([a, b]))),
        [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
        _ => return Err(wrong()),
    };
    let end = start + length.min(LONGEST_HEADER);
    let text = bytes.get(start..end).and_then(|text| std::str::from_utf8(text).ok()).ok_or_else(wrong)?;
    let after = |key: &str| {
        let at = text.find(&format!("'{key}'"))?;
        text[at..].split_once(':').map(|(_, value)| value.trim_start())
    };
    let descriptor = after("descr").ok_or_else(wrong)?;
    let is_fortran = after("fortran_order").ok_or_else(wrong)?.starts_with("True");
    let shape =
        after("shape").and_then(|value| value.strip_prefix('(')?.split_once(')')).ok_or_else(wrong)?;
    let axes = shape.0.split(',').map(str::trim).filter(|axis| !axis.is_empty());
    let shape: Vec<i64> = axes.map(|axis| axis.parse().map_err(|_| wrong())).collect::<Result<_>>()?;
    let strides = is_fortran.then(|| {
        let step = |at: usize| shape[..at].iter().fold(1i64, |product, &axis| product.saturating_mul(axis));
        (0..shape.len()).map(step).collect()
    });
    let name = descriptor.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map(|(name, _)| name);
    let dtype = match name {
        Some("<f8") => Ok(Dtype::F64),
        Some("<f4") => Ok(Dtype::F32),
        Some("<f2") => Ok(Dtype::F16),
        other => Err(other.unwrap_or("objects of several fields").to_owned()),
    };
    Ok((Place { at: (), dtype, offset: 0, shape, strides }, start + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str) -> Vec<u8> {
        let length = u16::try_from(header.len()).unwrap_or_default().to_le_bytes();
        [MAGIC, &[1, 0], &length, header.as_bytes()].concat()
    }

    #[test]
    fn headers_are_read_as_numpy_writes_them() -> Result<()> {
        let bytes = file("{'descr': '<f4', 'fortran_order': False, 'shape': (29, 256), }   \n");
        let (place, start) = header(&bytes)?;
        assert_eq!((place.shape, place.strides, start), (vec![29, 256], None, bytes.len()));
        assert_eq!(place.dtype, Ok(Dtype::F32));
        let (place, _) = header(&file("{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3), }"))?;
        assert_eq!(place.strides, Some(vec![1, 2]));
        let (place, _) = header(&file("{'descr': '|O', 'fortran_order': False, 'shape': (5,), }"))?;
        assert_eq!((place.dtype, place.shape), (Err("|O".to_owned()), vec![5]));
        let (place, _) = header(&file("{'descr': '>f4', 'fortran_order': False, 'shape': (), }"))?;
        assert_eq!((place.dtype, place.shape), (Err(">f4".to_owned()), vec![]));
        Ok(())
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for bytes in [
            file("{'descr': '<f4', 'shape': (2,), }"),
            file("{'descr': '<f4', 'fortran_order': False, 'shape': (two,), }"),
            file("{'descr': '<f4', 'fortran_order': False, 'shape': (2"),
            [MAGIC, &[9, 0, 1, 0]].concat(),
            [MAGIC, &[1, 0, 255, 255]].concat(),
            MAGIC.to_vec(),
        ] {
            assert!(header(&bytes).is_err(), "{bytes:?}");
        }
    }
}
