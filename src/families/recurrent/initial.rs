//! Weights and vocabularies that a new run takes from another one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use s2s_runtime::bundle::sha256;
use s2s_runtime::files;
use s2s_runtime::vocabulary::{Vocabulary, VocabularySpec};

use super::record::{Checkpoint, Run};
use crate::config::Config;
use crate::data::corpus::Corpus;
use crate::error::{Error, ErrorKind, Result};
use crate::network::{Cell, Network, Parameters, Seq2Seq};
use crate::train::{InitFrom, OptimiserState, Origin, Start, Which};

/// Another run's weights, ready for a new run.
pub(super) struct Initial {
    from: Run,
    checkpoint: Checkpoint,
    /// Vocabularies of the new run.
    pub(super) source: Vocabulary,
    pub(super) target: Vocabulary,
    pub(super) origin: Origin,
}

impl Initial {
    /// Opens the other run and fits its vocabularies to the new pairs.
    pub(super) fn open(init: &InitFrom, config: &Config, corpus: &Corpus) -> Result<Self> {
        let (from, path) = open(&init.path)?;
        let checkpoint = Checkpoint::load(&path)?;
        if checkpoint.header.architecture != *from.network.architecture() {
            let error = Error::new(
                ErrorKind::Data,
                "the checkpoint is of another network than its folder's config.yaml",
            );
            return Err(error.in_file(&path).help("name a checkpoint that lies in its own run folder"));
        }
        let differs = |key: &str, help: &str| {
            let message = format!(
                "`{key}` differs between the config and the run whose weights it takes, {}",
                from.folder.display()
            );
            Err(Error::new(ErrorKind::Config, message).help(help.to_owned()))
        };
        for (key, old, new) in [
            ("data.source", &from.config.data.source, &config.data.source),
            ("data.target", &from.config.data.target, &config.data.target),
        ] {
            if old != new {
                return differs(
                    key,
                    "its vocabularies fit texts that are cut and normalised as it did: copy this section of \
                     its config.yaml",
                );
            }
        }
        if let Some(key) = from.config.model.difference(&config.model) {
            return differs(
                &format!("model.{key}"),
                "weights fit the network that they were trained in: copy the section `model` of its \
                 config.yaml",
            );
        }
        let (source, new_source) =
            fitted(&from.record.source, corpus.counted(&config.data).map(|p| p.0), init.extend_vocabulary)?;
        let (target, new_target) =
            fitted(&from.record.target, corpus.counted(&config.data).map(|p| p.1), init.extend_vocabulary)?;
        let bytes = files::read(&path, files::CHECKPOINT)?;
        let origin = Origin {
            run: from.config.name.clone(),
            epoch: checkpoint.header.progress.epoch,
            checkpoint: sha256(&bytes),
            new_symbols: [new_source, new_target],
            extended: init.extend_vocabulary,
        };
        Ok(Self { from, checkpoint, source, target, origin })
    }

    /// Makes what a run that takes these weights begins with: its optimiser starts anew.
    pub(super) fn start(&self, network: &Seq2Seq, seed: u64) -> Result<Start> {
        let parameters = self.parameters(network, seed)?;
        let zeros = parameters.zeros_like();
        let optimiser = Some(OptimiserState { first: zeros.clone(), second: zeros, time: 0 });
        Ok(Start { which: Which::Last, parameters, optimiser })
    }

    /// The weights in a network with the new vocabularies: new symbols have what `seed` gives them.
    pub(super) fn parameters(&self, network: &Seq2Seq, seed: u64) -> Result<Parameters<f32>> {
        let fresh = network.initialise(seed);
        let mut fresh: HashMap<String, (Vec<usize>, Cow<'_, [f32]>)> = network
            .exported(&fresh)
            .into_iter()
            .map(|(name, shape, values)| (name, (shape, Cow::Owned(values.into_owned()))))
            .collect();
        for (name, shape, values) in self.from.network.exported(&self.checkpoint.parameters) {
            if let Some((wide, into)) = fresh.get_mut(&name) {
                // The last column of an input's weight is its bias, with that of padding behind it.
                let held = usize::from(self.from.network.architecture().cell == Cell::GruResetBias);
                let tail = if name.ends_with(".W") { 1 + held } else { 0 };
                graft(&values, &shape, into.to_mut(), wide, tail);
            }
        }
        network.import(|name| fresh.get(name).map(|(shape, values)| (shape.clone(), values.to_vec())))
    }
}

/// The run of a folder or a checkpoint, and the checkpoint's path.
fn open(path: &Path) -> Result<(Run, PathBuf)> {
    if path.is_dir() {
        let run = Run::open(path)?;
        let best = run.checkpoint_path(Which::Best);
        let path = if best.exists() { best } else { run.checkpoint_path(Which::Last) };
        return Ok((run, path));
    }
    let folder = path
        .parent()
        .and_then(Path::parent)
        .map(|f| if f.as_os_str().is_empty() { Path::new(".") } else { f });
    match folder.filter(|_| path.is_file()) {
        Some(folder) if Run::exists(folder) => Ok((Run::open(folder)?, path.to_owned())),
        Some(_) => {
            let error = Error::new(
                ErrorKind::Usage,
                "this file does not lie in a run folder, whose vocabularies belong to it",
            )
            .in_file(path);
            Err(error.help("name a run folder, or RUN/checkpoints/last.safetensors"))
        }
        None => Err(Error::io(path, std::io::ErrorKind::NotFound.into())
            .help("name a run folder, or RUN/checkpoints/last.safetensors")),
    }
}

/// A vocabulary for more texts, and how many of their symbols are new to it.
fn fitted<'a>(
    old: &Vocabulary,
    texts: impl Iterator<Item = &'a str>,
    extend: bool,
) -> Result<(Vocabulary, usize)> {
    let mut wide = old.clone();
    wide.extend(texts);
    let fresh = wide.len() - old.len();
    if extend {
        return Ok((wide, fresh));
    }
    // Outputs may become as long as the new texts are.
    let spec = VocabularySpec { longest: wide.spec().longest, ..old.spec().clone() };
    Ok((Vocabulary::from_spec(&spec)?, fresh))
}

/// Copies a tensor into one that may be longer along its axes; values beyond stay. The last `tail` values of
/// the last axis are the last there too.
fn graft(values: &[f32], shape: &[usize], into: &mut [f32], wide: &[usize], tail: usize) {
    let Some((&columns, rows)) = shape.split_last() else {
        into.copy_from_slice(values);
        return;
    };
    let wide_columns = wide[wide.len() - 1];
    let plain = columns.saturating_sub(tail);
    for (row, old) in values.chunks_exact(columns).enumerate() {
        // The row's place in each axis, then in the wider tensor.
        let (mut rest, mut at, mut stride) = (row, 0, 1);
        for (&old, &new) in rows.iter().zip(wide).rev() {
            at += rest % old * stride;
            rest /= old;
            stride *= new;
        }
        let new = &mut into[at * wide_columns..][..wide_columns];
        new[..plain].copy_from_slice(&old[..plain]);
        new[wide_columns - (columns - plain)..].copy_from_slice(&old[plain..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_keeps_its_places_in_a_wider_one() {
        let mut wide = vec![0.0; 6];
        graft(&[1.0, 2.0, 3.0, 4.0], &[2, 2], &mut wide, &[3, 2], 0);
        assert_eq!(wide, [1.0, 2.0, 3.0, 4.0, 0.0, 0.0]);
        wide.fill(0.0);
        graft(&[1.0, 2.0, 3.0, 4.0], &[2, 2], &mut wide, &[2, 3], 0);
        assert_eq!(wide, [1.0, 2.0, 0.0, 3.0, 4.0, 0.0]);
        wide.fill(0.0);
        graft(&[1.0, 9.0, 3.0, 9.5], &[1, 2, 2], &mut wide, &[1, 2, 3], 1);
        assert_eq!(wide, [1.0, 0.0, 9.0, 3.0, 0.0, 9.5]);
        wide.fill(0.0);
        graft(&[1.0, 2.0], &[2], &mut wide[..3], &[3], 0);
        assert_eq!(wide, [1.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
