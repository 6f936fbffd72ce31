//! The hashes that manifests have.

use sha2::{Digest, Sha256};

/// sha256 of `bytes`, 64 lower-case hexadecimal digits, as manifests have it.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
