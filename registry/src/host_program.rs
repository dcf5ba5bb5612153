//! `mountgate` itself, which judges what is pushed and pulled. This program only carries bytes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// How `mountgate` is asked.
#[derive(Debug, Clone)]
pub(crate) struct HostProgram {
    path: PathBuf,
    /// Flags of its own, which it gets as well.
    flags: Vec<OsString>,
}

impl HostProgram {
    /// The one beside this program.
    pub(crate) fn find(flags: Vec<OsString>) -> Result<Self, Failure> {
        let here = std::env::current_exe().map_err(Failure::file("/proc/self/exe"))?;
        let path = here.with_file_name("mountgate");
        if path.exists() {
            return Ok(Self { path, flags });
        }
        Err(Failure::Usage {
            message: format!("{} isn't there", path.display()),
            hint: "mountgate and mountgate-registry belong in one folder",
        })
    }

    /// Runs it, and reads the JSON that it prints. In its errors, the place where something lies for now is called by the name that it
    /// will have.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        arguments: &[&str],
        path: &Path,
        called: &Path,
    ) -> Result<T, Failure> {
        let mut command = Command::new(&self.path);
        command.args(["--json", "--color", "never"]).args(&self.flags).args(arguments).arg(path);
        let output = command.output().map_err(Failure::file(&self.path))?;
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).map_err(|error| {
                Failure::content(
                    format!("{} said what can't be read: {error}", self.path.display()),
                    "install both programs of one version",
                )
            });
        }
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).trim().replace(&*path.to_string_lossy(), &called.to_string_lossy())
        };
        let (said, message) = (text(&output.stdout), text(&output.stderr));
        let answer = serde_json::from_str(&said).ok();
        let message = if message.is_empty() { said } else { message };
        let status = output.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
        Err(Failure::Judged { message, status, answer })
    }
}
