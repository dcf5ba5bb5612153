//! Deciding a request: what the host refuses by itself, then mutating policies in rounds, then validating policies.

pub(crate) mod answers;
pub(crate) mod approved;
pub mod case;
pub mod chain;
pub(crate) mod edit_rules;
mod ends;
pub(crate) mod invariants;
pub(crate) mod places;
mod progress;
mod rounds;
pub mod ruling;
mod standing;
pub mod trace;
mod validation;
