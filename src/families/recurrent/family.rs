//! What the commands ask of encoder-decoders.

use std::path::{Path, PathBuf};

use super::dataset;
use super::export;
use super::record::Run;
use crate::config::checked::{DataOrigin, Validation};
use crate::config::{Config, LoadOptions};
use crate::data::Corpus;
use crate::error::Result;
use crate::export::{Report as Verified, VerifyOptions, verify_path};
use crate::families::family::{Checked, Export, Exported, Family, Training};
use crate::train::Report;

/// The family of encoder-decoders; configs that name no kind are its own.
#[derive(Clone, Copy, Debug)]
pub struct RecurrentFamily;

impl Family for RecurrentFamily {
    fn kind(&self) -> &'static str {
        "seq2seq"
    }

    fn is_default(&self) -> bool {
        true
    }

    fn check(&self, file: &Path, load: &LoadOptions) -> Result<Checked> {
        let config = Config::load(file, load)?;
        let missing = missing(&config);
        let mut data = Vec::new();
        if missing.is_none() {
            let corpus = Corpus::load(&config.data, config.training.seed, &mut |_, _, _| ())?;
            data = corpus.reports(&config.data, &mut |_, _, _| ());
        }
        Ok(Checked { name: config.name, data, missing })
    }

    fn show(&self, file: &Path, load: &LoadOptions) -> Result<serde_json::Value> {
        Ok(Config::load(file, load)?.to_json())
    }

    fn train(&self, training: &Training<'_>, report: &mut dyn Report) -> Result<()> {
        let config = Config::load(training.config, training.load)?;
        let options = training.options(config.output.as_deref(), &config.name);
        dataset::train(config, &options, report).map(drop)
    }

    fn export(&self, run: &Path, wanted: &Export, say: &mut dyn FnMut(String)) -> Result<Exported> {
        export::export(&Run::open(run)?, wanted, say)
    }

    /// Zips are bundles too, and what is none gets its error from the reader of bundles.
    fn is_bundle(&self, _: &Path) -> bool {
        true
    }

    fn verify(&self, bundle: &Path, options: &VerifyOptions, write: bool) -> Result<Verified> {
        verify_path(bundle, options, write)
    }
}

/// The first file of data that is not there.
fn missing(config: &Config) -> Option<PathBuf> {
    let DataOrigin::Files(files) = &config.data.origin else { return None };
    let dev = if let Validation::File(path) = &files.validation { Some(path) } else { None };
    std::iter::once(&files.train).chain(dev).find(|path| !path.exists()).cloned()
}
