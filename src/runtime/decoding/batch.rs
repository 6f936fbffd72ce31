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
    let next = |most: usize| {
        waiting.by_ref().take(most).map(|index| (index, std::mem::take(&mut sources[index]))).collect()
    };
    decode_from(engine, next, |index, result| results[index] = Some(result), settings, max_rows);
    let lost = || Err(Error::new(ErrorKind::Internal, "the loop ended without a result for a source"));
    results.into_iter().map(|result| result.unwrap_or_else(lost)).collect()
}

/// Decodes sources as they are drawn from a queue, which several workers may share, and hands over each
/// result at once.
///
/// - `next`: gives at most so many sources (ids that fit, not empty) with their indices; none ends the work.
///   Sources of similar length in a row waste the least on padding.
/// - `max_rows`: rows at a time, but at least one source; the encoder runs over as many sources at once.
pub(crate) fn decode_from(
    engine: &mut dyn Engine,
    mut next: impl FnMut(usize) -> Vec<(usize, Vec<u32>)>,
    mut done: impl FnMut(usize, Result<Vec<Hypothesis>>),
    settings: &Arc<Settings>,
    max_rows: usize,
) {
    let at_once = (max_rows / settings.most_rows()).max(1);
    let mut decoding = DecodingLoop::new(engine);
    let mut more = true;
    loop {
        if more && decoding.prepared() == 0 && decoding.requests() < at_once {
            let sources = next(at_once);
            more = !sources.is_empty();
            decoding.prepare(sources.into_iter().map(|(index, source)| Request {
                id: index as u64,
                source,
                settings: Arc::clone(settings),
                stream: false,
            }));
        }
        decoding.fill(at_once);
        // What `next` gave may have been fewer than there is room for.
        if more && decoding.prepared() == 0 && decoding.requests() < at_once {
            continue;
        }
        if decoding.is_idle() && decoding.prepared() == 0 {
            return;
        }
        for event in decoding.step() {
            #[expect(clippy::cast_possible_truncation, reason = "it was an index")]
            match event {
                Event::Finished { request, hypotheses } => done(request as usize, Ok(hypotheses)),
                Event::Failed { request, error } => done(request as usize, Err(error)),
                Event::Token { .. } => {}
            }
        }
    }
}
