//! `mountgate policy`

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use serde_json::json;

use super::global::Global;
use super::input::read_plain;
use super::policy_coverage::{self, CoverageArgs};
use super::policy_diff::{self, DiffArgs};
use super::policy_test::{self, TestArgs};
use super::registry::{PullPolicies, PushPolicies};
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::gate::Gate;
use crate::json;
use crate::model::refusals::Refusals;
use crate::model::untrusted::for_people;
use crate::policy::directory::error::DirectoryError;
use crate::policy::directory::lockfile::Locking;
use crate::policy::engine::Engine;
use crate::policy::engine::inspection::inspect;
use crate::policy::engine::policy::Policy;
use crate::policy::mode::Mode;

/// Look at plugins and policy directories
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Describe a plugin: its kind, what it imports, its digest, the schema of its settings
    #[command(after_help = "Examples:\n  mountgate policy inspect path-guard.wasm")]
    Inspect {
        /// The plugin
        plugin: PathBuf,
    },
    /// Check a policy directory as a mount would, and list its chain
    #[command(after_help = "Examples:\n  mountgate policy validate /etc/mountgate")]
    Validate {
        /// The directory, if not the one of --policies
        directory: Option<PathBuf>,
    },
    Test(TestArgs),
    /// Compile the plugins of a policy directory, so that no request has to. Run it where the directory is installed
    #[command(after_help = "Examples:\n  mountgate policy compile /etc/mountgate")]
    Compile {
        /// The directory, if not the one of --policies
        directory: Option<PathBuf>,
    },
    /// Pin a policy directory: its configuration, its plugins, what they are granted. Shows what has changed since the last lock
    #[command(after_help = "Examples:\n  mountgate policy lock /etc/mountgate")]
    Lock {
        /// The directory, if not the one of --policies
        directory: Option<PathBuf>,
        /// Don't ask whether what has changed since the last lock is meant
        #[arg(short, long)]
        yes: bool,
    },
    Coverage(CoverageArgs),
    Diff(DiffArgs),
    Push(PushPolicies),
    Pull(PullPolicies),
}

pub(super) fn run(global: &Global, args: &PolicyArgs) -> anyhow::Result<ExitStatus> {
    let chosen = |directory: &Option<PathBuf>| directory.clone().unwrap_or_else(|| global.policies().to_owned());
    match &args.command {
        PolicyCommand::Inspect { plugin } => run_inspect(global, plugin),
        PolicyCommand::Test(args) => return policy_test::run(global, &chosen(&args.directory), args),
        PolicyCommand::Validate { directory } => run_validate(global, &chosen(directory)),
        PolicyCommand::Compile { directory } => run_compile(global, &chosen(directory)),
        PolicyCommand::Coverage(args) => return policy_coverage::run(global, &chosen(&args.directory), args),
        PolicyCommand::Diff(args) => return policy_diff::run(global, args),
        PolicyCommand::Push(args) => return args.run(global),
        PolicyCommand::Pull(args) => return args.run(global),
        PolicyCommand::Lock { directory, yes } => return run_lock(global, &chosen(directory), *yes),
    }?;
    Ok(ExitStatus::Done)
}

fn run_inspect(global: &Global, path: &Path) -> anyhow::Result<()> {
    let bytes = read_plain(path)?;
    let engine = Engine::new().map_err(Error::Sandbox)?;
    let found = inspect(&engine, path, &bytes, &global.cache()).map_err(Error::from)?;
    let mut out = anstream::stdout().lock();
    if global.json {
        json::write_line(&mut out, &found)?;
        return Ok(());
    }
    let about = &found.description;
    writeln!(out, "{} {} ({:?}): {}", about.name, about.version, about.kind, about.help)?;
    writeln!(out, "contract  mountgate:policy@{}", found.contract)?;
    writeln!(out, "sha256    {}", found.digest)?;
    for import in &found.imports {
        writeln!(out, "import    {import}")?;
    }
    if found.needs_wasi {
        writeln!(out, "grants    needs  grants = [\"wasi\"]")?;
    }
    writeln!(out, "settings\n{}", about.settings_schema.trim_end())?;
    Ok(())
}

fn run_validate(global: &Global, path: &Path) -> anyhow::Result<()> {
    let cache = global.cache().looking_again();
    let directory = global.open_directory(path, &cache)?;
    let signer = directory.signer.clone();
    let gate = Gate::new(directory, &cache)?;
    check_rewrites(path, gate.policies())?;
    let mut out = anstream::stdout().lock();
    if global.json {
        let list: Vec<_> = gate
            .policies()
            .iter()
            .map(|policy| json!({ "policy": policy.name, "mode": policy.mode, "plugin": policy.description }))
            .collect();
        json::write_line(&mut out, &json!({ "policies": list, "signer": signer }))?;
        return Ok(());
    }
    if let Some(signer) = signer {
        writeln!(out, "signed by {}", for_people(&signer))?;
    }
    for policy in gate.policies() {
        let about = &policy.description;
        writeln!(out, "{}  {} {} ({:?}, {:?})", policy.name, about.name, about.version, about.kind, policy.mode)?;
    }
    Ok(())
}

fn run_compile(global: &Global, path: &Path) -> anyhow::Result<()> {
    let cache = global.cache();
    let begun = Instant::now();
    let gate = Gate::new(global.open_directory(path, &cache)?, &cache)?;
    let folder = cache.usable().ok_or_else(|| {
        let hint = Some("name a folder that only you can enter, with --cache or MOUNTGATE_CACHE");
        Error::from(Refusals::one("--cache", "compiled plugins can't be kept anywhere".to_owned(), hint))
    })?;
    if let Some(why) = cache.unkept() {
        let hint = Some("see whether the file system is full or read-only, then run it again");
        return Err(Error::from(Refusals::one("--cache", why, hint)).into());
    }
    let (count, seconds) = (gate.policies().len(), begun.elapsed().as_secs_f64());
    let mut out = anstream::stdout().lock();
    if global.json {
        let object = json!({ "policies": count, "cache": folder, "seconds": seconds });
        return Ok(json::write_line(&mut out, &object)?);
    }
    writeln!(out, "{count} policies are ready in {} ({seconds:.1} s)", folder.display())?;
    Ok(())
}

fn run_lock(global: &Global, path: &Path, yes: bool) -> anyhow::Result<ExitStatus> {
    let locking = Locking::of(path).map_err(Error::from)?;
    let changes = locking.changes.clone().unwrap_or_default();
    let mut out = anstream::stdout().lock();
    if !changes.is_empty() && !yes {
        for change in &changes {
            writeln!(anstream::stderr(), "changed  {}", for_people(change))?;
        }
        if !is_meant()? {
            let hint = Some("add --yes if the changes are meant");
            let message = format!("{} has changed since it was locked", path.display());
            return Err(Error::from(Refusals::one("policy lock", message, hint)).into());
        }
    }
    locking.write().map_err(Error::from)?;
    if global.json {
        json::write_line(&mut out, &json!({ "plugins": locking.plugins(), "changes": changes }))?;
        return Ok(ExitStatus::Done);
    }
    for (name, digest) in locking.plugins() {
        writeln!(out, "{digest}  {name}")?;
    }
    Ok(ExitStatus::Done)
}

/// Asks at a terminal. Elsewhere the answer is no.
fn is_meant() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    write!(anstream::stderr(), "Is that meant? [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A policy that isn't permitted to change what its plugin wants to change fails as soon as that wants to.
fn check_rewrites(path: &Path, policies: &[Policy]) -> Result<(), Error> {
    for policy in policies.iter().filter(|policy| policy.mode == Mode::Enforce) {
        let missing = policy.changes.iter().find(|field| !policy.rewrites.contains(field));
        if let Some(field) = missing.map(|field| field.name()) {
            let message = format!(
                "policy {:?}: its plugin changes {field}, and `rewrites` doesn't name that: each such change fails",
                policy.name
            );
            let hint = format!("if it may change {field}, set rewrites = [\"{field}\"]").into();
            return Err(DirectoryError { file: path.join("policies.toml"), line: None, message, hint }.into());
        }
    }
    Ok(())
}
