//! What the host itself holds to: the `[host]` part of a policy directory.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::request::MountRequest;

/// The `[host]` part of a policy directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRules {
    /// The mount helpers that may run.
    pub helpers: Vec<Helper>,
    /// Options that are allowed, although the host refuses them by default.
    pub options: Vec<String>,
    /// Paths that may be mounted on, with all below them, although the host refuses them by default.
    pub targets: Vec<String>,
    /// Paths that may be shown elsewhere, with all below them, although they show mountgate's own state.
    pub sources: Vec<String>,
    /// What to do with symbolic links in a request's paths.
    pub symlinks: Symlinks,
    /// When helpers run in a systemd scope of their own.
    pub scope: ScopeRule,
    /// How long the whole request may take on the host.
    pub timeout: Duration,
    /// Where what happens to each request is written, if anywhere.
    pub audit: Option<PathBuf>,
    /// Whether a request that can't be written down there is refused.
    pub audit_required: bool,
}

impl Default for HostRules {
    fn default() -> Self {
        Self {
            helpers: Vec::new(),
            options: Vec::new(),
            targets: Vec::new(),
            sources: Vec::new(),
            symlinks: Symlinks::Resolve,
            scope: ScopeRule::Prefer,
            timeout: Duration::from_secs(30),
            audit: None,
            audit_required: false,
        }
    }
}

impl HostRules {
    /// The helper that may run for a file system type.
    pub(crate) fn helper(&self, fstype: &str) -> Option<&Helper> {
        self.helpers.iter().find(|helper| helper.fstype == fstype)
    }

    /// Whether a request runs a helper.
    pub(crate) fn runs_helper(&self, request: &MountRequest) -> bool {
        request.fstype.as_ref().is_some_and(|fstype| self.helper(fstype).is_some())
    }
}

/// A mount helper that may run, see mount(8): `mount.TYPE`, or the daemon of a FUSE type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Helper {
    /// The type that a request asks for.
    pub fstype: String,
    /// The kernel's type that the helper mounts.
    pub makes: String,
}

impl Helper {
    /// From `TYPE`, or from `TYPE=MADE` where the helper mounts another type of the kernel's.
    pub fn parse(text: &str) -> Self {
        let (fstype, makes) = text.split_once('=').unwrap_or((text, text));
        Self { fstype: fstype.to_owned(), makes: makes.to_owned() }
    }
}

/// Whether this can be the name of a file system type.
pub(crate) fn is_type_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    // A part that begins with `-` could be taken for a flag.
    let mut parts = text.split('.');
    text.len() <= 64 && parts.all(|part| !part.is_empty() && !part.starts_with('-') && part.chars().all(is_plain))
}

/// Whether this can be a type whose helper runs. With `fuse` alone the source of a request would name the program that runs as root.
pub(crate) fn is_helper_type(text: &str) -> bool {
    is_type_name(text) && (!text.starts_with("fuse") || text.starts_with("fuse.") || text.starts_with("fuse3."))
}

/// What `[host] symlinks` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Symlinks {
    /// They are followed, shown to policies and in the trace.
    #[default]
    Resolve,
    /// A path with one in it is refused.
    Refuse,
}

/// When a systemd scope is asked for, for types with a helper.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScopeRule {
    /// Without one, nothing is mounted.
    Require,
    /// One where the host was booted with systemd and gives one.
    #[default]
    Prefer,
    /// None.
    Never,
}
