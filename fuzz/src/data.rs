//! Training data.

use std::fmt::Write as _;
use std::path::Path;

use s2s::config::checked::{Format, FormatKind};
use s2s::data::pairs;
use s2s::train::mlp;

use super::input::Input;
use super::properties::looked_at;
use super::runs::Scratch;

/// Files of pairs in either format; what is read, is written and read again as the same.
pub(crate) fn pairs(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = if input.flag() { FormatKind::Csv } else { FormatKind::Tsv };
    let (source, target) = (input.below(3), input.below(3));
    let format = Format { kind, source, target, extra_is_error: input.flag(), header: input.flag() };
    let limit = input.flag().then(|| 1 + input.below(5));
    let bytes = input.rest();
    let Some(read) = looked_at(pairs::parse(bytes, Path::new("pairs.tsv"), format, limit)) else { return };
    assert!(!read.is_empty() && limit.is_none_or(|limit| read.len() <= limit));
    let mut written = String::new();
    for pair in &read {
        assert!(!pair.source.trim().is_empty() && !pair.target.trim().is_empty());
        match kind {
            FormatKind::Tsv => _ = writeln!(written, "{}\t{}", pair.source, pair.target),
            FormatKind::Csv => {
                let quoted = [&pair.source, &pair.target].map(|text| text.replace('"', "\"\""));
                _ = writeln!(written, "\"{}\",\"{}\"", quoted[0], quoted[1]);
            }
        }
    }
    let plain = Format { kind, source: 0, target: 1, extra_is_error: true, header: false };
    // A mark at the very beginning would be taken for that of the encoding, a CR before the end of a line for a part of that.
    let returns = kind == FormatKind::Tsv && read.iter().any(|pair| pair.target.ends_with('\r'));
    if !written.starts_with('\u{feff}') && !returns {
        let again = looked_at(pairs::parse(written.as_bytes(), Path::new("pairs.tsv"), plain, None));
        assert_eq!(again.as_ref(), Some(&read));
    }
}

/// Files of samples for a perceptron, gzipped or not.
pub(crate) fn samples(data: &[u8]) {
    let mut input = Input::new(data);
    let (inputs, classes) = (1 + input.below(6), input.flag().then(|| 2 + input.below(5)));
    let bytes = input.rest();
    let path = Scratch::shared().file("samples.csv", bytes);
    let read = looked_at(mlp::read_samples(&path, inputs, classes));
    if let Some((samples, hash)) = &read {
        assert_eq!((samples.features.len(), hash.len()), (samples.len() * inputs, 64));
        assert!(samples.features.iter().all(|value| value.is_finite()));
        assert!(classes.is_none_or(|classes| samples.labels.iter().all(|&label| (label as usize) < classes)));
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && !bytes.starts_with(&[0x1f, 0x8b])
    {
        let parsed = looked_at(mlp::parse_samples(text.as_bytes(), Path::new("samples.csv"), inputs, classes));
        assert_eq!(parsed.map(|samples| samples.labels), read.map(|(samples, _)| samples.labels));
    }
}
