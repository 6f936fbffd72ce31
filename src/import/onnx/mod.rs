//! An encoder and a decoder that somebody exported by hand: a bundle whose manifest is drafted by looking at
//! the names and shapes of both graphs.
//!
//! | file | what it holds |
//! |---|---|
//! | `draft` | the two graphs to a folder: what goes where, what is tried, what is written |
//! | `wires` | which tensor is what, and which output becomes which input |
//! | `names` | how alike two names are |
//! | `symbols` | vocabularies from files, and the special symbols among them |
//! | `remarks` | what was guessed, in sentences |
//!
//! Whatever the graphs do not say for certain is said, and a choice that nothing decides is an error that
//! names the flag or the key.

mod draft;
mod names;
mod remarks;
mod symbols;
mod wires;

pub use draft::{Imported, Options, import};
pub use remarks::Remarks;
pub use symbols::Special;
pub(super) use symbols::read as read_symbols;

#[cfg(test)]
mod tests;
