//! How much a network makes of rounding.

use std::borrow::Cow;

use crate::network::Parameters;
use s2s_kernels::random::Random;

/// Passes with shaken weights. One pass in f32 is one throw of the dice: it can be lucky at the very text
/// where an engine, which rounds otherwise, is not (measured: twenty times as far off). The largest of a few
/// throws tells what to expect.
const SHAKEN: u64 = 3;

/// The weights as they are, and some times with each moved to one of its neighbours in f32. What an engine
/// computes is, but for its rounding, what the network is with weights about so far away (backward error,
/// Higham, "Accuracy and Stability of Numerical Algorithms", 1.5), so that passes with these in f32 are off
/// from f64 as engines are.
///
/// One at a time, since a network may be large.
pub(super) fn throws(parameters: &Parameters<f32>) -> impl Iterator<Item = Cow<'_, Parameters<f32>>> {
    let shaken = move |seed| {
        let mut random = Random::new(seed, 3);
        let mut shaken = parameters.clone();
        for weight in shaken.data_mut().iter_mut().filter(|weight| **weight != 0.0) {
            *weight = if random.below(2) == 0 { weight.next_up() } else { weight.next_down() };
        }
        Cow::Owned(shaken)
    };
    std::iter::once(Cow::Borrowed(parameters)).chain((0..SHAKEN).map(shaken))
}
