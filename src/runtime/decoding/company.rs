//! Which requests go together, where sources of different lengths must not.

use std::collections::BTreeMap;

use super::request::Request;
use crate::engine::Lengths;

/// Requests as the batches that an encoder may be given, in no particular order among different lengths.
pub(super) fn by_length(requests: Vec<Request>, lengths: Lengths) -> Vec<Vec<Request>> {
    if requests.is_empty() {
        return Vec::new();
    }
    if lengths == Lengths::Any {
        return vec![requests];
    }
    if lengths == Lengths::Alone {
        return requests.into_iter().map(|request| vec![request]).collect();
    }
    let mut batches: BTreeMap<usize, Vec<Request>> = BTreeMap::new();
    for request in requests {
        batches.entry(request.source.len()).or_default().push(request);
    }
    batches.into_values().rev().collect()
}

/// Those that may run beside sources of `running` tokens, or else beside the first of them; and the others.
pub(super) fn split_off_others(
    requests: impl IntoIterator<Item = Request>,
    lengths: Lengths,
    mut running: Option<usize>,
) -> (Vec<Request>, Vec<Request>) {
    requests.into_iter().partition(|request| {
        let length = request.source.len();
        lengths != Lengths::One || *running.get_or_insert(length) == length
    })
}
