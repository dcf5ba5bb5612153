//! `mountgate completions`

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use crate::exit::ExitStatus;

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mountgate completions bash > /usr/share/bash-completion/completions/mountgate")]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, mut program: clap::Command) -> anyhow::Result<ExitStatus> {
    // It panics where it can't write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "mountgate", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitStatus::Done)
}
