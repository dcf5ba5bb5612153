//! A line of a mount table that can't be read.

use serde::Serialize;

/// A line that isn't one of mountinfo or mounts. The rest of the table is there nevertheless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// What it says, with what isn't UTF-8 in octal escapes.
    pub text: String,
    /// What is wrong with it.
    pub error: String,
}
