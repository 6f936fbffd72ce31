//! The engines of an opened bundle: any number of threads translate with one of these at once, and a process
//! that was forked opens the bundle anew.

use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use s2s_runtime::decoding::{DecodingOptions, Settings};
use s2s_runtime::engine::{Device, EngineKind};
use s2s_runtime::translator::{TextCoder, TranslationStream, Translator, TranslatorPool};
use s2s_runtime::{Error, Result};

/// How a bundle is opened.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) path: PathBuf,
    pub(crate) engine: EngineKind,
    pub(crate) device: Device,
    pub(crate) max_batch: usize,
    /// Threads, and engines, of one call.
    pub(crate) workers: usize,
}

impl Spec {
    fn open(&self) -> Result<Opened> {
        let seed = Translator::open_on(&self.path, self.engine, self.device)?.with_max_batch(self.max_batch);
        let coder = seed.coder().clone();
        let plain = coder.settings(&DecodingOptions::default())?;
        Ok(Opened { process: std::process::id(), seed, idle: Vec::new(), coder, plain })
    }
}

/// What a process has opened.
struct Opened {
    process: u32,
    /// Others are forked from it; it translates nothing itself.
    seed: Translator,
    idle: Vec<Translator>,
    coder: TextCoder,
    /// The settings of the bundle alone.
    plain: Arc<Settings>,
}

/// The engines of a bundle.
///
/// The lock is taken by threads that hold Python's own alone, and never for long: so nobody holds it while a
/// process forks, and the child can take it.
pub(crate) struct Engines {
    pub(crate) spec: Spec,
    opened: Mutex<Opened>,
}

impl Engines {
    /// Opens the bundle.
    pub(crate) fn open(py: Python<'_>, spec: Spec) -> Result<Self> {
        let opened = py.detach(|| spec.open())?;
        Ok(Self { spec, opened: Mutex::new(opened) })
    }

    fn lock(&self, py: Python<'_>) -> Result<MutexGuard<'_, Opened>> {
        let own = || self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if own().process != std::process::id() {
            let fresh = py.detach(|| self.spec.open())?;
            let old = std::mem::replace(&mut *own(), fresh);
            // Threads that it would wait for stayed behind in the parent.
            let _left = ManuallyDrop::new(old);
        }
        Ok(own())
    }

    /// Text to ids and back.
    pub(crate) fn coder(&self, py: Python<'_>) -> Result<TextCoder> {
        Ok(self.lock(py)?.coder.clone())
    }

    /// The options over those of the bundle; `None` is the bundle's alone.
    pub(crate) fn settings(
        &self,
        py: Python<'_>,
        options: Option<&DecodingOptions>,
    ) -> Result<Arc<Settings>> {
        match options {
            None => Ok(Arc::clone(&self.lock(py)?.plain)),
            Some(options) => self.coder(py)?.settings(options),
        }
    }

    /// The name of the engine that was chosen.
    pub(crate) fn name(&self, py: Python<'_>) -> Result<String> {
        Ok(self.lock(py)?.seed.engine().name().to_owned())
    }

    /// One piece by piece, with an engine of its own.
    pub(crate) fn stream(
        &self,
        py: Python<'_>,
        text: &str,
        options: &DecodingOptions,
    ) -> Result<TranslationStream> {
        let one = self.lock(py)?.seed.fork()?;
        one.into_stream(text, options)
    }

    /// Lends engines for `texts` texts: idle ones, else a new one, and all that are idle and useful.
    fn take(&self, py: Python<'_>, texts: usize) -> Result<TranslatorPool> {
        // A batch is never split for the sake of a second thread.
        let useful = texts.div_ceil(self.spec.max_batch).clamp(1, self.spec.workers);
        let mut opened = self.lock(py)?;
        let idle = opened.idle.len();
        let mut taken = opened.idle.split_off(idle.saturating_sub(useful));
        while taken.len() < useful {
            taken.push(opened.seed.fork()?);
        }
        Ok(TranslatorPool::from(taken))
    }

    fn give_back(&self, py: Python<'_>, pool: TranslatorPool) -> Result<()> {
        let mut opened = self.lock(py)?;
        let free = self.spec.workers.saturating_sub(opened.idle.len());
        opened.idle.extend(pool.into_iter().take(free));
        Ok(())
    }

    /// Lets engines work on `texts` texts, outside Python's lock, in parts between which signals are seen.
    ///
    /// - `part`: gets the first and the end of the texts of a part.
    pub(crate) fn work<T: Send>(
        &self,
        py: Python<'_>,
        texts: usize,
        part: impl Fn(&mut TranslatorPool, usize, usize) -> Result<Vec<Result<T>>> + Sync,
    ) -> PyResult<Vec<Result<T>>> {
        let raise = |error: Error| super::errors::raise(&error);
        let mut pool = self.take(py, texts).map_err(raise)?;
        let mut results = Vec::with_capacity(texts);
        let mut from = 0;
        while from < texts {
            let end = texts.min(from + MOST_TEXTS);
            let found = py.detach(|| part(&mut pool, from, end));
            results.extend(found.map_err(raise)?);
            py.check_signals()?;
            from = end;
        }
        self.give_back(py, pool).map_err(raise)?;
        Ok(results)
    }
}

/// Texts that are translated between two looks at signals: as many as `s2s translate` reads ahead.
const MOST_TEXTS: usize = 16_384;
