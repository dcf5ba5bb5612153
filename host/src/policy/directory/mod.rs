//! The policy directory: `policies.toml`, the plugins that it lists, and their digests.
//!
//! Everything in it is untrusted until it is checked here: who could have written it, whether it says only what is known,
//! and whether each plugin is the one that was meant.

pub mod digest;
pub mod entry;
pub mod error;
pub mod lockfile;
pub mod open;
mod reader;
pub(super) mod record;
mod schema;
pub(crate) mod signature;
mod trust;
pub(crate) mod units;
