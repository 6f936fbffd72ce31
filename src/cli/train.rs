//! `s2s train`: a config to a run folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::Global;
use crate::config::LoadOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::families::{self, Training};
use crate::train::{Console, InitFrom, Mode, Report};

/// Train a model as a config says
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A config, for example configs/dates.yaml; with --resume also a run folder
    #[arg(value_name = "CONFIG")]
    pub config: PathBuf,
    /// The run folder [default: the config's `output`, else runs/NAME]
    #[arg(short, long, value_name = "DIR", env = "S2S_OUTPUT")]
    pub output: Option<PathBuf>,
    /// Where the data files lie [default: the config's `data.folder`, else the config's folder]
    #[arg(long, value_name = "DIR", env = "S2S_DATA")]
    pub data: Option<PathBuf>,
    /// Lay a value over the config, for example --set training.epochs=3; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", env = "S2S_SET", value_delimiter = None)]
    pub set: Vec<String>,
    /// Start from the weights and vocabularies of another run: its folder (the best epoch) or one of its
    /// checkpoints; the optimiser starts anew
    #[arg(long, value_name = "RUN", env = "S2S_INIT_FROM", conflicts_with = "resume")]
    pub init_from: Option<PathBuf>,
    /// Give symbols of the new pairs that those vocabularies lack ids, after the old ones, which stay; else
    /// they are unknown
    #[arg(long, env = "S2S_EXTEND_VOCABULARY", requires = "init_from")]
    pub extend_vocabulary: bool,
    /// Go on with the run where it stopped, bit for bit
    #[arg(long, env = "S2S_RESUME", conflicts_with = "force")]
    pub resume: bool,
    /// Start over, replacing the run that is in the folder
    #[arg(long, env = "S2S_FORCE")]
    pub force: bool,
}

/// Runs `s2s train`.
pub fn run(args: Args, global: &Global) -> Result<()> {
    train(args, &*stop_flag()?, &mut Console::new(global.json, global.quiet))
}

/// The same for any listener.
///
/// - `stop`: once it is set, the training finishes its step, saves and stops.
///
/// # Errors
/// What is wrong with arguments, config and data; of the training.
pub fn train(args: Args, stop: &AtomicBool, report: &mut dyn Report) -> Result<()> {
    let options = LoadOptions { overrides: args.set, data: args.data };
    let mode = mode(args.resume, args.force);
    let folder = args.config.is_dir();
    if folder && mode != Mode::Resume {
        return Err(Error::new(ErrorKind::Usage, "this is a folder, not a config")
            .in_file(&args.config)
            .help("name a YAML file, or add --resume to go on with the run in this folder"));
    }
    let file = if folder { args.config.join("config.yaml") } else { args.config.clone() };
    let training = Training {
        config: &file,
        load: &options,
        output: args.output.or_else(|| folder.then(|| args.config.clone())),
        mode,
        init_from: args.init_from.map(|path| InitFrom { path, extend_vocabulary: args.extend_vocabulary }),
        stop,
    };
    families::of_config(&file, &options).train(&training, report)
}

/// The mode that the flags stand for; they exclude each other.
pub(crate) fn mode(resume: bool, force: bool) -> Mode {
    match (resume, force) {
        (true, _) => Mode::Resume,
        (_, true) => Mode::Force,
        _ => Mode::New,
    }
}

/// A flag that SIGINT and SIGTERM set; a second signal ends the process at once.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order, so that the first signal finds the flag unset.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|e| Error::new(ErrorKind::Internal, "signals cannot be caught").caused_by(e))?;
    }
    Ok(stop)
}
