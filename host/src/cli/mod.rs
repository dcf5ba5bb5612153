//! The command line: one file for each subcommand, with its flags and a `run`, beside what they share.

mod carry_out;
mod check;
mod completions;
mod device_target;
mod drop_in;
mod fuzz;
mod global;
mod inherited;
mod input;
mod lent;
mod list;
mod man;
mod mount;
mod output;
mod plugin;
mod plugin_bench;
mod policy;
mod policy_coverage;
mod policy_diff;
mod policy_test;
pub mod program;
mod registry;
mod replay;
mod request_file;
mod timed;
mod umount;
mod users;
