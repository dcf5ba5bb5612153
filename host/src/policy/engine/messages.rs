//! Text of plugins and of wasmtime in errors.

use crate::model::untrusted::shorten;

/// A plugin's text, escaped and bounded.
pub(super) fn shown(text: &str) -> String {
    shorten(text, 1000)
}

/// An error and its causes in one line.
pub(super) fn wasmtime_causes(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().map(|cause| shown(cause.to_string().trim())).collect();
    causes.join(": ")
}
