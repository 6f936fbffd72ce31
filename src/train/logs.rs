//! What a training writes for its readers: `curves.svg`, and `metrics.csv` and event files where the config
//! asks for them.
//!
//! All of it follows from `metrics.jsonl`, so that a resumed run writes what an undisturbed one writes.

use std::path::Path;

use super::metrics::{self, EpochMetrics};
use super::{curves, tensorboard};
use crate::config::training::Training;
use crate::error::{Error, ErrorKind, Result};
use crate::files::write_atomically;

/// `csv_logger`.
const CSV: &str = "metrics.csv";
const CURVES: &str = "curves.svg";

/// Before the first epoch of a training, new or resumed.
pub(super) fn begin(run: &Path, training: &Training, metrics: &Path) -> Result<()> {
    if training.tensorboard { tensorboard::align(run, &metrics::read(metrics)?) } else { Ok(()) }
}

/// After an epoch.
pub(super) fn epoch(run: &Path, name: &str, training: &Training, metrics: &Path) -> Result<()> {
    let all = metrics::read(metrics)?;
    if let (true, Some(last)) = (training.tensorboard, all.last()) {
        tensorboard::append(run, last)?;
    }
    if training.csv_logger {
        write_atomically(&run.join(CSV), &csv(&all)?)?;
    }
    write_atomically(&run.join(CURVES), curves::svg(name, &all).as_bytes())
}

/// Takes away what an older run left in a folder.
pub(super) fn remove(run: &Path) -> Result<()> {
    let gone = |path: &Path, result: std::io::Result<()>| match result {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    };
    for file in [CSV, CURVES] {
        let path = run.join(file);
        gone(&path, std::fs::remove_file(&path))?;
    }
    let events = run.join(tensorboard::FOLDER);
    gone(&events, std::fs::remove_dir_all(&events))
}

/// A line an epoch, a column a figure; empty where it was not measured.
fn csv(all: &[EpochMetrics]) -> Result<Vec<u8>> {
    let internal = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Internal, "the metrics cannot be written as CSV").caused_by(e)
    };
    let rows: Vec<serde_json::Map<String, serde_json::Value>> = all
        .iter()
        .map(|m| serde_json::from_value(serde_json::to_value(m)?))
        .collect::<Result<_, serde_json::Error>>()
        .map_err(|e| internal(e.into()))?;
    let mut columns: Vec<&String> = Vec::new();
    for row in &rows {
        let mut at = 0;
        for key in row.keys() {
            // A figure that comes later stands where its own line has it.
            at = columns.iter().position(|c| *c == key).unwrap_or_else(|| {
                columns.insert(at, key);
                at
            }) + 1;
        }
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&columns).map_err(|e| internal(e.into()))?;
    for row in &rows {
        let cells = columns.iter().map(|c| row.get(*c).map_or_else(String::new, ToString::to_string));
        writer.write_record(cells).map_err(|e| internal(e.into()))?;
    }
    writer.into_inner().map_err(|e| internal(e.to_string().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_comes_where_its_figure_stands_and_is_empty_where_it_was_not_measured() -> Result<()> {
        let metrics = |epoch, exact_match| EpochMetrics {
            epoch,
            exact_match,
            best: epoch == 1,
            validation_loss_padded: Some(0.0),
            ..EpochMetrics::default()
        };
        let text = String::from_utf8(csv(&[metrics(1, None), metrics(2, Some(0.25))])?).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let head = "epoch,step,train_loss,train_accuracy,validation_loss,validation_accuracy,validation_loss_padded,exact_match,best,";
        assert!(lines.len() == 3 && lines[0].starts_with(head), "{text}");
        assert!(
            lines[1].starts_with("1,0,0.0,0.0,0.0,0.0,0.0,,true,")
                && lines[2].starts_with("2,0,0.0,0.0,0.0,0.0,0.0,0.25,false,"),
            "{text}"
        );
        Ok(())
    }
}
