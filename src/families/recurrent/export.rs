//! From a run on texts to a bundle.

use s2s_runtime::bundle::Bundle;
use s2s_runtime::manifest::{MOST_EXAMPLES, Provenance};

use super::candidates::{Candidate, spread};
use super::record::Run;
use crate::data::groups::{Group, group};
use crate::data::{Corpus, Part, formats};
use crate::error::{Error, ErrorKind, Result};
use crate::export::{self, Dtype, ExportInput, ExportOptions, Report, Target};
use crate::families::family::{Export, Exported, Format, Layout};
use crate::network::Parameters;
use crate::onnx::DEFAULT_OPSET;
use crate::score::comparison::compare;
use crate::score::decode;

impl Run {
    /// Gathers what the exporter needs, with `parameters` of this run.
    pub fn export_input<'a>(
        &'a self,
        parameters: &'a Parameters<f32>,
        provenance: Option<Provenance>,
    ) -> ExportInput<'a> {
        ExportInput {
            network: &self.network,
            parameters,
            source: &self.record.source,
            target: &self.record.target,
            name: &self.config.name,
            decoding: self.config.decoding.clone(),
            provenance,
        }
    }
}

/// Exports a run as it was asked for.
pub(super) fn export(run: &Run, wanted: &Export, say: &mut dyn FnMut(String)) -> Result<Exported> {
    let name = &run.config.name;
    let place = wanted.place(name)?;
    let parameters = run.parameters(wanted.checkpoint)?;
    let input = run.export_input(&parameters, Some(run.provenance(wanted.checkpoint)?));
    if wanted.format == Format::Pytorch {
        wanted.only_of_graphs()?;
        export::write_pytorch(&place, &input, wanted.force).map_err(|error| error.in_file(&place))?;
        let next = format!("python {} --help", place.join("train.py").display());
        return Ok(Exported { place, report: None, next });
    }
    let mut options = ExportOptions {
        io: wanted.io,
        opset: wanted.opset.unwrap_or(DEFAULT_OPSET),
        dtype: wanted.dtype,
        encoder_form: wanted.encoder_form,
        fused: wanted.fused,
        ..ExportOptions::default()
    };
    options.examples = match &wanted.examples {
        Some(examples) => examples.clone(),
        None => choose(&input, &run.record.examples),
    };
    if let Some(name) = &wanted.target {
        let target: &Target = name.parse()?;
        options = target.fit(&run.network, options, wanted.opset)?;
        say(target.describe(options.opset).clone());
    }
    if wanted.dtype != Dtype::F32 {
        let pairs = dev_pairs(wanted, run)?;
        let comparison = compare(&input, &options, &group(&pairs, &run.record.source))?;
        say(comparison.to_string());
        comparison.check(wanted.max_loss)?;
    }
    let report = match wanted.layout {
        Layout::Bundle => {
            export::export(&input, &options, &wanted.verification, &place, &wanted.replace(name))
        }
        Layout::Triton => triton(&input, &options, wanted, &place),
    };
    let report = report.map_err(|error: Error| error.in_file(&place))?;
    let next = match wanted.layout {
        Layout::Bundle => format!("s2s translate {}", place.display()),
        Layout::Triton => format!("tritonserver --model-repository {}", place.display()),
    };
    Ok(Exported { place, report: Some(report), next })
}

/// A verified bundle, laid out as a repository.
fn triton(
    input: &ExportInput<'_>,
    options: &ExportOptions,
    wanted: &Export,
    place: &std::path::Path,
) -> Result<Report> {
    let folder = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
    let bundle = folder.path().join("bundle");
    let replace = wanted.replace(input.name);
    let report = export::export(input, options, &wanted.verification, &bundle, &replace)?;
    export::write_repository(place, &Bundle::open(&bundle)?, wanted.force)?;
    Ok(report)
}

fn dev_pairs(wanted: &Export, run: &Run) -> Result<Part> {
    if let Some(file) = &wanted.dev {
        return Ok(Part::whole(formats::read(file, None)?.into()));
    }
    let corpus = Corpus::load(&run.config.data, run.config.training.seed, &mut |_, _, _| ())
        .map_err(|error| error.help("name pairs to score with --dev"))?;
    if corpus.validation.is_empty() {
        let error =
            Error::new(ErrorKind::Usage, "the run has no validation data to score smaller weights on");
        return Err(error.help("name pairs with --dev"));
    }
    Ok(corpus.validation)
}

/// Chooses the sources of a few candidates, first those that the exported graphs get right.
///
/// What cannot be decoded at all is no error here: the checks of the export will say it better.
fn choose(input: &ExportInput<'_>, candidates: &[Candidate]) -> Vec<String> {
    let groups: Vec<Group> = candidates
        .iter()
        .map(|pair| Group { source: pair.source.clone(), references: vec![pair.target.clone()] })
        .collect();
    let decoded = decode(input, &groups.iter().collect::<Vec<_>>(), &input.decoding).unwrap_or_default();
    let (right, wrong): (Vec<_>, Vec<_>) =
        (0..groups.len()).partition(|&i| decoded.get(i).is_some_and(|decoded| decoded.right));
    let mut chosen = spread(right, MOST_EXAMPLES);
    chosen.extend(spread(wrong, MOST_EXAMPLES - chosen.len()));
    chosen.into_iter().map(|i| candidates[i].source.clone()).collect()
}
