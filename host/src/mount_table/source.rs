//! Where the answers of a snapshot come from.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use super::mount::MountText;
use super::table::MountTable;
use super::topology::Topology;
use crate::model::host_error::HostError;
use crate::model::location::{Device, Location};

/// Where the answers of a snapshot come from.
pub(crate) trait MountSource: Send + Sync {
    /// The whole table.
    fn table(&self) -> Result<MountTable, HostError>;

    /// The mount that a real path lies on, where that can be told without the table.
    fn covering(&self, path: &str) -> Option<MountText>;

    /// How the mounts hang together, where that can be told without the table.
    fn topology(&self) -> Option<Topology>;

    /// Where a path leads. Links are followed, and what isn't there lies where it would be. Nothing is returned for a path
    /// that leads nowhere.
    fn reach(&self, path: &str) -> Option<Reached>;

    /// What was found at a real path.
    fn reach_found(&self, found: BorrowedFd<'_>, path: &str) -> Option<Reached>;

    /// The real paths of the links on the way of a path. None where that leads nowhere.
    fn links(&self, path: &str) -> Option<Vec<String>>;

    /// Whether no mount was made, taken away, moved or given other flags since this source was opened. A change of propagation
    /// alone isn't seen: it can take peers and slaves away, and adds none. A change of a file system's own options isn't seen
    /// either: requests that make one, or mount the file system, hold the lock of that file system.
    fn is_unchanged(&self) -> bool;

    /// The number of the mounted file system on a block device, where that isn't the device's own.
    fn known_as(&self, device: Device, topology: &Topology) -> Option<Device>;
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The real path.
    pub(crate) real: String,
    /// The mountinfo id of the mount that it lies on, and its location. Where they can't be told, the table knows.
    pub(crate) on: Option<(u64, Location)>,
}

/// Paths of a host that lead elsewhere than their names say, or nowhere.
pub type Paths = BTreeMap<String, Option<String>>;

/// A table that was recorded. There are no files, and no links but those to these paths.
pub(super) struct Recorded(pub(super) Paths);

impl MountSource for Recorded {
    fn table(&self) -> Result<MountTable, HostError> {
        Err(HostError::new("read", "a mount table", std::io::ErrorKind::NotFound.into()))
    }

    fn covering(&self, _: &str) -> Option<MountText> {
        None
    }

    fn topology(&self) -> Option<Topology> {
        None
    }

    fn reach(&self, path: &str) -> Option<Reached> {
        // The path itself, or else the nearest above it that is a link.
        let ends = path.rmatch_indices('/').map(|(end, _)| end).filter(|end| *end > 0);
        let link =
            std::iter::once(path.len()).chain(ends).find_map(|end| Some((self.0.get(&path[..end])?, &path[end..])));
        let real = match link {
            Some((to, rest)) => format!("{}{rest}", to.as_ref()?.trim_end_matches('/')),
            None => path.to_owned(),
        };
        Some(Reached { real: if real.is_empty() { "/".to_owned() } else { real }, on: None })
    }

    fn links(&self, path: &str) -> Option<Vec<String>> {
        let is_on_the_way = |link: &&String| {
            path.strip_prefix(link.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        Some(self.0.keys().filter(is_on_the_way).cloned().collect())
    }

    fn reach_found(&self, _: BorrowedFd<'_>, path: &str) -> Option<Reached> {
        self.reach(path)
    }

    fn is_unchanged(&self) -> bool {
        true
    }

    fn known_as(&self, _: Device, _: &Topology) -> Option<Device> {
        None
    }
}
