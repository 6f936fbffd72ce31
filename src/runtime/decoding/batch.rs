//! Bulk decoding: many sources through one loop, kept full.

use std::sync::Arc;

use super::decoding_loop::DecodingLoop;
use super::options::DecodingOptions;
use super::request::{Event, Hypothesis, Request};
use super::settings::Settings;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};

/// Rows decoded together unless said otherwise.
pub const DEFAULT_BATCH: usize = 64;

/// Decodes sources (ids without padding); hypotheses of each, the best first, in the order of the sources.
///
/// # Errors
/// Of the options, or of the first source that fails.
pub fn decode_batch(
    engine: &mut dyn Engine,
    sources: &[Vec<u32>],
    options: &DecodingOptions,
) -> Result<Vec<Vec<Hypothesis>>> {
    let settings = Arc::new(Settings::for_ids(options)?);
    decode_each(engine, sources.to_vec(), &settings, DEFAULT_BATCH).into_iter().collect()
}

/// The same, one result a source, with at most `max_rows` rows at a time (but at least one source).
///
/// Sources are taken by length, the longest first, and as rows finish others take their place.
pub fn decode_each(
    engine: &mut dyn Engine,
    mut sources: Vec<Vec<u32>>,
    settings: &Arc<Settings>,
    max_rows: usize,
) -> Vec<Result<Vec<Hypothesis>>> {
    let mut results: Vec<Option<Result<Vec<Hypothesis>>>> = Vec::new();
    results.resize_with(sources.len(), || None);
    let mut order: Vec<usize> = (0..sources.len()).collect();
    for (index, source) in sources.iter_mut().enumerate() {
        match settings.fit(source.len()) {
            Ok(part) if part.len() < source.len() => *source = source[part].to_vec(),
            Ok(_) => {}
            Err(error) => results[index] = Some(Err(error)),
        }
    }
    order.retain(|&i| results[i].is_none());
    order.sort_by_key(|&i| std::cmp::Reverse(sources[i].len()));
    let mut waiting = order.into_iter();
    let at_once = (max_rows / settings.most_rows()).max(1);
    let mut decoding = DecodingLoop::new(engine);
    loop {
        if decoding.prepared() == 0 && decoding.requests() < at_once {
            decoding.prepare(waiting.by_ref().take(at_once).map(|index| Request {
                id: index as u64,
                source: std::mem::take(&mut sources[index]),
                settings: Arc::clone(settings),
                stream: false,
            }));
        }
        decoding.fill(at_once);
        if decoding.is_idle() && decoding.prepared() == 0 && waiting.len() == 0 {
            break;
        }
        for event in decoding.step() {
            #[expect(clippy::cast_possible_truncation, reason = "it was an index")]
            match event {
                Event::Finished { request, hypotheses } => results[request as usize] = Some(Ok(hypotheses)),
                Event::Failed { request, error } => results[request as usize] = Some(Err(error)),
                Event::Token { .. } => {}
            }
        }
    }
    let lost = || Err(Error::new(ErrorKind::Internal, "the loop ended without a result for a source"));
    results.into_iter().map(|result| result.unwrap_or_else(lost)).collect()
}
