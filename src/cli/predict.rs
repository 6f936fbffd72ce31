//! `s2s predict`: rows of numbers in, classes out.

use std::io::{BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use s2s_runtime::engine::EngineKind;
use s2s_runtime::printable;
use sha2::{Digest, Sha256};

use crate::cli::translate::engine_kind;
use crate::cli::{Global, bundles, terminal};
use crate::data::samples::{parse_samples, read_samples};
use crate::error::{Error, ErrorKind, Result};
use crate::export::{FeatureBundle, best};
use crate::network::perceptron::Mlp;

/// Predict classes with a perceptron's bundle
///
/// Reads rows of comma-separated numbers and prints a class for each. Where the rows end with a label, the
/// accuracy is said on stderr, and so is whether the file is the one that the model was trained on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder that `s2s export` wrote from a run of `model.kind: mlp`
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
    /// A file of rows, gzipped or not [default: stdin]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// What runs the graph: auto, tract or ort
    #[arg(long, env = "S2S_ENGINE", default_value = "auto", value_parser = engine_kind)]
    engine: EngineKind,
}

/// Rows that run together.
const BATCH: usize = 256;

/// Runs `s2s predict`.
pub fn run(args: &Args, global: &Global) -> Result<()> {
    if !FeatureBundle::<Mlp>::exists(&args.bundle) {
        let (message, help) = bundles::what_it_is(&args.bundle).unwrap_or_else(|| {
            let help = "`s2s translate` runs bundles of sequence models; `s2s config init --template \
                mlp-mnist` starts a perceptron";
            ("this is no bundle of a perceptron".to_owned(), help.to_owned())
        });
        return Err(Error::new(ErrorKind::Usage, message).in_file(&args.bundle).help(help));
    }
    let bundle = FeatureBundle::<Mlp>::open(&args.bundle)?;
    let a = &bundle.manifest.architecture;
    let (samples, hash) = match &args.file {
        Some(path) => read_samples(path, a.inputs, None)?,
        None => {
            if std::io::stdin().is_terminal() && !global.quiet {
                eprintln!("Type rows of {} numbers with commas between them; Ctrl-D ends.", a.inputs);
            }
            let mut hashed = BufReader::new(Hashed { inner: std::io::stdin().lock(), hash: Sha256::new() });
            let samples = parse_samples(&mut hashed, Path::new("stdin"), a.inputs, None)?;
            (samples, hashed.into_inner().hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
        }
    };
    let learnt = bundle
        .manifest
        .provenance
        .iter()
        .flat_map(|provenance| &provenance.data)
        .find(|data| data.sha256 == hash);
    let mut graph = bundle.load(args.engine)?;
    let mut stdout = std::io::stdout().lock();
    let mut right = 0;
    for (batch, features) in samples.features.chunks(BATCH * a.inputs).enumerate() {
        let probabilities = bundle.run(&mut *graph, features)?.swap_remove(1);
        for (i, (class, row)) in
            best(&probabilities, a.classes).into_iter().zip(probabilities.chunks_exact(a.classes)).enumerate()
        {
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
    if let Some(data) = learnt.filter(|_| !global.quiet) {
        let colours = terminal::stderr_has_colours();
        eprintln!(
            "{} these are the rows that it was trained on ({}): they do not tell how well it does on others",
            terminal::paint("1;33", "warning:", colours),
            printable::line(&data.file)
        );
    }
    Ok(())
}

/// What was read, with its sha256.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}
