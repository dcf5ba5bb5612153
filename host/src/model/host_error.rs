//! A failed system call.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::hint::Hint;

/// A system call that failed, with its arguments and the kernel's answer. Clones share the cause.
#[derive(Debug, Clone)]
pub struct HostError {
    call: &'static str,
    arguments: String,
    error: Arc<io::Error>,
    hint: Option<Hint>,
}

impl HostError {
    pub(crate) fn new(call: &'static str, arguments: &str, error: io::Error) -> Self {
        Self { call, arguments: arguments.to_owned(), error: Arc::new(error), hint: None }
    }

    /// This error with a hint, where there is one.
    pub(crate) fn with_hint(self, hint: Option<impl Into<Hint>>) -> Self {
        Self { hint: hint.map(Into::into), ..self }
    }

    pub(crate) fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&Hint> {
        self.hint.as_ref()
    }
}

impl fmt::Display for HostError {
    /// As a person would write the call: `open(/proc/1/ns/mnt): Permission denied`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}): {}", self.call, self.arguments, self.error)
    }
}

impl std::error::Error for HostError {}
