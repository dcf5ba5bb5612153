//! One change of one field of a request, as a policy asks for it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::options::MountOption;
use super::request::MountRequest;
use super::untrusted;

/// The fields of a request that a policy may be permitted to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "named as the request's fields")]
pub enum Field {
    Source,
    Target,
    Fstype,
    Options,
}

impl Field {
    /// Its name in a policy directory's `rewrites`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::Fstype => "fstype",
            Self::Options => "options",
        }
    }
}

/// One change to one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// Use another source.
    SetSource(String),
    /// Use another target.
    SetTarget(String),
    /// Use another file system type.
    SetFstype(String),
    /// Make this option count.
    AddOption(MountOption),
    /// Take away every option of this name.
    DropOption(String),
}

impl Edit {
    /// The field that it changes.
    pub fn field(&self) -> Field {
        match self {
            Self::SetSource(_) => Field::Source,
            Self::SetTarget(_) => Field::Target,
            Self::SetFstype(_) => Field::Fstype,
            Self::AddOption(_) | Self::DropOption(_) => Field::Options,
        }
    }

    /// Changes the request.
    pub(crate) fn apply(&self, request: &mut MountRequest) {
        match self {
            Self::SetSource(source) => request.source = Some(source.clone()),
            Self::SetTarget(target) => request.target.clone_from(target),
            Self::SetFstype(fstype) => request.fstype = Some(fstype.clone()),
            Self::AddOption(option) => request.options.add(option.clone()),
            Self::DropOption(name) => request.options.drop_all(name),
        }
    }

    /// This edit with a secret value masked.
    pub(crate) fn masked(&self) -> Self {
        match self {
            Self::AddOption(option) => Self::AddOption(option.masked()),
            other => other.clone(),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::SetSource(text) | Self::SetTarget(text) | Self::SetFstype(text) | Self::DropOption(text) => {
                untrusted::check("an edit", text)
            }
            Self::AddOption(option) => {
                untrusted::check("an option's name", &option.name)?;
                untrusted::check("an option's value", option.value.as_deref().unwrap_or_default())
            }
        }
    }
}

impl fmt::Display for Edit {
    /// As in a trace, e.g. `+nosuid`; secrets masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.masked() {
            Self::SetSource(source) => write!(f, "source={source}"),
            Self::SetTarget(target) => write!(f, "target={target}"),
            Self::SetFstype(fstype) => write!(f, "fstype={fstype}"),
            Self::AddOption(option) => write!(f, "+{option}"),
            Self::DropOption(name) => write!(f, "-{name}"),
        }
    }
}

/// An edit and the policy that asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct OwnedEdit {
    pub policy: String,
    pub edit: Edit,
}
