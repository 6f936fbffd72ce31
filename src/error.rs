//! Errors: the type of `s2s-runtime`, and the exit code that each kind becomes.

pub use s2s_runtime::error::{Error, ErrorKind, Place, Result, did_you_mean, guess};

/// 0 is success; the table of `s2s --help`.
pub fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => 2,
        ErrorKind::Config => 3,
        ErrorKind::Data | ErrorKind::Input | ErrorKind::TooLong => 4,
        ErrorKind::Bundle | ErrorKind::Parity => 5,
        ErrorKind::Bind => 6,
        ErrorKind::Interrupted => 130,
        _ => 1,
    }
}
