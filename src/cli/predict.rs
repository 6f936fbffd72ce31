//! `s2s predict`: rows of numbers in, classes out.

use std::io::Write;
use std::path::{Path, PathBuf};

use s2s_runtime::engine::EngineKind;

use crate::cli::Global;
use crate::error::{Error, ErrorKind, Result};
use crate::export::mlp::{MlpBundle, best, predict};
use crate::train::mlp::{parse_samples, read_samples};

/// Predict classes with a perceptron's bundle
///
/// Reads rows of comma-separated numbers and prints a class for each. Where the rows end with a label, the accuracy is
/// said on stderr.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder that `s2s export` wrote from a run of `model.kind: mlp`
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
    /// A file of rows, gzipped or not [default: stdin]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// What runs the graph: auto, tract or ort
    #[arg(long, env = "S2S_ENGINE", default_value = "auto")]
    engine: EngineKind,
}

/// Rows that run together.
const BATCH: usize = 256;

/// Runs `s2s predict`.
pub fn run(args: &Args, global: &Global) -> Result<()> {
    if !MlpBundle::exists(&args.bundle) {
        let error = Error::new(ErrorKind::Usage, "this is no bundle of a perceptron").in_file(&args.bundle);
        return Err(error.help("`s2s translate` runs sequence-to-sequence bundles; configs/mlp_mnist.yaml trains a perceptron"));
    }
    let bundle = MlpBundle::open(&args.bundle)?;
    let a = &bundle.manifest.architecture;
    let samples = match &args.file {
        Some(path) => read_samples(path, a.inputs, None)?.0,
        None => parse_samples(std::io::stdin().lock(), Path::new("stdin"), a.inputs, None)?,
    };
    let mut graph = bundle.load(args.engine)?;
    let mut stdout = std::io::stdout().lock();
    let mut right = 0;
    for (batch, features) in samples.features.chunks(BATCH * a.inputs).enumerate() {
        let [_, probabilities] = predict(&mut *graph, features, a.inputs)?;
        for (i, (class, row)) in best(&probabilities, a.classes).into_iter().zip(probabilities.chunks_exact(a.classes)).enumerate() {
            let label = samples.labels.get(batch * BATCH + i);
            right += usize::from(label.is_some_and(|&l| l as usize == class));
            let line = if global.json {
                serde_json::json!({ "class": class, "probability": row[class], "probabilities": row, "label": label }).to_string()
            } else {
                class.to_string()
            };
            writeln!(stdout, "{line}").map_err(|e| Error::io("stdout", e))?;
        }
    }
    if !samples.labels.is_empty() && !global.quiet {
        let share = 100.0 * right as f64 / samples.len() as f64;
        eprintln!("{right} of {} labels are right: {share:.2} %", samples.len());
    }
    Ok(())
}
