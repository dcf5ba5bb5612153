//! The programs that an author's plugin is built with. What they say goes to standard error.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A program, in a folder.
#[expect(clippy::disallowed_methods, reason = "an author has their own plugin built")]
pub(super) fn program(name: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(name);
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs a program that must succeed. Its standard output goes to standard error: this program's own is for what comes of it.
pub(super) fn run(command: &mut Command, to_install: &str) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdout(std::io::stderr());
    let status = command.status().with_context(|| format!("{name} doesn't run: {to_install}"))?;
    ensure!(status.success(), "the plugin can't be built: {name} ended with {status}");
    Ok(())
}

/// Where a program lies that can be run by its name.
pub(super) fn found(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
