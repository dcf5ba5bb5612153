//! A request in a file, with all that its decision depends on.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::input::read_plain;
use crate::error::Error;
use crate::model::ends::ResolvedPath;
use crate::model::refusals::Refusals;
use crate::model::request::MountRequest;
use crate::model::requester::Requester;
use crate::mount_table::table::MountTable;

/// A request with all that a decision depends on, as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestFile {
    /// The request.
    pub(super) request: MountRequest,
    /// What the host found at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<ResolvedPath>,
    /// What the host found at the target; a directory by its written path where it's left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<ResolvedPath>,
    /// Who asks.
    #[serde(default)]
    pub(super) requester: Requester,
    /// A file in the format of mountinfo, beside this one unless absolute; an empty table where it's left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mount_table: Option<PathBuf>,
}

impl RequestFile {
    /// Reads a request file and the mount table that it names.
    pub(super) fn read(path: &Path) -> anyhow::Result<(Self, MountTable)> {
        let text = read_plain(path)?;
        let file: Self = serde_json::from_slice(&text).map_err(|error| {
            let hint = Some("docs/policy-directory.md shows the form of a request file");
            Error::from(Refusals::one("--request", format!("{}: {error}", path.display()), hint))
        })?;
        let table = match &file.mount_table {
            Some(table) => {
                let table = path.parent().unwrap_or(Path::new(".")).join(table);
                MountTable::parse(read_plain(&table)?)?
            }
            None => MountTable::parse(Vec::new())?,
        };
        Ok((file, table))
    }
}
