//! What a policy answers, after it has been checked: allow, deny or a list of edits.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::options::MountOption;
use crate::request::MountRequest;

/// A policy's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing against it.
    Allow,
    /// It must not be carried out.
    Deny(Denial),
    /// It may be carried out with these changes.
    Rewrite(Vec<Edit>),
}

impl Verdict {
    /// The word for it in traces.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny(_) => "deny",
            Self::Rewrite(_) => "rewrite",
        }
    }

    /// Checks what a plugin returned against the bounds of the contract.
    ///
    /// # Errors
    /// What is malformed about it, for the trace.
    pub(crate) fn check(self) -> Result<Self, String> {
        match &self {
            Self::Allow => {}
            Self::Deny(denial) => denial.check()?,
            Self::Rewrite(edits) => {
                if edits.len() > MAX_EDITS {
                    return Err(format!("{} edits where at most {MAX_EDITS} may be", edits.len()));
                }
                for edit in edits {
                    edit.check()?;
                }
            }
        }
        Ok(self)
    }
}

/// The most edits that one rewrite may hold.
const MAX_EDITS: usize = 64;
/// The most bytes that one text in a verdict may have.
const MAX_TEXT: usize = 4096;

/// Refuses text that is too long or could drive a terminal.
fn check_text(what: &str, text: &str) -> Result<(), String> {
    if text.len() > MAX_TEXT {
        return Err(format!("{what} has {} bytes where at most {MAX_TEXT} may be", text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{what} holds control characters: {}", text.escape_debug()));
    }
    Ok(())
}

/// Why a request must not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// A short word for programs, in kebab case.
    pub code: String,
    /// A sentence for the person who asked.
    pub reason: String,
    /// The field of the request that is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to do instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Denial {
    fn check(&self) -> Result<(), String> {
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.code.is_empty() || self.code.len() > 64 || !self.code.chars().all(kebab) {
            let start: String = self.code.chars().take(64).collect();
            return Err(format!("a denial whose code isn't a short word in kebab case: {start:?}"));
        }
        if self.reason.trim().is_empty() {
            return Err(format!("a denial ({}) without a reason", self.code));
        }
        check_text("the denial's reason", &self.reason)?;
        check_text("the denial's field", self.field.as_deref().unwrap_or_default())?;
        check_text("the denial's hint", self.hint.as_deref().unwrap_or_default())
    }
}

/// The fields of a request that a policy may be given leave to change.
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

    /// The same with a secret masked.
    pub(crate) fn masked(&self) -> Self {
        match self {
            Self::AddOption(option) => Self::AddOption(option.masked()),
            other => other.clone(),
        }
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::SetSource(text) | Self::SetTarget(text) | Self::SetFstype(text) | Self::DropOption(text) => {
                check_text("an edit", text)
            }
            Self::AddOption(option) => {
                check_text("an option's name", &option.name)?;
                check_text("an option's value", option.value.as_deref().unwrap_or_default())
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
