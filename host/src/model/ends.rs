//! The two ends of a request, its source and its target, as the host found them.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::location::{Device, Location};

/// What the host found when it followed a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolvedPath {
    /// The real path: absolute, no `.`, `..` or symbolic link in it.
    pub path: String,
    /// What is there.
    pub kind: FileKind,
    /// Where it is in its file system. Of a block device that is mounted somewhere: the root of the file system on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Of a block device or an image that a new mount shows or writes: the locations of its bytes. Of what is bound, moved or remounted:
    /// the images behind the loop device that its file system is on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage: Vec<Location>,
    /// The number of the device that a device file stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// The symbolic links that were followed, each by its own path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub symlinks: Vec<String>,
    /// The mountinfo id of the mount it lies on, where the kernel tells (Linux 5.8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covering_mount: Option<u64>,
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the kinds of inode(7)")]
pub enum FileKind {
    Directory,
    Regular,
    BlockDevice,
    CharDevice,
    Fifo,
    Socket,
}

/// A path that the host resolved, with the descriptor that holds on to what was found. A replayed request has no
/// descriptors.
#[derive(Debug)]
pub struct PinnedPath {
    /// What was found.
    pub found: ResolvedPath,
    /// Holds on to it; where a part of it is missing, to the directory that will hold that.
    pub pin: Option<OwnedFd>,
    /// The end of the path that isn't there and will be made, as `a/b`. It's empty if all of it is there.
    pub missing: String,
    /// The path as the kernel has it, where that isn't UTF-8.
    pub bytes: Option<Vec<u8>>,
}

impl PinnedPath {
    /// A path that is there.
    pub(crate) fn whole(found: ResolvedPath, pin: Option<OwnedFd>) -> Self {
        Self { found, pin, missing: String::new(), bytes: None }
    }

    /// The path as the kernel has it.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or(self.found.path.as_bytes())
    }

    /// The path of what is held, as the kernel has it.
    pub(crate) fn held_bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or(self.held_path().as_bytes())
    }

    /// The path of what is held.
    pub(crate) fn held_path(&self) -> &str {
        let held = self.found.path.strip_suffix(self.missing.as_str()).unwrap_or(&self.found.path);
        match (self.missing.is_empty(), held.trim_end_matches('/')) {
            (true, _) => held,
            (false, "") => "/",
            (false, held) => held,
        }
    }
}

/// The source and the target of a request as the host found them.
#[derive(Debug)]
pub(crate) struct Ends {
    /// Absent where the source isn't a path of the host.
    pub(crate) source: Option<PinnedPath>,
    pub(crate) target: PinnedPath,
    /// The host's paths that the options name.
    pub(crate) option_paths: Vec<OptionPath<PinnedPath>>,
}

/// A path of the host in an option, e.g. a layer of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptionPath<P = ResolvedPath> {
    /// The option's name.
    pub option: String,
    /// What the host found there.
    pub found: P,
}

impl Ends {
    pub(crate) fn found_source(&self) -> Option<&ResolvedPath> {
        self.source.as_ref().map(|source| &source.found)
    }

    /// What the host found at the paths in the options.
    pub(crate) fn found_in_options(&self) -> Vec<OptionPath> {
        let found =
            |path: &OptionPath<PinnedPath>| OptionPath { option: path.option.clone(), found: path.found.found.clone() };
        self.option_paths.iter().map(found).collect()
    }
}
