//! The only unsafe code: what neither the standard library nor a wrapper crate can promise for us.

#![expect(unsafe_code, reason = "each block says what it relies on")]

use std::path::Path;

use wasmtime::component::Component;

/// Loads compiled code from a file that the caller has checked to be this user's own and nobody else's.
pub(crate) fn deserialize_trusted(engine: &wasmtime::Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file was made by `Component::serialize` of this program: only the cache calls this, for an open
    // file that belongs to the caller, that nobody else can reach, and that was renamed into place when complete.
    unsafe { Component::deserialize_file(engine, path) }
}
