//! `mountgate completions`

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

#[expect(clippy::unnecessary_wraps, reason = "as every command")]
pub(super) fn run(args: &CompletionsArgs, mut program: clap::Command) -> anyhow::Result<ExitStatus> {
    clap_complete::generate(args.shell, &mut program, "mountgate", &mut std::io::stdout());
    Ok(ExitStatus::Done)
}
