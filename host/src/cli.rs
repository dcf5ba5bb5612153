//! The command line: flags are read here, and each subcommand is a file under `commands/`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use anstream::ColorChoice;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde_json::json;

use crate::commands::{check, completions, fuzz, list, man, mount, policy, umount};
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::policy::{Cache, PolicyDirectory};
use crate::request::Label;

/// Runs mounts on a host on behalf of others, and lets WebAssembly policy plugins decide which.
#[derive(Debug, Parser)]
#[command(name = "mountgate", version, after_help = ExitStatus::HELP, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// The policy directory
    #[arg(long, global = true, value_name = "DIR", env = "MOUNTGATE_POLICIES", default_value = "/etc/mountgate")]
    pub(crate) policies: PathBuf,
    /// The folder that holds the host's /  [default: /rootfs where it holds a host, else /]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) host_root: Option<PathBuf>,
    /// Something about the caller that policies may go by, unverified
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<Label>,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more on stderr: the trace of the decision; twice for debugging
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// Run for real, but in a throw-away user and mount namespace: nothing reaches the host
    #[arg(long, global = true)]
    pub(crate) sandbox: bool,
    /// Where compiled plugins are kept; an empty value keeps none
    #[arg(long, global = true, value_name = "DIR", env = "MOUNTGATE_CACHE", default_value_os_t = Cache::default_path(), value_parser = any_path())]
    cache: PathBuf,
}

impl Global {
    /// What is kept of compiled plugins.
    pub(crate) fn cache(&self) -> Cache {
        if self.cache.as_os_str().is_empty() { Cache::none() } else { Cache::open(&self.cache) }
    }

    /// The policy directory, checked, and what is kept of its plugins.
    pub(crate) fn open_policies(&self) -> Result<(PolicyDirectory, Cache), Error> {
        let cache = self.cache();
        Ok((PolicyDirectory::open(&self.policies, &cache)?, cache))
    }
}

/// A path that may be empty.
fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    Mount(mount::MountArgs),
    Umount(umount::UmountArgs),
    Check(check::CheckArgs),
    List(list::ListArgs),
    Policy(policy::PolicyArgs),
    Fuzz(fuzz::FuzzArgs),
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    Man(man::ManArgs),
}

/// The definition that completions and manual pages are made from.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

/// Runs the program.
pub fn main() -> ! {
    let cli = quickly().unwrap_or_else(Cli::parse);
    let choice = match cli.global.color {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    };
    choice.write_global();
    start_log(cli.global.verbose);
    let status = match run(&cli) {
        Ok(status) => status,
        // Nobody reads any more.
        Err(error) if is_broken_pipe(&error) => ExitStatus::Done,
        Err(error) => report(&error, cli.global.json),
    };
    let _ = io::stdout().flush();
    // Nothing is left to tidy up, and taking the sandbox apart piece by piece takes time.
    std::process::exit(status as i32)
}

/// Adds a command's arguments to its definition.
type Define = fn(clap::Command) -> clap::Command;

/// Reads the command line by the definition of one command alone: that of all of them takes as long to set up as a
/// decision. Whatever it doesn't read, help and mistakes included, is read by the whole definition.
fn quickly() -> Option<Cli> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let define: [(&str, Define); 4] = [
        ("mount", mount::MountArgs::augment_args),
        ("umount", umount::UmountArgs::augment_args),
        ("check", check::CheckArgs::augment_args),
        ("list", list::ListArgs::augment_args),
    ];
    let (name, arguments) = words.iter().skip(1).find_map(|word| define.iter().find(|(name, _)| word == name))?;
    let bare = |name: &'static str| clap::Command::new(name).disable_help_flag(true).disable_help_subcommand(true);
    let program = Global::augment_args(bare("mountgate").subcommand_required(true));
    let mut program = program.subcommand(arguments(bare(name)));
    let mut matches = program.try_get_matches_from_mut(words).ok()?;
    let cli = Cli::from_arg_matches_mut(&mut matches).ok();
    // The process ends soon: taking these apart piece by piece takes time.
    std::mem::forget((program, matches));
    cli
}

fn run(cli: &Cli) -> anyhow::Result<ExitStatus> {
    let global = &cli.global;
    match &cli.command {
        Command::Mount(args) => mount::run(global, args),
        Command::Umount(args) => umount::run(global, args),
        Command::Check(args) => check::run(global, args),
        Command::List(args) => list::run(global, args),
        Command::Policy(args) => policy::run(global, args),
        Command::Fuzz(args) => fuzz::run(global, args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    let coloured = anstream::AutoStream::choice(&io::stderr()) != ColorChoice::Never;
    tracing_subscriber::fmt()
        .with_ansi(coloured)
        .with_max_level(level)
        .without_time()
        .with_target(false)
        .with_writer(io::stderr)
        .init();
}

pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is))
}

/// Prints an error with its causes and a hint, and says how to end.
fn report(error: &anyhow::Error, as_json: bool) -> ExitStatus {
    let ours = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    let status = ours.map_or(ExitStatus::HostFailed, Error::exit_status);
    let hint = ours.and_then(Error::hint);
    let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
    if as_json {
        let object = json!({
            "error": { "message": error.to_string(), "causes": causes, "hint": hint, "exit": status as i32 }
        });
        let _ = writeln!(io::stdout(), "{object}");
    }
    print_error(&error.to_string(), &causes, hint.as_deref());
    status
}

/// `error:`, the numbered causes, and `hint:`.
pub(crate) fn print_error(message: &str, causes: &[String], hint: Option<&str>) {
    let bad = anstyle::AnsiColor::Red.on_default().bold();
    let mut err = anstream::stderr().lock();
    let _ = writeln!(err, "{bad}error:{bad:#} {message}");
    for (i, cause) in causes.iter().enumerate() {
        let _ = writeln!(err, "  {}: {cause}", i + 1);
    }
    if let Some(hint) = hint {
        let good = anstyle::AnsiColor::Cyan.on_default().bold();
        let _ = writeln!(err, "{good}hint:{good:#} {hint}");
    }
}
