//! `mountgate check`

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::global::Global;
use super::lent;
use super::request_file::RequestFile;
use super::timed::{self, Afterwards, report_late};
use super::{mount, umount};
use crate::decision::case::{Case, Resolution};
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::gate::Gate;
use crate::host::live_mounts;
use crate::model::refusals::Refusals;
use crate::model::request::MountRequest;
use crate::model::secrets::Secrets;
use crate::mount_table::snapshot::Snapshot;
use crate::report::Report;

/// Decide a request and explain it, and run nothing
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  mountgate check mount -t tmpfs tmpfs /etc
  mountgate check --all umount /mnt/data
  mountgate check --request finding-1.json --json

Exit status: 0 allowed, 2 refused by the host itself, 3 denied, 4 a policy failed"
)]
pub(super) struct CheckArgs {
    /// Ask the validating policies behind a denial as well
    #[arg(long, global = true)]
    all: bool,
    /// Ask this policy alone
    #[arg(long, global = true, value_name = "POLICY")]
    only: Option<String>,
    /// A JSON file with a request and the paths that the host resolved for it. This host isn't looked at
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<CheckCommand>,
}

impl CheckArgs {
    /// Whether no request is given.
    pub(super) fn is_empty(&self) -> bool {
        self.request.is_none() && self.command.is_none()
    }

    /// Whether a file of the caller's choice is read.
    pub(super) fn reads_file(&self) -> bool {
        self.request.is_some()
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum CheckCommand {
    /// As `mountgate mount`
    Mount(mount::MountRequestArgs),
    /// As `mountgate umount`
    Umount(umount::UmountRequestArgs),
}

impl CheckCommand {
    /// The request that the words stand for.
    pub(super) fn request(&self) -> Result<MountRequest, Error> {
        match self {
            Self::Mount(args) => args.request(),
            Self::Umount(args) => Ok(args.request()),
        }
    }
}

pub(super) fn run(global: &Global, args: &CheckArgs) -> anyhow::Result<ExitStatus> {
    let request = match (&args.request, &args.command) {
        (Some(path), None) => return replay(global, path, args),
        (Some(_), Some(_)) => {
            let message = "the file holds a request, and the command line gives another one".to_owned();
            return Err(Error::from(Refusals::one("--request", message, Some("give the one or the other"))).into());
        }
        (None, Some(command)) => command.request()?,
        (None, None) => {
            let hint = Some("add `mount …`, `umount …` or `--request FILE`");
            return Err(Error::from(Refusals::one("check", "no request is given".to_owned(), hint)).into());
        }
    };
    request.check_size(&global.label).map_err(Error::from)?;
    lent::check_source(&request)?;
    let (all, only) = (args.all, args.only.clone());
    let (directory, cache) = global.open_policies()?;
    let requester = global.requester_for(&directory)?;
    let secrets = Secrets::of(&[&request]);
    let host = global.open_host(&cache)?;
    let decided = timed::run(directory, &cache, Afterwards::Ends, report_late(global), |gate, _| {
        let snapshot = Arc::new(live_mounts::snapshot(&host));
        let case = Case { request, requester, resolution: Resolution::OnHost(&host), snapshot, locks: None };
        decide(gate, &case, only.as_deref(), all)
    });
    print(global, &decided.map_err(|error| error.masked(&secrets))?)
}

fn replay(global: &Global, path: &Path, args: &CheckArgs) -> anyhow::Result<ExitStatus> {
    let (mut file, table) = RequestFile::read(path)?;
    file.requester.labels.extend(global.label.iter().cloned());
    let (directory, cache) = global.open_policies()?;
    let (all, only) = (args.all, args.only.clone());
    let decided = timed::run(directory, &cache, Afterwards::Ends, report_late(global), |gate, _| {
        let case = Case {
            request: file.request,
            requester: file.requester,
            resolution: Resolution::Recorded {
                source: file.source,
                target: file.target,
                option_paths: file.option_paths,
            },
            snapshot: Arc::new(Snapshot::recorded(table, file.paths)),
            locks: None,
        };
        decide(gate, &case, only.as_deref(), all)
    })?;
    print(global, &decided)
}

fn decide(gate: &Gate, case: &Case<'_>, only: Option<&str>, all: bool) -> Result<(Report, ExitStatus), Error> {
    let chain = match only {
        Some(name) => gate.chain_of(number_of(gate, name)?),
        None => gate.chain(),
    };
    let decision = chain.decide(case, all)?;
    Ok((Report::of_decision(&decision), ExitStatus::of_decision(&decision)))
}

fn number_of(gate: &Gate, name: &str) -> Result<usize, Error> {
    gate.policies().iter().position(|policy| policy.name == name).ok_or_else(|| {
        let names: Vec<&str> = gate.policies().iter().map(|policy| policy.name.as_str()).collect();
        let message = format!("there is no policy {name:?}: there are {}", names.join(", "));
        Refusals::one("--only", message, Some("name one of the policy directory")).into()
    })
}

fn print(global: &Global, (report, status): &(Report, ExitStatus)) -> anyhow::Result<ExitStatus> {
    let mut out = anstream::stdout().lock();
    let printed = if global.json { report.write_json(&mut out) } else { report.write_text(&mut out) };
    if global.json {
        report.log();
    }
    match printed {
        // The answer is all there is. Whoever closed the pipe has read what he wanted.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("the answer can't be printed"),
        _ => Ok(*status),
    }
}
