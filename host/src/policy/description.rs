//! What a plugin says of itself.

use serde::{Deserialize, Serialize};

/// Whether a plugin may answer with a rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It may rewrite, and runs before the validating plugins.
    Mutating,
    /// It judges the final request and may not rewrite.
    Validating,
}

/// What a plugin says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields of the WIT record")]
pub struct Description {
    pub name: String,
    pub version: String,
    pub kind: Kind,
    pub help: String,
    pub settings_schema: String,
}
