//! What a policy answers: allow, deny, or a list of edits.

use serde::{Deserialize, Serialize};

use super::edit::Edit;
use super::secrets::Secrets;
use super::untrusted;

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
    /// This denial without these secrets.
    pub(crate) fn masked(&self, secrets: &Secrets) -> Self {
        Self {
            code: self.code.clone(),
            reason: secrets.mask(&self.reason),
            field: self.field.as_deref().map(|field| secrets.mask(field)),
            hint: self.hint.as_deref().map(|hint| secrets.mask(hint)),
        }
    }

    fn check(&self) -> Result<(), String> {
        if !is_code(&self.code) {
            let start: String = self.code.chars().take(64).collect();
            return Err(format!("the denial's code isn't a short word in kebab case: {start:?}"));
        }
        if self.reason.trim().is_empty() {
            return Err(format!("a denial ({}) without a reason", self.code));
        }
        untrusted::check("the denial's reason", &self.reason)?;
        untrusted::check("the denial's field", self.field.as_deref().unwrap_or_default())?;
        untrusted::check("the denial's hint", self.hint.as_deref().unwrap_or_default())
    }
}

/// Whether a text is a short word in kebab case.
pub(crate) fn is_code(text: &str) -> bool {
    let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.len() <= 64 && text.chars().all(kebab)
}
