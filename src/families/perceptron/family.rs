//! What the commands ask of perceptrons.

use std::path::Path;

use super::dataset::SampleSource;
use super::record::Run;
use crate::config::LoadOptions;
use crate::config::experiment::Experiment;
use crate::config::mlp::MlpConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::export::mlp::{MlpBundle, export_mlp, verify_mlp};
use crate::export::{Report as Verified, VerifyOptions};
use crate::families::family::{Checked, Export, Exported, Family, Training};
use crate::network::perceptron::Mlp;
use crate::onnx::DEFAULT_OPSET;
use crate::train::{self, Report};

/// The family of perceptrons.
#[derive(Clone, Copy, Debug)]
pub struct PerceptronFamily;

impl Family for PerceptronFamily {
    fn kind(&self) -> &'static str {
        "mlp"
    }

    fn check(&self, file: &Path, load: &LoadOptions) -> Result<Checked> {
        let config = MlpConfig::load(file, load)?;
        let missing = Some(config.train).filter(|path| !path.exists());
        Ok(Checked { name: config.name, data: Vec::new(), missing })
    }

    fn show(&self, file: &Path, load: &LoadOptions) -> Result<serde_json::Value> {
        Ok(MlpConfig::load(file, load)?.to_json())
    }

    fn train(&self, training: &Training<'_>, report: &mut dyn Report) -> Result<()> {
        if let Some(init_from) = &training.init_from {
            let error =
                Error::new(ErrorKind::Usage, "a perceptron cannot start from the weights of another run")
                    .in_file(&init_from.path);
            return Err(error.help("leave --init-from out"));
        }
        let config = MlpConfig::load(training.config, training.load)?;
        let options = training.options(None, &config.name);
        let sizes = [config.architecture.inputs, config.architecture.classes];
        let (validation, seed) = (&config.validation, config.training.seed);
        let source = SampleSource::read(&config.train, &config.folder, sizes, validation, seed)?;
        train::train::<Mlp, _>(config, source, &options, report).map(drop)
    }

    fn export(&self, run: &Path, wanted: &Export, _: &mut dyn FnMut(String)) -> Result<Exported> {
        wanted.only_of_sequences()?;
        let run = Run::open(run)?;
        let name = &run.config.name;
        let place = wanted.place(name)?;
        let parameters = run.parameters(wanted.checkpoint)?;
        let report = export_mlp(
            &run.network,
            &parameters,
            name,
            run.provenance(wanted.checkpoint)?,
            wanted.opset.unwrap_or(DEFAULT_OPSET),
            &wanted.verification,
            &place,
            &wanted.replace(name),
        );
        let report = report.map_err(|error: Error| error.in_file(&place))?;
        let next = format!("s2s predict {} FILE.csv", place.display());
        Ok(Exported { place, report, next })
    }

    fn is_bundle(&self, path: &Path) -> bool {
        MlpBundle::exists(path)
    }

    fn verify(&self, bundle: &Path, options: &VerifyOptions, write: bool) -> Result<Verified> {
        if !options.runtimes.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "--runtimes checks bundles of sequence models")
                .help("this one is a classifier; leave it out"));
        }
        verify_mlp(bundle, options, write)
    }
}
