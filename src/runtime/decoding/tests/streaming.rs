//! Tokens as they come.

use std::sync::Arc;

use super::scripted::Scripted;
use super::*;

proptest! {
    #[test]
    fn streamed_tokens_are_those_of_the_hypotheses_in_order(seed: u64, source in any_source(), options in any_options(false)) {
        let settings = Arc::new(Settings::for_ids(&options).unwrap());
        let mut engine = Scripted::new(VOCABULARY, seed);
        let mut decoding = DecodingLoop::new(&mut engine);
        decoding.admit([Request { id: 3, source, settings: Arc::clone(&settings), stream: true }]);
        let mut streamed = vec![Vec::new(); settings.num_return_sequences];
        let mut finished = None;
        for event in decoding.events() {
            match event {
                Event::Token { request, hypothesis, id, log_p } => {
                    prop_assert!(finished.is_none());
                    prop_assert_eq!(request, 3);
                    streamed[hypothesis].push((id, log_p.unwrap()));
                }
                Event::Finished { hypotheses, .. } => finished = Some(hypotheses),
                Event::Failed { error, .. } => return Err(TestCaseError::fail(error.to_string())),
            }
        }
        for (tokens, hypothesis) in streamed.iter().zip(finished.unwrap()) {
            if settings.num_beams > 1 {
                prop_assert!(tokens.is_empty());
            } else {
                let expected: Vec<(u32, f32)> = hypothesis.ids.iter().copied().zip(hypothesis.token_scores.iter().copied()).collect();
                prop_assert_eq!(tokens, &expected);
            }
        }
    }
}

#[test]
fn the_loop_goes_on_after_its_iterator_is_dropped() {
    let mut engine = Scripted::new(VOCABULARY, 8);
    let options =
        DecodingOptions { max_new_tokens: Some(9), min_new_tokens: Some(9), ..DecodingOptions::default() };
    let settings = Arc::new(Settings::for_ids(&options).unwrap());
    let whole = decode_batch(&mut engine, &[vec![4]], &options).unwrap();
    let mut decoding = DecodingLoop::new(&mut engine);
    decoding.admit([Request { id: 0, source: vec![4], settings, stream: true }]);
    assert_eq!(decoding.events().take(3).count(), 3);
    assert_eq!((decoding.requests(), decoding.rows()), (1, 1));
    let last = decoding.events().last().unwrap();
    assert!(matches!(last, Event::Finished { hypotheses, .. } if hypotheses == whole[0]));
}
