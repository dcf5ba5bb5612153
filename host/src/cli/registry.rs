//! `push` and `pull`, which another program does: the one with root's power has no HTTP client.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use clap::Args;

use super::global::Global;
use crate::exit::ExitStatus;

/// The program, which lies beside this one.
const PROGRAM: &str = "mountgate-registry";

/// How a registry is spoken with.
#[derive(Debug, Args)]
struct Speech {
    /// Speak HTTP without TLS, e.g. with a registry on this machine
    #[arg(long)]
    plain_http: bool,
    /// How many seconds the registry may be silent
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
}

/// Send a locked policy directory to an OCI registry, with its signature if it has one. Prints the digest to pull it by
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mountgate policy push policies oci://registry.example/policies:1")]
pub(super) struct PushPolicies {
    /// The directory
    directory: PathBuf,
    /// Where to: oci://HOST/REPOSITORY:TAG
    to: OsString,
    #[command(flatten)]
    speech: Speech,
}

/// Bring a policy directory from an OCI registry, and put it in place if it is sound
#[derive(Debug, Args)]
#[command(after_help = "\
What is in DIR beside the policies stays. The directory that was there before is kept beside it, as .DIR.previous.

Examples:
  mountgate policy pull oci://registry.example/policies@sha256:… /etc/mountgate")]
pub(super) struct PullPolicies {
    /// Where from: oci://HOST/REPOSITORY@sha256:DIGEST; by a tag only if a trusted key has signed it
    from: OsString,
    /// Where it's put
    directory: PathBuf,
    #[command(flatten)]
    speech: Speech,
}

/// Send a plugin to an OCI registry. Prints the digest to pull it by
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mountgate plugin push plugin.wasm oci://registry.example/plugin:1")]
pub(super) struct PushPlugin {
    /// The component
    file: PathBuf,
    /// Where to: oci://HOST/REPOSITORY:TAG
    to: OsString,
    #[command(flatten)]
    speech: Speech,
}

/// Bring a plugin from an OCI registry
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mountgate plugin pull oci://registry.example/plugin@sha256:… plugin.wasm")]
pub(super) struct PullPlugin {
    /// Where from: oci://HOST/REPOSITORY@sha256:DIGEST
    from: OsString,
    /// Where it's put
    file: PathBuf,
    #[command(flatten)]
    speech: Speech,
}

impl PushPolicies {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<ExitStatus> {
        become_program(global, ["policy", "push"], &self.speech, [self.directory.clone().into(), self.to.clone()])
    }
}

impl PullPolicies {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<ExitStatus> {
        become_program(global, ["policy", "pull"], &self.speech, [self.from.clone(), self.directory.clone().into()])
    }
}

impl PushPlugin {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<ExitStatus> {
        become_program(global, ["plugin", "push"], &self.speech, [self.file.clone().into(), self.to.clone()])
    }
}

impl PullPlugin {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<ExitStatus> {
        become_program(global, ["plugin", "pull"], &self.speech, [self.from.clone(), self.file.clone().into()])
    }
}

/// Becomes that program. Returns only if it can't be started.
#[expect(
    clippy::disallowed_methods,
    reason = "what is started takes the place of this program, before it opens anything"
)]
fn become_program(
    global: &Global,
    command: [&str; 2],
    speech: &Speech,
    operands: [OsString; 2],
) -> anyhow::Result<ExitStatus> {
    let here = std::env::current_exe().context("this program can't be found")?;
    let program = here.with_file_name(PROGRAM);
    let mut command_line = Command::new(&program);
    command_line.args(command).arg("--timeout").arg(speech.timeout.to_string()).args(global.for_registry());
    if speech.plain_http {
        command_line.arg("--plain-http");
    }
    let error = command_line.arg("--").args(operands).exec();
    Err(error).with_context(|| format!("{} can't be started: install it beside mountgate", program.display()))
}
