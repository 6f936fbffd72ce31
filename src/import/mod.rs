//! Models of other programs, written as a run folder: `s2s export` and everything after it then works as for
//! our own.
//!
//! | module | what it reads |
//! |---|---|
//! | [`keras`] | LSTM encoder-decoders that Keras saved, `.h5` or `.keras` |

pub mod keras;
