//! Runs mounts on a host on behalf of others, and lets WebAssembly policy plugins decide which.
//!
//! A [`request::MountRequest`] goes through a [`chain::Chain`] of policies; what it approves is a
//! [`plan::MountPlan`], which an [`executor::Executor`] carries out in the host's mount namespace.

pub mod audit;
pub mod chain;
pub mod cli;
mod commands;
pub mod error;
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub mod executor;
pub mod exit;
pub mod fuzz;
pub mod gate;
#[cfg(target_env = "musl")]
mod heap;
pub mod host_root;
mod identity;
pub mod invariants;
pub mod mount_table;
pub mod options;
pub mod plan;
pub mod policy;
pub mod request;
pub mod resolve;
mod sys;
pub mod target_lock;
pub mod verdict;
mod worker;
