//! A model that the tests script: it upper-cases, one character a step, and does on purpose what models do by
//! accident.
//!
//! A `¿` is a symbol that it does not know. `panic` in a text panics at its second step, `fail` gives an
//! error there, `forever` never ends, `slowly` takes a millisecond a step, and a gate holds every step until
//! the test opens it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use s2s_runtime::decoding::{DecodingOptions, FinishReason, Settings};
use s2s_runtime::translator::{Alternative, SourceText, TextEvent, Token, Translation};
use s2s_runtime::{Error, ErrorKind, Result};

use crate::serve::metrics::ModelMetrics;
use crate::serve::model::{Card, Model, Worker};

/// Holds steps while closed.
#[derive(Default)]
pub(crate) struct StepGate {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl StepGate {
    pub(crate) fn close(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    pub(crate) fn open(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(closed, |closed| *closed).unwrap_or_else(PoisonError::into_inner));
    }
}

/// What the model has been through.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) gate: StepGate,
    pub(crate) admitted: AtomicUsize,
    pub(crate) largest_batch: AtomicUsize,
    /// Symbols, padding counted, that joined at once.
    pub(crate) largest_join: AtomicUsize,
    pub(crate) steps: AtomicUsize,
    pub(crate) cancelled: AtomicUsize,
    pub(crate) engines: AtomicUsize,
    pub(crate) encoded_on: Mutex<Vec<std::thread::ThreadId>>,
    /// Source and target language that requests came with.
    pub(crate) languages: Mutex<Vec<[Option<String>; 2]>>,
}

#[derive(Clone, Default)]
pub(crate) struct Scripted {
    pub(crate) card: Card,
    pub(crate) record: Arc<Record>,
}

impl Model for Scripted {
    fn card(&self) -> &Card {
        &self.card
    }

    fn settings(&self, request: &DecodingOptions) -> Result<Arc<Settings>> {
        let languages = [&request.source_language, &request.target_language].map(Clone::clone);
        self.record.languages.lock().unwrap_or_else(PoisonError::into_inner).push(languages);
        Settings::new(request).map(Arc::new)
    }

    fn encode(&self, text: &str, settings: &Settings, most_characters: usize) -> Result<SourceText> {
        self.record
            .encoded_on
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(std::thread::current().id());
        if text.contains('\u{fffd}') {
            return Err(Error::new(ErrorKind::Input, "unknown symbol").help("leave it out"));
        }
        if text.chars().count() > most_characters.min(settings.most_source_tokens()) {
            return Err(Error::new(
                ErrorKind::TooLong,
                format!("more than {}", settings.most_source_tokens()),
            ));
        }
        let unknown = text.contains('¿').then(|| "¿".to_owned()).into_iter().collect();
        Ok(SourceText { ids: text.chars().map(u32::from).collect(), unknown, ..SourceText::default() })
    }

    fn worker(&self, _metrics: &Arc<ModelMetrics>) -> Result<Box<dyn Worker>> {
        self.record.engines.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Batch { record: Arc::clone(&self.record), rows: Vec::new(), joining: Vec::new() }))
    }
}

/// A text under way.
struct Row {
    id: u64,
    source: SourceText,
    settings: Arc<Settings>,
    stream: bool,
    done: Vec<char>,
}

struct Batch {
    record: Arc<Record>,
    rows: Vec<Row>,
    joining: Vec<Row>,
}

fn text_of(row: &Row) -> String {
    row.source.ids.iter().filter_map(|&id| char::from_u32(id)).collect()
}

impl Worker for Batch {
    fn admit(&mut self, id: u64, source: SourceText, settings: Arc<Settings>, stream: bool) {
        self.record.admitted.fetch_add(1, Ordering::Relaxed);
        self.joining.push(Row { id, source, settings, stream, done: Vec::new() });
    }

    fn step(&mut self, events: &mut Vec<TextEvent>) -> Result<()> {
        let longest = self.joining.iter().map(|row| row.source.ids.len()).max().unwrap_or(0);
        self.record.largest_join.fetch_max(self.joining.len() * longest, Ordering::Relaxed);
        self.rows.append(&mut self.joining);
        self.record.largest_batch.fetch_max(self.rows.len(), Ordering::Relaxed);
        self.record.gate.pass();
        self.record.steps.fetch_add(1, Ordering::Relaxed);
        let mut left = Vec::new();
        for mut row in self.rows.drain(..) {
            let text = text_of(&row);
            if text.contains("slowly") {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            assert!(!(text.contains("panic") && row.done.len() == 1), "scripted");
            if text.contains("fail") && row.done.len() == 1 {
                return Err(Error::new(ErrorKind::Engine, "scripted"));
            }
            let next = text.to_uppercase().chars().nth(row.done.len());
            if let Some(next) = next.or(text.contains("forever").then_some('!')) {
                row.done.push(next);
                if row.stream {
                    let token = Token { id: next.into(), text: next.to_string(), log_p: Some(-0.5) };
                    events.push(TextEvent::Token { id: row.id, token });
                }
                left.push(row);
                continue;
            }
            let hypothesis = |n: usize| Alternative {
                text: row.done.iter().collect::<String>() + &"'".repeat(n),
                score: -0.5,
                finish: FinishReason::Eos,
                generated_tokens: row.done.len() + 1,
                tokens: Vec::new(),
                token_scores: Vec::new(),
                attention: Vec::new(),
            };
            let translation = Translation {
                best: hypothesis(0),
                source_tokens: row.source.ids.len(),
                unknown: row.source.unknown.clone(),
                alternatives: (1..row.settings.num_return_sequences).map(hypothesis).collect(),
            };
            events.push(TextEvent::Done { id: row.id, translation: Box::new(translation) });
        }
        self.rows = left;
        Ok(())
    }

    fn cancel(&mut self, id: u64) {
        self.rows.retain(|row| row.id != id);
        self.joining.retain(|row| row.id != id);
        self.record.cancelled.fetch_add(1, Ordering::Relaxed);
    }
}
