//! Where a mount is, and what it shows there.

use crate::model::paths::is_within;

/// The paths of one mount.
#[derive(Debug, Clone)]
pub(crate) struct NodePaths {
    /// What is mounted: the path in the file system.
    pub(crate) root: String,
    /// The mount point.
    pub(crate) target: String,
}

impl NodePaths {
    /// The path in the file system of a path of the host that lies on this mount.
    pub(crate) fn in_file_system(&self, path: &str) -> Option<String> {
        below(path, &self.target).map(|rest| joined(&self.root, rest))
    }

    /// The path of the host at which this mount shows a path of its file system.
    pub(crate) fn on_host(&self, path: &str) -> Option<String> {
        below(path, &self.root).map(|rest| joined(&self.target, rest))
    }
}

/// What lies behind a folder in a path: nothing, or `/…`.
fn below<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    is_within(path, folder).then(|| path.get(folder.trim_end_matches('/').len()..).unwrap_or_default())
}

fn joined(folder: &str, rest: &str) -> String {
    match (folder.trim_end_matches('/'), rest.trim_end_matches('/')) {
        ("", "") => "/".to_owned(),
        (folder, rest) => format!("{folder}{rest}"),
    }
}
