//! `mountgate-registry`: brings plugins and policy directories to OCI registries, and from there.
//!
//! A program of its own, so that the one with root's power has no HTTP client. `mountgate policy push` and its like start it.

mod connection;
mod failure;
mod host_program;
mod layout;
mod place;
mod plugin;
mod policies;
mod reference;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use serde_json::json;

use crate::connection::Speech;
use crate::failure::Failure;
use crate::host_program::HostProgram;
use crate::reference::OciName;

/// Brings plugins and policy directories to OCI registries, and from there.
#[derive(Debug, Parser)]
#[command(name = "mountgate", bin_name = "mountgate", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Args)]
struct Flags {
    /// Print the answer as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Speak HTTP without TLS, e.g. with a registry on this machine
    #[arg(long, global = true)]
    plain_http: bool,
    /// How many seconds the registry may be silent
    #[arg(long, global = true, value_name = "SECONDS", default_value = "30")]
    timeout: u64,
    /// The folder of the keys that policies must be signed with  [default: that of mountgate]
    #[arg(long, global = true, value_name = "DIR")]
    trusted_keys: Option<PathBuf>,
    /// Where `mountgate` keeps compiled plugins; an empty value keeps none  [default: that of mountgate]
    #[arg(long, global = true, value_name = "DIR", value_parser = any_path())]
    cache: Option<PathBuf>,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", value_parser = ["auto", "always", "never"])]
    color: String,
}

/// A path, which may be empty.
fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

impl Flags {
    /// Those which `mountgate` takes, too.
    fn of_mountgate(&self) -> Vec<OsString> {
        let flags = [("--trusted-keys", &self.trusted_keys), ("--cache", &self.cache)];
        flags
            .into_iter()
            .filter_map(|(flag, path)| Some([flag.into(), path.clone()?.into_os_string()]))
            .flatten()
            .collect()
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Policy directories
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Single plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Send a locked policy directory to a registry, with its signature if it has one. Prints the digest to pull it by
    #[command(after_help = "Example:\n  mountgate policy push policies oci://registry.example/policies:1")]
    Push {
        /// The directory
        directory: PathBuf,
        /// Where to
        to: OciName,
    },
    /// Bring a policy directory from a registry, and put it in place if it is sound
    #[command(
        after_help = "What is in DIR beside the policies stays. The directory that was there before is kept beside it, as .DIR.previous.\n\nExample:\n  mountgate policy pull oci://registry.example/policies@sha256:… /etc/mountgate"
    )]
    Pull {
        /// Where from; by a tag only if a trusted key has signed it
        from: OciName,
        /// Where it's put
        directory: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Send a plugin to a registry. Prints the digest to pull it by
    #[command(after_help = "Example:\n  mountgate plugin push plugin.wasm oci://registry.example/plugin:1")]
    Push {
        /// The component
        file: PathBuf,
        /// Where to
        to: OciName,
    },
    /// Bring a plugin from a registry
    #[command(after_help = "Example:\n  mountgate plugin pull oci://registry.example/plugin@sha256:… plugin.wasm")]
    Pull {
        /// Where from, by its digest
        from: OciName,
        /// Where it's put
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.flags.color.as_str() {
        "always" => anstream::ColorChoice::Always.write_global(),
        "never" => anstream::ColorChoice::Never.write_global(),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(&cli)),
        Err(error) => Err(Failure::file("this process")(error)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure, cli.flags.json);
            ExitCode::from(failure.status())
        }
    }
}

async fn run(cli: &Cli) -> Result<(), Failure> {
    let Flags { plain_http, timeout, .. } = cli.flags;
    let host = HostProgram::find(cli.flags.of_mountgate())?;
    let speech = Speech { is_plain: plain_http, patience: Duration::from_secs(timeout) };
    match &cli.command {
        Command::Policy(PolicyCommand::Push { directory, to }) => {
            let pushed = policies::push(&host, directory, to, speech).await?;
            let signed = if pushed.signature { " with its signature" } else { "" };
            say(cli, &pushed, &format!("{}{signed}", pushed.reference))
        }
        Command::Policy(PolicyCommand::Pull { from, directory }) => {
            let pulled = policies::pull(&host, from, directory, speech).await?;
            let signed = pulled.signer.as_ref().map(|signer| format!(", signed by {signer}")).unwrap_or_default();
            let before = pulled.previous.as_ref().map(|path| format!("; the one before is {}", path.display()));
            let text =
                format!("{} is {}{signed}{}", pulled.directory.display(), pulled.digest, before.unwrap_or_default());
            say(cli, &pulled, &text)
        }
        Command::Plugin(PluginCommand::Push { file, to }) => {
            let pushed = plugin::push(&host, file, to, speech).await?;
            say(cli, &pushed, &pushed.reference)
        }
        Command::Plugin(PluginCommand::Pull { from, file }) => {
            let pulled = plugin::pull(&host, from, file, speech).await?;
            say(cli, &pulled, &format!("{} is {}", file.display(), pulled.reference))
        }
    }
}

fn say(cli: &Cli, answer: &impl Serialize, text: &str) -> Result<(), Failure> {
    let line = if cli.flags.json { serde_json::to_string(answer).unwrap_or_default() } else { text.to_owned() };
    writeln!(anstream::stdout(), "{line}").map_err(Failure::file("standard output"))
}

/// Text that another machine may have written, without what drives a terminal or can't be seen.
fn shown(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c == '\n' || is_visible(c) { vec![c] } else { c.escape_unicode().collect() })
        .take(4000)
        .collect()
}

/// Whether a character can be seen: no control, and none that changes the direction of text or has no width.
fn is_visible(c: char) -> bool {
    let hidden = ['\u{ad}', '\u{61c}', '\u{feff}'];
    let ranges = ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}', '\u{e0000}'..='\u{e007f}'];
    !c.is_control() && !hidden.contains(&c) && !ranges.iter().any(|range| range.contains(&c))
}

fn report(failure: &Failure, json: bool) {
    let message = shown(&failure.to_string());
    if json {
        let answer = match failure {
            Failure::Judged { answer: Some(answer), .. } => answer.clone(),
            _ => json!({ "error": {
                "code": failure.code(), "message": message, "causes": [], "hint": failure.hint(), "exit": failure.status()
            } }),
        };
        let _ = writeln!(anstream::stdout(), "{answer}");
    }
    match failure {
        // It has all that an error of `mountgate` has.
        Failure::Judged { .. } => {
            let _ = writeln!(anstream::stderr(), "{message}");
        }
        _ => {
            let _ = writeln!(anstream::stderr(), "error: {message}");
        }
    }
    if let Some(hint) = failure.hint() {
        let _ = writeln!(anstream::stderr(), "hint: {hint}");
    }
}
