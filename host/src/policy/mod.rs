//! Policies: plugins with settings at a place in the chain, read from a policy directory and run in a sandbox.

mod bindings;
mod cache;
mod contract_v0_1;
mod directory;
mod engine;
mod failure;
mod imports;
mod limits;
mod runtime;
mod seen;
mod trust;
mod units;
mod wasi;

pub use cache::Cache;
pub use contract_v0_1::{Outcome, Review, ReviewParts};
pub use directory::{DirectoryError, Grant, Mode, PolicyDirectory, PolicyEntry, digest_of, lock};
pub(crate) use engine::TICK;
pub use engine::{Description, Engine, Evaluation, Inspection, Kind, LogLine, Policy, inspect};
pub use failure::{Failure, FailureKind};
pub use limits::Limits;
pub(crate) use units::parse_duration;
