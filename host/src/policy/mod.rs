//! Policies: plugins with settings at a place in the chain, read from a policy directory and run in a sandbox.

pub mod cache;
pub mod callers;
pub mod description;
pub mod directory;
pub mod engine;
pub mod evaluation;
pub(crate) mod fault;
pub mod grant;
pub mod limits;
pub mod mode;
mod outline;
mod settings_schema;
