//! The host: its tree and its mount namespace as this process sees them.

pub(crate) mod file_systems;
pub(crate) mod identity;
pub(crate) mod namespaces;
mod open;
pub(crate) mod place;
pub(crate) mod programs;
pub mod resolve;
pub mod root;
pub mod target_lock;
