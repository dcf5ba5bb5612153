//! `push` and `pull`, which another program does: the one with root's power has no HTTP client.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;
use clap::Args;

use super::global::Global;
use crate::exit::ExitStatus;

/// The program, which lies beside this one.
const PROGRAM: &str = "mountgate-registry";

/// What is passed on as it is.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct RegistryArgs {
    /// See --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// Becomes that program. Returns only if it can't be started.
#[expect(
    clippy::disallowed_methods,
    reason = "what is started takes the place of this program, before it opens anything"
)]
pub(super) fn run(global: &Global, command: [&str; 2], args: &RegistryArgs) -> anyhow::Result<ExitStatus> {
    let here = std::env::current_exe().context("this program can't be found")?;
    let program = here.with_file_name(PROGRAM);
    let mut command_line = Command::new(&program);
    command_line.args(command).args(&args.arguments);
    if global.json {
        command_line.arg("--json");
    }
    if let Some(keys) = &global.trusted_keys {
        command_line.arg("--trusted-keys").arg(keys);
    }
    let error = command_line.exec();
    Err(error).with_context(|| format!("{} can't be started: install it beside mountgate", program.display()))
}
