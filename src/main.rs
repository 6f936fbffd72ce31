//! The `s2s` command.

fn main() {}
