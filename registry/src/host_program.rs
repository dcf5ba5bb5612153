//! `mountgate` itself, which judges what is pushed and pulled. This program only carries bytes.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// How `mountgate` is asked.
#[derive(Debug, Clone)]
pub(crate) struct HostProgram {
    path: PathBuf,
    trusted_keys: Option<PathBuf>,
}

impl HostProgram {
    /// The one beside this program.
    pub(crate) fn find(trusted_keys: Option<PathBuf>) -> Result<Self, Failure> {
        let here = std::env::current_exe().map_err(Failure::file("/proc/self/exe"))?;
        let path = here.with_file_name("mountgate");
        if path.exists() {
            return Ok(Self { path, trusted_keys });
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
        command.args(["--json", "--color", "never"]).args(arguments).arg(path);
        if let Some(keys) = &self.trusted_keys {
            command.arg("--trusted-keys").arg(keys);
        }
        let output = command.output().map_err(Failure::file(&self.path))?;
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).map_err(|error| {
                Failure::content(
                    format!("{} said what can't be read: {error}", self.path.display()),
                    "install both programs of one version",
                )
            });
        }
        let said = String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr });
        let message = said.trim().replace(&*path.to_string_lossy(), &called.to_string_lossy());
        let status = output.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
        Err(Failure::Judged { message, status })
    }
}
