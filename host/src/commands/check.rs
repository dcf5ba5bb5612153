//! `mountgate check`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::{mount, umount};
use crate::audit::Report;
use crate::chain::{Case, Sight};
use crate::cli::Global;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::gate::{Gate, decision_status};
use crate::invariants::Refusals;
use crate::mount_table::{MountTable, Snapshot};
use crate::request::{MountRequest, Requester};
use crate::resolve::ResolvedPath;
use crate::worker;

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
pub(crate) struct CheckArgs {
    /// Ask the validating policies behind a denial as well
    #[arg(long, global = true)]
    all: bool,
    /// A request in JSON, with what the host is to have found: nothing of this host is looked at
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// As `mountgate mount`
    Mount(mount::RequestArgs),
    /// As `mountgate umount`
    Umount(umount::RequestArgs),
}

/// A request with all that a decision depends on, as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestFile {
    /// The request.
    pub(crate) request: MountRequest,
    /// What the host found at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<ResolvedPath>,
    /// What the host found at the target; a directory by its written path where it's left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<ResolvedPath>,
    /// Who asks.
    #[serde(default)]
    pub(crate) requester: Requester,
    /// A file in the format of mountinfo, beside this one unless absolute; an empty table where it's left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mount_table: Option<PathBuf>,
}

impl RequestFile {
    fn read(path: &Path) -> anyhow::Result<(Self, MountTable)> {
        let text = std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))?;
        let file: Self = serde_json::from_slice(&text).map_err(|error| {
            let hint = Some("docs/policy-directory.md shows the form of a request file");
            Error::from(Refusals::one("--request", format!("{}: {error}", path.display()), hint))
        })?;
        let table = match &file.mount_table {
            Some(table) => {
                let table = path.parent().unwrap_or(Path::new(".")).join(table);
                MountTable::read(&table).with_context(|| format!("{} can't be read", table.display()))?
            }
            None => MountTable::parse(Vec::new())?,
        };
        Ok((file, table))
    }
}

pub(crate) fn run(global: &Global, args: &CheckArgs) -> anyhow::Result<ExitStatus> {
    let request = match (&args.request, &args.what) {
        (Some(path), None) => return replay(global, path, args.all),
        (Some(_), Some(_)) => {
            let message = "it's a request already, and another is given behind it".to_owned();
            return Err(Error::from(Refusals::one("--request", message, Some("give the one or the other"))).into());
        }
        (None, Some(What::Mount(args))) => args.request()?,
        (None, Some(What::Umount(args))) => args.request(),
        (None, None) => {
            let hint = Some("add `mount …`, `umount …` or `--request FILE`");
            return Err(Error::from(Refusals::one("check", "no request is given".to_owned(), hint)).into());
        }
    };
    let requester = Requester::current(global.label.clone());
    let all = args.all;
    let (directory, cache) = global.open_policies()?;
    let host = super::open_host(global)?;
    let decided = worker::run(directory, cache, move |gate, _| {
        let snapshot = Arc::new(host.snapshot());
        decide(gate, &Case { request, requester, sight: Sight::Host(&host), snapshot, locks: None }, all)
    })?;
    print(global, &decided)
}

fn replay(global: &Global, path: &Path, all: bool) -> anyhow::Result<ExitStatus> {
    let (file, table) = RequestFile::read(path)?;
    let (directory, cache) = global.open_policies()?;
    let decided = worker::run(directory, cache, move |gate, _| {
        let case = Case {
            request: file.request,
            requester: file.requester,
            sight: Sight::Told { source: file.source, target: file.target },
            snapshot: Arc::new(Snapshot::of(table)),
            locks: None,
        };
        decide(gate, &case, all)
    })?;
    print(global, &decided)
}

fn decide(gate: &Gate, case: &Case<'_>, all: bool) -> Result<(Report, ExitStatus), Error> {
    let decision = gate.chain().decide(case, all)?;
    Ok((Report::of(&decision), decision_status(&decision)))
}

fn print(global: &Global, (report, status): &(Report, ExitStatus)) -> anyhow::Result<ExitStatus> {
    let mut out = anstream::stdout().lock();
    let printed = if global.json { report.write_json(&mut out) } else { report.write_text(&mut out) };
    if global.json {
        report.log();
    }
    Ok(super::said(printed.map_err(Into::into), *status))
}
