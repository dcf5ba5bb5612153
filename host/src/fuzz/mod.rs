//! Fuzzing of policies: requests are made at random with knowledge of mounts, judged by oracles, and shrunk to the
//! smallest request that shows the same.

pub mod dictionary;
pub mod generate;
pub mod input;
mod judge;
pub mod oracles;
pub mod run;
mod shrink;
pub mod tables;
