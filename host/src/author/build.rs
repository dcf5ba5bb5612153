//! Builds a plugin and makes a component of it.

use std::path::Path;

use anyhow::Result;

use super::built::Built;
use super::language::Language;
use super::{javascript, python, rust};

/// Builds the plugin in a folder with what is on this machine. What the compiler says goes to standard error. With WASI, the runtime of a
/// language may print; without, the plugin needs no grant.
///
/// # Errors
/// A folder without a plugin, a compiler that is missing, or a plugin that doesn't compile.
pub(crate) fn build(project: &Path, with_wasi: bool) -> Result<Built> {
    match Language::of(project)? {
        Language::Rust => rust::build(project),
        Language::JavaScript => javascript::build(project, with_wasi),
        Language::Python => python::build(project, with_wasi),
    }
}
