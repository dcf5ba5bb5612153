//! Why the host refuses a request by itself, whatever the policies say.

use std::fmt;

use serde::Serialize;

use super::hint::Hint;

/// One reason why the host refuses a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The argument at fault, as on the command line.
    pub argument: String,
    /// A short code for programs.
    pub code: &'static str,
    /// What is wrong with it.
    pub message: String,
    /// What to do instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
}

/// All reasons why the host refuses a request; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusals(Vec<Refusal>);

impl Refusal {
    pub(crate) fn new(argument: &str, message: String, hint: Option<&'static str>) -> Self {
        Self { argument: argument.to_owned(), code: "refused", message, hint: hint.map(Hint::from) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.argument, self.message)
    }
}

impl Refusals {
    /// A single reason.
    pub(crate) fn one(argument: &str, message: String, hint: Option<&'static str>) -> Self {
        Self(vec![Refusal::new(argument, message, hint)])
    }

    /// These reasons with a code.
    #[must_use]
    pub(crate) fn with_code(mut self, code: &'static str) -> Self {
        self.0.iter_mut().for_each(|refusal| refusal.code = code);
        self
    }

    /// An error where there is a reason.
    pub(crate) fn check(reasons: Vec<Refusal>) -> Result<(), Self> {
        if reasons.is_empty() { Ok(()) } else { Err(Self(reasons)) }
    }

    /// These reasons with other words.
    #[must_use]
    pub(crate) fn reworded(mut self, reword: impl Fn(&str) -> String) -> Self {
        self.0.iter_mut().for_each(|refusal| refusal.message = reword(&refusal.message));
        self
    }

    /// The reasons in the order in which they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Refusal> {
        self.0.iter()
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, refusal) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{refusal}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusals {}
