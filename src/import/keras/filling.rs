//! What short sources of a model are filled up with, as the model and the options say.

use s2s_runtime::vocabulary::Padding;

use super::options::{Filling, Options};
use super::parts::{Masked, Model};
use super::vocabulary::{Filler, Symbols, unused};
use crate::error::{Error, ErrorKind, Result};

/// Finds what sources are filled up with; `None` where texts were never padded, or padding is masked.
///
/// # Errors
/// [`ErrorKind::Usage`] if options and model contradict each other, or nothing says up to which length.
pub(super) fn filling(options: &Options, model: &Model, symbols: &Symbols) -> Result<Option<Filler>> {
    let usage = |message: String, help: &str| {
        Err(Error::new(ErrorKind::Usage, message).in_file(&options.model).help(help.to_owned()))
    };
    let one_hot = model.encoder.embedding.is_none();
    let kind = match &options.filling {
        Filling::Auto if model.encoder.masked != Masked::Nothing => &Filling::Nothing,
        Filling::Auto if one_hot => &Filling::Zeros,
        Filling::Auto => &Filling::IdZero,
        given => given,
    };
    if model.encoder.masked != Masked::Nothing && *kind != Filling::Nothing {
        return usage(
            "the model masks padding, so that its encoder never reads any".to_owned(),
            "leave --padding out",
        );
    }
    if model.attention.is_some() && *kind != Filling::Nothing {
        return usage(
            "the model's attention reads padding, which no graph of such a network can fill up with"
                .to_owned(),
            "--padding none if its texts were of one length; else train it with mask_zero=True, which keeps \
            attention off padding",
        );
    }
    let (symbol, row) = match kind {
        Filling::Auto | Filling::Nothing => return Ok(None),
        Filling::Zeros if !one_hot => {
            return usage(
                "an embedding has no row of zeros".to_owned(),
                "--padding id-0 is what zeros in a matrix of ids stand for",
            );
        }
        Filling::Zeros => (None, None),
        Filling::IdZero => {
            (symbols.source.iter().find(|(_, row)| *row == 0).map(|(symbol, _)| symbol.clone()), Some(0))
        }
        Filling::Symbol(symbol) => match symbols.source.iter().find(|(known, _)| known == symbol) {
            Some((symbol, row)) => (Some(symbol.clone()), Some(*row)),
            None => {
                return usage(
                    format!("{symbol:?} is no symbol of the source vocabulary"),
                    "--padding-symbol names one of its symbols",
                );
            }
        },
    };
    let Some(length) = options.source_length.or(Some(symbols.longest_source).filter(|&length| length > 0))
    else {
        return usage(
            "the model's encoder reads padding, and nothing says up to which length".to_owned(),
            "give --source-length (the tutorial's max_encoder_seq_length) or `longest_source` in the \
             vocabulary; --padding none if texts were never padded",
        );
    };
    let name = symbol.clone().unwrap_or_else(|| unused(&symbols.source));
    Ok(Some(Filler { symbol, row, padding: Padding { symbol: name, length, least: 0, side: options.side } }))
}
