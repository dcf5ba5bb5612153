//! What is wrong with a policy directory.

use std::fmt;
use std::path::PathBuf;

use crate::model::hint::Hint;

/// What is wrong with a policy directory, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryError {
    /// The file or folder.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do now.
    pub hint: Hint,
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for DirectoryError {}
