//! A fictitious family, for the tests: a linear network, which shows what a new family has to bring.

mod network;

pub(super) use network::Linear;

#[cfg(test)]
mod tests;
