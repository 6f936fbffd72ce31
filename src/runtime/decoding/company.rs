//! Which requests go together, where sources of different lengths must not.

use std::collections::BTreeMap;

use crate::engine::Lengths;

/// Requests as the batches that an encoder may be given, each in the order in which its requests came.
///
/// - `length`: source tokens of a request.
pub(super) fn by_length<T>(requests: Vec<T>, lengths: Lengths, length: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    match lengths {
        _ if requests.is_empty() => Vec::new(),
        Lengths::Any => vec![requests],
        Lengths::Alone | Lengths::Apart => requests.into_iter().map(|request| vec![request]).collect(),
        Lengths::OneToEncode | Lengths::One => {
            let mut batches: BTreeMap<usize, Vec<T>> = BTreeMap::new();
            for request in requests {
                batches.entry(length(&request)).or_default().push(request);
            }
            batches.into_values().rev().collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_what_its_encoder_takes() {
        let batches = |lengths| by_length(vec!["a", "bcd", "e", "fgh"], lengths, |text| text.len());
        assert_eq!(batches(Lengths::Any), [["a", "bcd", "e", "fgh"]]);
        assert_eq!(batches(Lengths::One), [["bcd", "fgh"], ["a", "e"]]);
        assert_eq!(batches(Lengths::OneToEncode), batches(Lengths::One));
        assert_eq!(batches(Lengths::Alone), [["a"], ["bcd"], ["e"], ["fgh"]]);
        assert_eq!(batches(Lengths::Apart), batches(Lengths::Alone));
        assert!(by_length(Vec::<&str>::new(), Lengths::Any, |text| text.len()).is_empty());
    }
}
