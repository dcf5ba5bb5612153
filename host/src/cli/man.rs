//! `mountgate man`

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::exit::ExitStatus;

/// Write the manual pages to a folder
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The folder; it's made where it's missing
    folder: PathBuf,
}

pub(super) fn run(args: &ManArgs, program: clap::Command) -> anyhow::Result<ExitStatus> {
    std::fs::create_dir_all(&args.folder).with_context(|| format!("{} can't be made", args.folder.display()))?;
    clap_mangen::generate_to(program, &args.folder)?;
    Ok(ExitStatus::Done)
}
