//! Digests, which say which plugin is meant.

use sha2::{Digest, Sha256};

/// SHA-256 in hexadecimal.
pub fn digest_of(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let halves = |byte: u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    Sha256::digest(bytes).iter().flat_map(|byte| halves(*byte)).collect()
}
