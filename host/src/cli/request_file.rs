//! A request in a file, with all that its decision depends on.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::input::read_plain;
use crate::error::Error;
use crate::model::ends::{OptionPath, ResolvedPath};
use crate::model::refusals::Refusals;
use crate::model::request::MountRequest;
use crate::model::requester::Requester;
use crate::mount_table::source::Paths;
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
    /// What the host found at the paths in the options, for each option in the order of its paths; directories where
    /// they are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) option_paths: Vec<OptionPath>,
    /// Who asks.
    #[serde(default)]
    pub(super) requester: Requester,
    /// The host's mounts; none where it's left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mount_table: Option<Mounts>,
    /// The host's paths that are links, each with where it leads; with nothing where it leads nowhere.
    #[serde(default, skip_serializing_if = "Paths::is_empty")]
    pub(super) paths: Paths,
}

/// Mounts, in the format of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Mounts {
    /// A file, beside the request file unless absolute.
    File(PathBuf),
    /// The lines themselves.
    Lines(Lines),
}

/// Lines of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lines {
    pub(super) lines: String,
}

impl RequestFile {
    /// Reads a request file and the mount table that it names.
    pub(super) fn read(path: &Path) -> anyhow::Result<(Self, MountTable)> {
        let text = read_plain(path)?;
        let file: Self = serde_json::from_slice(&text).map_err(|error| {
            let hint = Some("docs/policy-directory.md shows the form of a request file");
            Error::from(Refusals::one("--request", format!("{}: {error}", path.display()), hint))
        })?;
        let table = MountTable::parse(file.mounts(path)?)?;
        Ok((file, table))
    }

    /// The mounts of a file that lies here, as text.
    pub(super) fn mounts(&self, path: &Path) -> anyhow::Result<Vec<u8>> {
        match &self.mount_table {
            Some(Mounts::File(file)) => read_plain(&path.parent().unwrap_or(Path::new(".")).join(file)),
            Some(Mounts::Lines(Lines { lines })) => Ok(lines.clone().into_bytes()),
            None => Ok(Vec::new()),
        }
    }
}
