//! Rules that rewrite texts, as SentencePiece compiles them: a double array (Darts) of what is replaced, and
//! the replacements one after the other, each ended by a zero byte.

use crate::error::{Error, ErrorKind, Result};

/// Compiled rules.
#[derive(Clone, Debug)]
pub(super) struct Charsmap {
    units: Vec<u32>,
    replacements: String,
}

/// Bytes of the longest replacement; the longest in use have 33.
const LONGEST: usize = 1024;

impl Charsmap {
    /// # Errors
    /// [`ErrorKind::Bundle`] if the bytes are no such rules.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(ErrorKind::Bundle, format!("normalizer_spec.precompiled_charsmap: {what}"))
                .help("the file is damaged: copy it again")
        };
        let (length, rest) =
            bytes.split_first_chunk::<4>().ok_or_else(|| wrong("shorter than its length"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (units, replacements) =
            rest.split_at_checked(length).ok_or_else(|| wrong("the rules are longer than the bytes"))?;
        let units = units.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        let replacements = std::str::from_utf8(replacements)
            .map_err(|_| wrong("the replacements are not UTF-8"))?
            .to_owned();
        match replacements.split('\0').map(str::len).max() {
            Some(longest) if longest > LONGEST => Err(wrong("a replacement of more than 1024 bytes")),
            _ => Ok(Self { units, replacements }),
        }
    }

    /// The longest rule that `bytes` begin with: the bytes that it takes, and what takes their place.
    pub(super) fn longest(&self, bytes: &[u8]) -> Option<(usize, &str)> {
        let unit = |node: usize| self.units.get(node).copied();
        let offset = |unit: u32| (unit >> 10 << ((unit & (1 << 9)) >> 6)) as usize;
        let mut node = offset(unit(0)?);
        let mut found = None;
        for (at, &byte) in bytes.iter().enumerate() {
            node ^= usize::from(byte);
            let Some(here) = unit(node).filter(|here| here & (1 << 31 | 0xff) == u32::from(byte)) else {
                break;
            };
            node ^= offset(here);
            if here >> 8 & 1 == 1
                && let Some(leaf) = unit(node)
            {
                found = Some((at + 1, (leaf & !(1 << 31)) as usize));
            }
        }
        let (length, from) = found?;
        let replacement = self.replacements.get(from..)?;
        Some((length, replacement.split('\0').next().unwrap_or_default()))
    }
}
