//! Training data.

use std::fmt::Write as _;
use std::path::Path;

use s2s::config::checked::{Extra, Format, FormatKind};
use s2s::data::{formats, reading, samples};

use super::input::Input;
use super::properties::looked_at;
use super::runs::Scratch;

/// Files of pairs in either format; what is read, is written and read again as the same.
pub(crate) fn pairs(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = match input.below(4) {
        0 => FormatKind::Separated("\t".to_owned()),
        1 => FormatKind::Separated((*input.pick(&["  ", ";", " ||| "])).to_owned()),
        2 => FormatKind::Csv(*input.pick(b",;\t")),
        _ => FormatKind::Jsonl(input.flag().then(|| ["en".to_owned(), "fr".to_owned()])),
    };
    let (source, target) = (input.below(3), input.below(3));
    let extra = *input.pick(&[Extra::Error, Extra::Ignore, Extra::Join]);
    let comment = input.flag().then(|| "#".to_owned());
    let format =
        Format { kind, source, target, extra, header: input.flag(), skip_empty: input.flag(), comment };
    let limit = input.flag().then(|| 1 + input.below(5));
    let bytes = input.rest();
    let Some(read) = looked_at(formats::parse(bytes, Path::new("pairs.tsv"), &format, limit)) else { return };
    assert!(!read.is_empty() && limit.is_none_or(|limit| read.len() <= limit));
    let mut written = String::new();
    for (source, target) in read.iter() {
        assert!(!source.trim().is_empty() && !target.trim().is_empty());
        let quoted = [source, target].map(|text| text.replace('"', "\"\""));
        _ = writeln!(written, "\"{}\",\"{}\"", quoted[0], quoted[1]);
    }
    let plain = Format { kind: FormatKind::Csv(b','), ..Format::default() };
    // A mark at the very beginning would be taken for that of the encoding.
    if written.len() < reading::LONGEST_LINE && !read.get(0).0.starts_with('\u{feff}') {
        let again = looked_at(formats::parse(written.as_bytes(), Path::new("pairs.tsv"), &plain, None))
            .unwrap_or_default();
        assert!(again.iter().eq(read.iter()), "{again:?} {read:?}");
    }
}

/// Files of samples for a perceptron, gzipped or not.
pub(crate) fn samples(data: &[u8]) {
    let mut input = Input::new(data);
    let (inputs, classes) = (1 + input.below(6), input.flag().then(|| 2 + input.below(5)));
    let bytes = input.rest();
    let path = Scratch::shared().file("samples.csv", bytes);
    let read = looked_at(samples::read_samples(&path, inputs, classes));
    if let Some((samples, hash)) = &read {
        assert_eq!((samples.features.len(), hash.len()), (samples.len() * inputs, 64));
        assert!(samples.features.iter().all(|value| value.is_finite()));
        assert!(classes.is_none_or(|classes| samples.labels.iter().all(|&label| (label as usize) < classes)));
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && !bytes.starts_with(&[0x1f, 0x8b])
    {
        let parsed =
            looked_at(samples::parse_samples(text.as_bytes(), Path::new("samples.csv"), inputs, classes));
        assert_eq!(parsed.map(|samples| samples.labels), read.map(|(samples, _)| samples.labels));
    }
}
