//! Rewrites a plugin so that it notes which of its branches it took, and in a second build also what it compared.
//!
//! Each core module that has branches gets a memory of its own for the notes, and the component an export for each module that shows them:
//! `mountgate-coverage-N`, a function that returns a list of bytes in that memory. It's called before `evaluate`, and the list is read
//! afterwards, also if the plugin trapped. The verdict is the same as that of the plugin as it is, but fuel and stack aren't.
//!
//! Each `br_if`, `if` and `select` has two notes, `br_table` one for each target, and each function one: exact edges, no hashes.

mod branch;
mod component;
pub(crate) mod flow;
mod module;
pub(crate) mod notes;
mod noting;
#[cfg(test)]
mod tests;

pub(crate) use self::component::instrument;
pub(crate) use self::noting::Noting;
