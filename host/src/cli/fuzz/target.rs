//! `mountgate fuzz-target`

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::guides::PROPERTIES;
use super::input_file::write_whole;
use crate::cli::global::Global;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::model::refusals::Refusals;

/// Write what fuzzing services run: an executable with the flags of libFuzzer, and all that it needs beside it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mountgate fuzz-target policies/baseline \"$OUT\"

The executable is named for the directory. It needs the files that are written beside it, and nothing else.")]
pub(in crate::cli) struct FuzzTargetArgs {
    /// The policy directory
    directory: PathBuf,
    /// The folder that is written to
    output: PathBuf,
}

pub(in crate::cli) fn run(global: &Global, args: &FuzzTargetArgs) -> anyhow::Result<ExitStatus> {
    // It must be sound.
    global.open_directory(&args.directory, &global.cache())?;
    let real = args.directory.canonicalize()?;
    let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
        let hint = Some("rename it with letters, digits, - and _");
        return Err(Error::from(Refusals::one("DIRECTORY", format!("{name:?} can't name an executable"), hint)).into());
    }
    let (program, policies) = (args.output.join("mountgate"), args.output.join(format!("{name}_policies")));
    // What an earlier target had may not belong to the directory any more.
    if policies.exists() {
        fs::remove_dir_all(&policies).with_context(|| format!("{} can't be removed", policies.display()))?;
    }
    copy_directory(&args.directory, &policies)?;
    if args.directory.join(PROPERTIES).exists() {
        copy_directory(&args.directory.join(PROPERTIES), &policies.join(PROPERTIES))?;
    }
    copy(Path::new("/proc/self/exe"), &program)?;
    let target = args.output.join(format!("{name}_fuzzer"));
    // Services know a target by its name, or by the name of this function in it: LLVMFuzzerTestOneInput.
    let script = format!(
        "#!/bin/sh\n# A target of the LLVMFuzzerTestOneInput kind, for services that run many.\nhere=$(dirname \"$0\")\n\
         exec \"$here/mountgate\" fuzz --policies \"$here/{name}_policies\" --output \"$(mktemp -d)\" -- \"$@\"\n"
    );
    write_whole(&target, &script)?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    writeln!(anstream::stdout(), "{}", target.display())?;
    Ok(ExitStatus::Done)
}

/// Copies the files of a policy directory.
fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("{} can't be made", to.display()))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).with_context(|| format!("{} can't be copied to {}", from.display(), to.display())).map(drop)
}
