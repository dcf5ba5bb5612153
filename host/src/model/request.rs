//! A mount request: the operation, its source and target, and its options.
//!
//! The JSON forms of these types are part of the contract: `check --request` reads them, `--json` prints them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::options::{Options, secrets_of_url, without};
use super::refusals::Refusals;
use super::requester::Label;
use super::untrusted::for_people;

/// What is to be done, as in mount(8) and umount(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// A new mount of a file system.
    Mount,
    /// Make a tree or a file visible at a second place.
    Bind {
        /// Whether all mounts below it become visible as well (`--rbind`).
        recursive: bool,
    },
    /// Change the options of an existing mount.
    Remount {
        /// Only those of the one mount point (`remount,bind`), not of the file system behind it.
        mount_point_only: bool,
    },
    /// Move a mount to another place.
    Move,
    /// Change how mount events travel.
    SetPropagation(Propagation),
    /// Take a mount away.
    Unmount(UnmountMode),
}

impl Operation {
    /// The word for it in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Bind { .. } => "bind",
            Self::Remount { .. } => "remount",
            Self::Move => "move",
            Self::SetPropagation(_) => "set-propagation",
            Self::Unmount(_) => "unmount",
        }
    }

    /// Whether the source is a path that must exist on the host.
    pub(crate) fn source_is_path(self) -> bool {
        matches!(self, Self::Bind { .. } | Self::Move)
    }
}

/// A change of propagation, see mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Propagation {
    /// The propagation to set.
    pub kind: PropagationType,
    /// Whether all mounts below the target change as well.
    #[serde(default)]
    pub recursive: bool,
}

/// The four propagation types of mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the manual page's own words")]
pub enum PropagationType {
    Shared,
    Slave,
    Private,
    Unbindable,
}

impl PropagationType {
    /// The word in mount(8)'s `--make-WORD`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Slave => "slave",
            Self::Private => "private",
            Self::Unbindable => "unbindable",
        }
    }
}

/// How a mount is taken away, as the flags of umount(8).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnmountMode {
    /// `-l`
    pub lazy: bool,
    /// `-f`
    pub force: bool,
    /// `-R`
    pub recursive: bool,
}

/// A mount request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountRequest {
    /// What is to be done.
    pub operation: Operation,
    /// The device, remote export, or path that is bound or moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The absolute path of the mount point.
    pub target: String,
    /// The file system type, for a new mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fstype: Option<String>,
    /// The options in order, duplicates kept.
    #[serde(default)]
    pub options: Options,
}

/// More options than this are no request.
pub(crate) const MAX_OPTIONS: usize = 512;
/// The most bytes of a request's texts, labels included: what is written of it must be written before it's carried out.
const MAX_BYTES: usize = 128 << 10;

impl MountRequest {
    /// Refuses a request that is too large to be written down.
    ///
    /// # Errors
    /// How large it is.
    pub(crate) fn check_size(&self, labels: &[Label]) -> Result<(), Refusals> {
        let labels = labels.iter().map(|label| label.key.len() + label.value.len());
        let options =
            self.options.iter().map(|option| option.name.len() + option.value.as_ref().map_or(0, String::len));
        let ends = [Some(&self.target), self.source.as_ref(), self.fstype.as_ref()];
        let bytes: usize = labels.chain(options).chain(ends.into_iter().flatten().map(String::len)).sum();
        if bytes > MAX_BYTES {
            let message = format!("the request has {bytes} bytes where at most {MAX_BYTES} may be");
            return Err(Refusals::one("request", message, None));
        }
        if self.options.len() > MAX_OPTIONS {
            return Err(Refusals::one("-o", format!("there are more than {MAX_OPTIONS} options"), None));
        }
        Ok(())
    }

    /// This request with the values of secret options masked, for people and logs.
    pub fn masked(&self) -> Self {
        let masked = |source: &String| without(source, secrets_of_url(source));
        Self { options: self.options.masked(), source: self.source.as_ref().map(masked), ..self.clone() }
    }
}

impl fmt::Display for MountRequest {
    /// One line for a person, secrets masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = self.masked();
        f.write_str(masked.operation.name())?;
        if let Some(fstype) = &masked.fstype {
            write!(f, " {}", for_people(fstype))?;
        }
        if let Some(source) = &masked.source {
            write!(f, " {}", for_people(source))?;
        }
        write!(f, " on {}", for_people(&masked.target))?;
        if !masked.options.is_empty() {
            write!(f, " ({})", for_people(&masked.options.to_string()))?;
        }
        Ok(())
    }
}
