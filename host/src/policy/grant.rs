//! What a policy directory may grant to a plugin beyond the contract.

use serde::{Deserialize, Serialize};

/// Something beyond the contract that a plugin may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// A closed WASI 0.2: no files, no environment, no network.
    Wasi,
}
