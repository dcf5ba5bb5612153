//! Text of plugins and of wasmtime in errors.

use crate::model::untrusted::shorten;
use crate::policy::fault::Fault;

/// A plugin's text, escaped and bounded.
pub(super) fn shown(text: &str) -> String {
    shorten(text, 1000)
}

/// An error and its causes in one line.
pub(super) fn wasmtime_causes(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().map(|cause| shown(cause.to_string().trim())).collect();
    causes.join(": ")
}

/// A machine that can't give what the sandbox needs.
pub(super) fn unavailable(error: &wasmtime::Error) -> Fault {
    Fault::new(format!("the sandbox can't be set up: {}", wasmtime_causes(error)), "report this as a bug")
}
