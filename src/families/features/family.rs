//! What the commands ask of networks from features to classes.

use std::marker::PhantomData;
use std::path::Path;

use super::classifier::Classifier;
use super::dataset::SampleSource;
use crate::config::LoadOptions;
use crate::config::experiment::Experiment;
use crate::config::samples::{SampleConfig, SampleModel};
use crate::error::{Error, ErrorKind, Result};
use crate::export::{
    FeatureBundle, FeatureInput, Report as Verified, VerifyOptions, export_features, verify_features,
};
use crate::families::family::{Checked, Export, Exported, Family, Training};
use crate::onnx::DEFAULT_OPSET;
use crate::train::{self, Report, Run};

/// The family of the networks `N`.
#[derive(Clone, Copy, Debug)]
pub struct FeatureFamily<N>(PhantomData<fn() -> N>);

impl<N> FeatureFamily<N> {
    /// The family, for the registry.
    pub const NEW: Self = Self(PhantomData);
}

impl<N: Classifier> Family for FeatureFamily<N> {
    fn kind(&self) -> &'static str {
        N::KIND
    }

    fn check(&self, file: &Path, load: &LoadOptions) -> Result<Checked> {
        let config = SampleConfig::<N::Architecture>::load(file, load)?;
        let missing = Some(config.train).filter(|path| !path.exists());
        Ok(Checked { name: config.name, data: Vec::new(), missing })
    }

    fn show(&self, file: &Path, load: &LoadOptions) -> Result<serde_json::Value> {
        Ok(SampleConfig::<N::Architecture>::load(file, load)?.to_json())
    }

    fn train(&self, training: &Training<'_>, report: &mut dyn Report) -> Result<()> {
        if let Some(init_from) = &training.init_from {
            let message = format!("{} cannot start from the weights of another run", N::Architecture::NOUN);
            let error = Error::new(ErrorKind::Usage, message).in_file(&init_from.path);
            return Err(error.help("leave --init-from out"));
        }
        let config = SampleConfig::load(training.config, training.load)?;
        let options = training.options(None, &config.name);
        let source = SampleSource::read(&config)?;
        train::train::<N, _>(config, source, &options, report).map(drop)
    }

    fn export(&self, run: &Path, wanted: &Export, _: &mut dyn FnMut(String)) -> Result<Exported> {
        wanted.only_of_sequences()?;
        let run = Run::<N>::open(run)?;
        let name = &run.config.name;
        let place = wanted.place(name)?;
        let input = FeatureInput {
            network: &run.network,
            parameters: &run.parameters(wanted.checkpoint)?,
            name,
            provenance: Some(run.provenance(wanted.checkpoint)?),
        };
        let opset = wanted.opset.unwrap_or(DEFAULT_OPSET);
        let report = export_features(&input, opset, &wanted.verification, &place, &wanted.replace(name))
            .map_err(|error: Error| error.in_file(&place))?;
        let next = format!("s2s predict {} FILE.csv", place.display());
        Ok(Exported { place, report: Some(report), next })
    }

    fn is_bundle(&self, path: &Path) -> bool {
        FeatureBundle::<N>::exists(path)
    }

    fn verify(&self, bundle: &Path, options: &VerifyOptions, write: bool) -> Result<Verified> {
        if !options.runtimes.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "--runtimes checks bundles of sequence models")
                .help("this one is a classifier; leave it out"));
        }
        verify_features::<N>(bundle, options, write)
    }
}
