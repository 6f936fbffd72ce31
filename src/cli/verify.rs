//! `s2s verify`: holds a bundle against the network and the engines.

use std::path::PathBuf;

use s2s_runtime::engine::{Device, EngineKind};
use s2s_runtime::{files, printable};

use crate::cli::translate::engine_kind;
use crate::cli::{Global, terminal};
use crate::error::{Error, ErrorKind, Result};
use crate::export::verify::Outcome;
use crate::export::verify::runtimes::Runtime;
use crate::export::{Report, VerifyOptions};
use crate::families;

/// Check a bundle: every graph in every engine against the network
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder that `s2s export` or `optimum-cli export onnx` wrote, or a zip of it
    #[arg(value_name = "DIR")]
    pub bundle: PathBuf,
    #[allow(missing_docs)] // A doc comment would become help text.
    #[command(flatten)]
    pub checks: CheckArgs,
    /// Check these runtimes too, where they are installed: all, or some of onnxruntime, reference, openvino,
    /// mnn, iree, opencv, onnxruntime-node, onnxruntime-web
    #[arg(long, value_name = "LIST", env = "S2S_RUNTIMES", value_delimiter = ',')]
    pub runtimes: Vec<String>,
    /// Where the graphs are checked too, beside the processor: cpu, cuda (ONNX Runtime with its CUDA provider)
    /// or auto, which is cuda where that works
    #[arg(long, env = "S2S_DEVICE", default_value = "cpu")]
    pub device: Device,
    /// Leave the bundle's conformance.json as it is
    #[arg(long, env = "S2S_NO_WRITE")]
    pub no_write: bool,
}

/// Flags that say how a bundle is checked; shared with `s2s export`.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// Source texts to decode, one a line [default: random ones]
    #[arg(long, value_name = "FILE", env = "S2S_TEXTS")]
    pub texts: Option<PathBuf>,
    /// Random sources to decode where no texts are given; for models from elsewhere at most 32
    #[arg(long, value_name = "N", default_value_t = 128, env = "S2S_RANDOM", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub random: u32,
    /// Seed of the random sources
    #[arg(long, default_value_t = 0, env = "S2S_SEED")]
    pub seed: u64,
    /// Decode with so many beams too, and compare batches and engines
    #[arg(long, value_name = "N", env = "S2S_BEAM", value_parser = clap::value_parser!(u16).range(2..=1024))]
    pub beam: Option<u16>,
    /// Largest error of states and probabilities [default: 1e-5, or 8 times what the trainer's f32 is off
    /// from f64]
    #[arg(long, value_name = "ERROR", env = "S2S_ATOL", value_parser = atol)]
    pub atol: Option<f32>,
    /// Fail if this engine is not available (tract or ort); may be repeated
    #[arg(long, value_name = "ENGINE", env = "S2S_REQUIRE_ENGINE", value_delimiter = ',', value_parser = engine_kind)]
    pub require_engine: Vec<EngineKind>,
}

fn atol(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err("must be a number above 0, for example 1e-5".to_owned())
    }
}

impl CheckArgs {
    /// The options that the flags stand for; reads the texts.
    pub(super) fn options(&self) -> Result<VerifyOptions> {
        let texts = self
            .texts
            .as_ref()
            .map(|path| {
                let text = files::read_text(path, files::DATA)?;
                let lines: Vec<String> =
                    text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
                if lines.is_empty() {
                    return Err(Error::new(ErrorKind::Data, "there is no text in it")
                        .in_file(path)
                        .help("give one source text a line"));
                }
                Ok(lines)
            })
            .transpose()?;
        Ok(VerifyOptions {
            texts,
            random: self.random as usize,
            seed: self.seed,
            require: self.require_engine.clone(),
            device: Device::Cpu,
            beams: self.beam.map(usize::from),
            runtimes: Vec::new(),
            atol: self.atol,
        })
    }
}

/// In the colour of an outcome: green, red, yellow.
fn paint(outcome: Outcome, text: &str, colours: bool) -> String {
    let code = match outcome {
        Outcome::Passed => "32",
        Outcome::Failed => "1;31",
        Outcome::Skipped => "33",
    };
    terminal::paint(code, text, colours)
}

/// Prints a report: JSON on stdout if asked for, else the table; failures alone when told to be quiet.
pub(super) fn show(report: &Report, global: &Global) -> Result<()> {
    if global.json {
        print!("{}", printable::json(&report.to_json()?));
    } else if !global.quiet {
        let colours = terminal::stdout_has_colours();
        for line in printable::lines(&report.table_within(terminal::stdout_width())).lines() {
            let mark = [Outcome::Passed, Outcome::Failed, Outcome::Skipped].into_iter().find(|outcome| {
                line.strip_prefix(' ')
                    .and_then(|line| line.strip_prefix(outcome.mark()))
                    .is_some_and(|rest| rest.starts_with(' '))
            });
            match mark {
                Some(mark) => {
                    println!(" {}{}", paint(mark, mark.mark(), colours), &line[1 + mark.mark().len()..]);
                }
                None => println!("{line}"),
            }
        }
        let outcome = if report.passed { Outcome::Passed } else { Outcome::Failed };
        println!("\n{}", paint(outcome, &printable::line(&report.verdict()), colours));
    }
    Ok(())
}

/// Runs `s2s verify`.
pub fn run(args: Args, global: &Global) -> Result<()> {
    let bundle = args.bundle.clone();
    let report = verify(args)?;
    show(&report, global)?;
    report.check().map_err(|error| error.in_file(bundle))
}

/// The same without a word. A check that fails is no error.
///
/// # Errors
/// What is wrong with arguments and bundle.
pub fn verify(args: Args) -> Result<Report> {
    let mut options = args.checks.options()?;
    options.device = args.device;
    for name in &args.runtimes {
        options.runtimes.extend(Runtime::parse(name)?);
    }
    families::of_bundle(&args.bundle).verify(&args.bundle, &options, !args.no_write)
}
