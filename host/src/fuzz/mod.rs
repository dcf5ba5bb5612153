//! Fuzzing of policies: requests are made at random with knowledge of mounts, and of those that reached something new. Oracles judge
//! each decision. What they find is shown by the plugins as they are, and shrunk to the smallest request that shows the same.

mod corpus;
mod coverage;
pub mod covered;
mod derive;
pub mod dictionary;
pub mod diff;
pub mod generate;
mod growth;
pub mod input;
pub(crate) mod instrument;
mod judge;
mod mutate;
pub mod oracles;
pub mod run;
mod settings;
mod settings_corpus;
mod shrink;
mod solve;
pub mod tables;
