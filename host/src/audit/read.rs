//! Reads an audit file, and checks that its lines hang together.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::entry::{VERSION, hash};
use crate::model::ends::{OptionPath, ResolvedPath};
use crate::model::request::MountRequest;
use crate::model::requester::Requester;

/// A request with all that its decision depended on.
#[derive(Debug, Deserialize)]
pub(crate) struct Audited {
    version: u32,
    previous: Option<String>,
    pub(crate) request: MountRequest,
    pub(crate) requester: Requester,
    pub(crate) verdict: String,
    pub(crate) policy: Option<String>,
    pub(crate) code: Option<String>,
    #[serde(rename = "final")]
    pub(crate) final_request: Option<MountRequest>,
    pub(crate) source: Option<ResolvedPath>,
    pub(crate) target: Option<ResolvedPath>,
    #[serde(default)]
    pub(crate) option_paths: Vec<OptionPath>,
    #[serde(default)]
    pub(crate) mounts: String,
    /// How long the line would have been with the mounts that were left out.
    #[serde(default)]
    pub(crate) omitted: Option<u64>,
    #[serde(default)]
    pub(crate) paths: BTreeMap<String, Option<String>>,
    #[serde(default)]
    pub(crate) trace: Vec<AuditedPart>,
}

/// One policy's part, as far as it's read again.
#[derive(Debug, Deserialize)]
pub(crate) struct AuditedPart {
    pub(crate) policy: String,
    pub(crate) verdict: String,
    #[serde(default)]
    pub(crate) monitor: bool,
    #[serde(default)]
    pub(crate) denial: Option<AuditedDenial>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AuditedDenial {
    pub(crate) code: String,
}

/// Reads all lines.
///
/// # Errors
/// The first line that isn't one, or doesn't follow the line before it.
pub(crate) fn read(text: &[u8]) -> Result<Vec<Audited>, String> {
    let mut entries = Vec::new();
    let mut before: Option<&[u8]> = None;
    let Some(lines) = text.strip_suffix(b"\n") else {
        return if text.is_empty() {
            Ok(entries)
        } else {
            Err("its last line is torn: the next request mends it".to_owned())
        };
    };
    for (i, line) in lines.split(|byte| *byte == b'\n').enumerate() {
        let number = i + 1;
        let entry: Audited = serde_json::from_slice(line)
            .map_err(|error| format!("line {number} isn't a line of an audit file: {error}"))?;
        if entry.version != VERSION {
            return Err(format!(
                "line {number} has version {}, and this mountgate reads version {VERSION}",
                entry.version
            ));
        }
        // A file that was rotated begins with a line that has none before it, or one that isn't here any more.
        if let Some(before) = before
            && entry.previous.as_deref() != Some(hash(before).as_str())
        {
            return Err(format!(
                "line {number} doesn't follow line {i}: one of them was changed, or a line was taken out or put in"
            ));
        }
        before = Some(line);
        entries.push(entry);
    }
    Ok(entries)
}
