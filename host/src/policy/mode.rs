//! Whether a policy's verdict is followed.

use serde::{Deserialize, Serialize};

/// Whether a policy's verdict is followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The verdict is followed.
    #[default]
    Enforce,
    /// The verdict is recorded and not followed. A failure denies in this mode too.
    Monitor,
}
