//! Samples: rows of numbers, with a label where there is something to learn.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use s2s_runtime::bundle::sha256;
use s2s_runtime::files;

use crate::config::checked::Validation;
use crate::error::{Error, ErrorKind, Result};
use s2s_kernels::random::Random;

/// Stream of [`Random`] that splits the data; epochs have their own.
const SPLIT_STREAM: u64 = u64::MAX;
/// Most bytes of a number in a file of samples, spaces around it counted.
const LONGEST_NUMBER: usize = 64;

/// Samples as they are in the data.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// (samples, inputs).
    pub features: Vec<f32>,
    /// One a sample, where the data has labels.
    pub labels: Vec<u32>,
    /// Features of a sample.
    pub inputs: usize,
}

impl Samples {
    /// Returns the number of samples.
    pub fn len(&self) -> usize {
        self.features.len() / self.inputs.max(1)
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// Returns the features of one sample.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.features[i * self.inputs..][..self.inputs]
    }
}

/// Reads comma-separated numbers, one sample a line, gzipped or not; gives the sha256 of the file too.
///
/// With `classes` each line ends with a label below it; without, lines may have one or not, all alike.
///
/// # Errors
/// [`ErrorKind::Data`] with the line, [`ErrorKind::Io`].
pub fn read_samples(path: &Path, inputs: usize, classes: Option<usize>) -> Result<(Samples, String)> {
    let bytes = files::read(path, files::DATA)?;
    let hash = sha256(&bytes);
    let samples = if bytes.starts_with(&[0x1f, 0x8b]) {
        // Unpacked line by line: what a small file may become is bounded as a file is.
        parse_samples(
            BufReader::new(flate2::read::MultiGzDecoder::new(bytes.as_slice())),
            path,
            inputs,
            classes,
        )?
    } else {
        parse_samples(bytes.as_slice(), path, inputs, classes)?
    };
    Ok((samples, hash))
}

/// As [`read_samples`], from text, which is read line by line.
///
/// # Errors
/// [`ErrorKind::Data`] with the line, which may have 64 bytes a number; also where there are more than 4 GiB
/// in all.
pub fn parse_samples(
    mut text: impl BufRead,
    path: &Path,
    inputs: usize,
    classes: Option<usize>,
) -> Result<Samples> {
    let mut samples = Samples { inputs, ..Samples::default() };
    let longest = LONGEST_NUMBER.saturating_mul(inputs.saturating_add(16));
    let (mut line, mut total) = (Vec::new(), 0);
    for number in 1u64.. {
        line.clear();
        let read = text
            .by_ref()
            .take(longest as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(|e| Error::io(path, e))?;
        if read == 0 {
            break;
        }
        total += read as u64;
        let wrong = |message: String, help: &str| {
            Error::new(ErrorKind::Data, message).at_line(path, Some(number), None).help(help)
        };
        if line.len() > longest {
            let message = format!("the line is longer than {longest} bytes, where {inputs} features belong");
            return Err(wrong(message, "give one sample a line, numbers separated by commas"));
        }
        if total > files::DATA.limit {
            let message = format!("more than {} GiB of text, unpacked, up to here", files::DATA.limit >> 30);
            return Err(wrong(message, "is this the right file? Samples are held in memory"));
        }
        let line = String::from_utf8_lossy(&line);
        if line.trim().is_empty() {
            continue;
        }
        let mut fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let labelled = fields.len() == inputs + 1;
        if !labelled && (fields.len() != inputs || classes.is_some()) {
            let message = format!(
                "{} values, where {inputs} features{} belong",
                fields.len(),
                if classes.is_some() { " and a label" } else { "" }
            );
            return Err(wrong(message, "give one sample a line, numbers separated by commas"));
        }
        if labelled {
            let field = fields.pop().unwrap_or_default();
            let label = field.parse::<u32>().ok().filter(|&l| classes.is_none_or(|n| (l as usize) < n));
            samples.labels.push(label.ok_or_else(|| {
                wrong(
                    format!("{field:?} is no label"),
                    "labels are whole numbers from 0, below `model.classes`",
                )
            })?);
        }
        for field in fields {
            let value = field.parse::<f32>().ok().filter(|v| v.is_finite());
            samples
                .features
                .push(value.ok_or_else(|| {
                    wrong(format!("{field:?} is no number"), "features are finite numbers")
                })?);
        }
        if !samples.labels.is_empty() && samples.labels.len() != samples.len() {
            return Err(wrong(
                "some lines have a label and some have none".to_owned(),
                "make all lines alike",
            ));
        }
    }
    if samples.is_empty() {
        return Err(Error::new(ErrorKind::Data, "there is no sample in it")
            .in_file(path)
            .help("give one sample a line"));
    }
    Ok(samples)
}

/// Splits `count` samples: the positions of the training part, and those of what is held out.
///
/// # Errors
/// [`ErrorKind::Data`] where nothing is left to train on.
pub fn split(count: usize, validation: &Validation, seed: u64) -> Result<[Vec<u32>; 2]> {
    let mut order: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
    let fraction = match validation {
        &Validation::Shuffled(fraction) => {
            Random::new(seed, SPLIT_STREAM).shuffle(&mut order);
            fraction
        }
        &Validation::Tail(fraction) => fraction,
        Validation::File(_) => {
            return Err(Error::new(ErrorKind::Internal, "a perceptron has no file of validation samples"));
        }
    };
    let count = order.len();
    let held_out = ((count as f64 * fraction).round() as usize).clamp(1, count.saturating_sub(1).max(1));
    let validation = order.split_off(count - held_out);
    if order.is_empty() {
        return Err(Error::new(ErrorKind::Data, "nothing is left to train on")
            .help("give more samples, or a smaller fraction"));
    }
    Ok([order, validation])
}
