//! Runs mounts on a host on behalf of others, and lets WebAssembly policy plugins decide which.
//!
//! [`gate::Gate`] is the whole path. A [`model::request::MountRequest`] goes through a [`decision::chain::Chain`] of policies.
//! What it approves is a [`plan::mount_plan::MountPlan`], which an [`executor::apply::Executor`] carries out in the host's
//! mount namespace.

pub mod audit;
mod author;
pub mod cli;
#[cfg(all(target_arch = "x86_64", any(target_env = "musl", test)))]
mod copy;
pub mod decision;
pub mod error;
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub mod executor;
pub mod exit;
pub mod fuzz;
pub mod gate;
#[cfg(any(target_env = "musl", test))]
mod heap;
pub mod host;
mod json;
pub mod model;
pub mod mount_table;
pub mod parsers;
pub mod plan;
pub mod policy;
pub mod report;
#[cfg(all(target_env = "musl", target_arch = "x86_64"))]
mod start;
mod sys;
mod test_cases;
