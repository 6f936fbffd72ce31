//! TensorBoard's event files: records of protobuf messages, each with its length and checksums around it.
//!
//! A record is the length of its data (u64, little-endian), the masked CRC-32C of these eight bytes (u32),
//! the data, and the masked CRC-32C of the data. The data is an `Event` of TensorFlow's `event.proto`; only
//! the fields that scalars need are declared here.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc32c::crc32c;
use prost::Message;
use s2s_runtime::files;

use super::metrics::EpochMetrics;
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// Folder within the run folder; what `tensorboard --logdir` is told.
pub(super) const FOLDER: &str = "tensorboard";
/// TensorBoard reads every file with `tfevents` in its name.
const FILE: &str = "events.out.tfevents.s2s";

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// A checksum that is safe to store beside the data that it is of: rotated and shifted, as the format asks.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn record(event: &Event) -> Vec<u8> {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(crc32c(&length)).to_le_bytes(), &data, &masked(crc32c(&data)).to_le_bytes()]
        .concat()
}

/// The whole and sound records at the beginning of a file, with the event of each.
fn records(mut bytes: &[u8]) -> Vec<(&[u8], Event)> {
    let mut found = Vec::new();
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
    while let Some((length, crc)) = bytes.get(..12).map(|head| head.split_at(8)) {
        let end = usize::try_from(number(length)).unwrap_or(usize::MAX).saturating_add(12);
        let (Some(data), Some(data_crc)) = (bytes.get(12..end), bytes.get(end..end.saturating_add(4))) else {
            break;
        };
        let sound = number(crc) == u64::from(masked(crc32c(length)))
            && number(data_crc) == u64::from(masked(crc32c(data)));
        let Some(event) = Event::decode(data).ok().filter(|_| sound) else { break };
        found.push((&bytes[..end + 4], event));
        bytes = &bytes[end + 4..];
    }
    found
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// Files and scalars of an epoch, with Keras's tags: what is of the training pairs in one, what is of the
/// validation pairs in another.
fn events(m: &EpochMetrics, wall_time: f64) -> [(&'static str, Event); 2] {
    let event = |values: &[(&str, Option<f64>)]| {
        let value = values
            .iter()
            .filter_map(|(tag, v)| {
                v.map(|v| Value { tag: format!("epoch_{tag}"), simple_value: Some(v as f32) })
            })
            .collect();
        Event { wall_time, step: m.epoch as i64, file_version: None, summary: Some(Summary { value }) }
    };
    let train = [
        ("loss", Some(m.train_loss)),
        ("accuracy", Some(m.train_accuracy)),
        ("learning_rate", m.learning_rate),
    ];
    let validation = [
        ("loss", Some(m.validation_loss)),
        ("accuracy", Some(m.validation_accuracy)),
        ("exact_match", m.exact_match),
        ("token_error_rate", m.token_error_rate),
        ("chrf", m.chrf),
        ("bleu", m.bleu),
    ];
    [("train", event(&train)), ("validation", event(&validation))]
}

fn path(run: &Path, set: &str) -> PathBuf {
    run.join(FOLDER).join(set).join(FILE)
}

/// Brings the event files of a run folder in line with its metrics: later epochs, which a crash may have
/// left, go; epochs that a crash has cost, come.
pub(super) fn align(run: &Path, metrics: &[EpochMetrics]) -> Result<()> {
    let now = now();
    for (index, set) in ["train", "validation"].into_iter().enumerate() {
        let path = path(run, set);
        let bytes = files::read_if_there(&path, files::LOG)?.unwrap_or_default();
        let last = metrics.last().map_or(0, |m| m.epoch as i64);
        let kept: Vec<_> = records(&bytes).into_iter().filter(|(_, event)| event.step <= last).collect();
        let mut text = match kept.first() {
            Some(_) => kept.iter().flat_map(|(record, _)| record.iter().copied()).collect(),
            None => record(&Event {
                wall_time: now,
                file_version: Some("brain.Event:2".to_owned()),
                ..Event::default()
            }),
        };
        let there: BTreeSet<i64> = kept.iter().map(|(_, event)| event.step).collect();
        for m in metrics.iter().filter(|m| !there.contains(&(m.epoch as i64))) {
            text.extend(record(&events(m, now)[index].1));
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        }
        write_atomically(&path, &text)?;
    }
    Ok(())
}

/// Adds an epoch to the event files; TensorBoard reads on in a file that grows.
pub(super) fn append(run: &Path, metrics: &EpochMetrics) -> Result<()> {
    for (set, event) in events(metrics, now()) {
        let path = path(run, set);
        let write = || OpenOptions::new().append(true).open(&path)?.write_all(&record(&event));
        write().map_err(|e| Error::io(&path, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn metrics(epoch: usize) -> EpochMetrics {
        let train_loss = 1.0 / epoch as f64;
        EpochMetrics {
            epoch,
            train_loss,
            validation_loss: 0.5,
            exact_match: Some(0.25),
            learning_rate: Some(1e-3),
            ..EpochMetrics::default()
        }
    }

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn records_are_byte_for_byte_those_that_tensorboard_writes() {
        let goldens: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/goldens/events.json")).unwrap();
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let version =
            Event { wall_time: 1.5, file_version: Some("brain.Event:2".to_owned()), ..Event::default() };
        assert_eq!(hex(record(&version)), goldens["version"]);
        for (set, event) in events(&metrics(3), 1_700_000_000.25) {
            assert_eq!(hex(record(&event)), goldens[set], "{set}");
        }
    }

    #[test]
    fn what_a_crash_left_or_cost_is_made_good() {
        let run = tempfile::tempdir().unwrap();
        let steps = || -> Vec<i64> {
            records(&fs::read(path(run.path(), "train")).unwrap()).iter().map(|(_, e)| e.step).collect()
        };
        let all: Vec<EpochMetrics> = (1..=4).map(metrics).collect();
        align(run.path(), &[]).unwrap();
        all.iter().for_each(|m| append(run.path(), m).unwrap());
        assert_eq!(steps(), [0, 1, 2, 3, 4]);
        let file = path(run.path(), "train");
        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..whole.len() - 3]).unwrap();
        align(run.path(), &all).unwrap();
        assert_eq!(steps(), [0, 1, 2, 3, 4]);
        align(run.path(), &all[..2]).unwrap();
        assert_eq!(steps(), [0, 1, 2]);
        fs::write(&file, &whole[1..]).unwrap();
        align(run.path(), &all).unwrap();
        assert_eq!(steps(), [0, 1, 2, 3, 4]);
    }
}
