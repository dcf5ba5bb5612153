//! `mountgate replay`

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::global::Global;
use super::input::read_plain;
use crate::audit::read::{Audited, read};
use crate::decision::case::{Case, Resolution};
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::fuzz::input::Input;
use crate::fuzz::tables::Table;
use crate::gate::Gate;
use crate::json;
use crate::model::untrusted::for_people;
use crate::mount_table::snapshot::Snapshot;
use crate::mount_table::table::MountTable;
use crate::policy::directory::error::DirectoryError;
use crate::policy::engine::Engine;

/// Decide the requests of an audit file again, and tell which verdicts would be others
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mountgate replay /var/log/mountgate/audit.jsonl --policies new-policies
  mountgate replay --monitor audit.jsonl

Exit status: 0 all verdicts are the same, 4 the policies or the file aren't sound, 5 some would be others")]
pub(super) struct ReplayArgs {
    /// The audit file
    file: PathBuf,
    /// Decide nothing; tell what the policies in monitor mode would have denied
    #[arg(long)]
    monitor: bool,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Came {
    verdict: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    final_request: Option<String>,
}

/// A verdict that is another one now.
#[derive(Debug, Serialize)]
pub(super) struct Flip {
    pub(super) line: usize,
    pub(super) request: String,
    pub(super) was: Came,
    pub(super) is: Came,
}

/// What two policy directories make of the requests of an audit file.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) decided: usize,
    pub(super) flips: Vec<Flip>,
    /// The requests, as inputs of a search.
    pub(super) inputs: Vec<Input>,
}

/// The requests of an audit file.
fn open(file: &Path) -> anyhow::Result<Vec<Audited>> {
    read(&read_plain(file)?).map_err(|problem| {
        let hint = "an audit file is what --audit or [host] audit wrote, whole and unchanged".into();
        let error = DirectoryError { file: file.to_owned(), line: None, message: problem, hint };
        Error::Unsound(error).into()
    })
}

/// Decides the requests of an audit file with two policy directories.
pub(super) fn differences(file: &Path, old: &Gate, new: &Gate) -> anyhow::Result<Replayed> {
    let mut replayed = Replayed::default();
    for (i, entry) in open(file)?.iter().enumerate() {
        let line = i + 1;
        // Of what the host couldn't do, and of what it refused, nothing is known but the text of the request.
        if ["error", "refuse"].contains(&entry.verdict.as_str()) || !is_whole(line, entry) {
            continue;
        }
        let decide = |gate| again(gate, entry).map_err(|error| anyhow!("line {line}: {error:#}"));
        let (was, is) = (decide(old)?, decide(new)?);
        replayed.decided += 1;
        if was != is {
            replayed.flips.push(Flip { line, request: entry.request.to_string(), was, is });
        }
        if let (Some(target), Ok(table)) = (&entry.target, Table::with_paths(entry.mounts.clone(), entry.paths.clone()))
        {
            let (request, requester) = (entry.request.clone(), entry.requester.clone());
            let (source, target, option_paths) = (entry.source.clone(), target.clone(), entry.option_paths.clone());
            replayed.inputs.push(Input { request, source, target, option_paths, requester, table });
        }
    }
    Ok(replayed)
}

pub(super) fn run(global: &Global, args: &ReplayArgs) -> anyhow::Result<ExitStatus> {
    let entries = open(&args.file)?;
    if args.monitor {
        return monitor(global, &entries);
    }
    let cache = global.cache();
    let mut directory = global.open_directory(global.policies(), &cache)?;
    for entry in &mut directory.policies {
        entry.limits = entry.limits.without_clock();
    }
    let engine = Engine::without_deadlines().map_err(Error::Sandbox)?;
    let gate = Gate::load(&engine, directory, &cache)?;
    let mut flips = Vec::new();
    let mut decided = 0;
    let is_decided = |(i, entry): &(usize, &Audited)| entry.verdict != "error" && is_whole(i + 1, entry);
    for (i, entry) in entries.iter().enumerate().filter(is_decided) {
        decided += 1;
        let (was, is) = (came(entry), again(&gate, entry).map_err(|error| anyhow!("line {}: {error:#}", i + 1))?);
        // Of a refusal nothing but the text of the request is known: whether its paths were there isn't.
        let is_known = entry.verdict != "refuse" || is.verdict == "refuse";
        if was != is && is_known {
            flips.push(Flip { line: i + 1, request: entry.request.to_string(), was, is });
        }
    }
    print(global, decided, &flips)?;
    Ok(if flips.is_empty() { ExitStatus::Done } else { ExitStatus::Found })
}

/// Whether a line has all that the decision was made of.
fn is_whole(line: usize, entry: &Audited) -> bool {
    if let Some(bytes) = entry.omitted {
        tracing::warn!("line {line} isn't decided again: with the host's mounts it would have had {bytes} bytes");
    }
    entry.omitted.is_none()
}

fn came(entry: &Audited) -> Came {
    let is_refused = entry.verdict == "refuse";
    Came {
        verdict: entry.verdict.clone(),
        policy: entry.policy.clone(),
        code: entry.code.clone().filter(|_| !is_refused),
        final_request: entry.final_request.as_ref().map(ToString::to_string),
    }
}

fn again(gate: &Gate, entry: &Audited) -> anyhow::Result<Came> {
    let table = MountTable::parse(entry.mounts.clone().into_bytes())?;
    let case = Case {
        request: entry.request.clone(),
        requester: entry.requester.clone(),
        resolution: Resolution::Recorded {
            source: entry.source.clone(),
            target: entry.target.clone(),
            option_paths: entry.option_paths.clone(),
        },
        snapshot: Arc::new(Snapshot::recorded(table, entry.paths.clone())),
        locks: None,
    };
    match gate.chain().decide(&case, false) {
        Ok(decision) => {
            let (policy, denial) = decision.denial().map(|(policy, denial)| (policy.to_owned(), denial)).unzip();
            Ok(Came {
                verdict: decision.word().to_owned(),
                policy,
                code: denial.map(|denial| denial.code),
                final_request: Some(decision.final_request.to_string()),
            })
        }
        Err(Error::Refused(_)) => {
            Ok(Came { verdict: "refuse".to_owned(), policy: None, code: None, final_request: None })
        }
        Err(error) => Err(error.into()),
    }
}

fn print(global: &Global, decided: usize, flips: &[Flip]) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    if global.json {
        return Ok(json::write_line(&mut out, &json!({ "requests": decided, "flips": flips }))?);
    }
    for Flip { line, request, was, is } in flips {
        writeln!(out, "line {line}: {}", for_people(request))?;
        writeln!(out, "  - {was}\n  + {is}")?;
    }
    writeln!(out, "{decided} requests: {} verdicts would be others", flips.len())?;
    Ok(())
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = |policy: &String| format!(" by {policy}");
        let code = |code: &String| format!(" ({code})");
        let (policy, code) = (self.policy.as_ref().map(by), self.code.as_ref().map(code));
        let last = self.final_request.as_ref().filter(|_| self.verdict == "allow").map(|text| format!(": {text}"));
        let rest = [policy, code, last].map(Option::unwrap_or_default).concat();
        write!(f, "{}", for_people(&format!("{}{rest}", self.verdict)))
    }
}

/// What the policies that are only watched would have denied.
fn monitor(global: &Global, entries: &[Audited]) -> anyhow::Result<ExitStatus> {
    #[derive(Default, Serialize)]
    struct Watched {
        asked: usize,
        denied: BTreeMap<String, Vec<usize>>,
        failed: Vec<usize>,
    }
    let mut watched: BTreeMap<&str, Watched> = BTreeMap::new();
    for (i, entry) in entries.iter().enumerate() {
        for part in entry.trace.iter().filter(|part| part.monitor) {
            let policy = watched.entry(&part.policy).or_default();
            policy.asked += 1;
            match (part.verdict.as_str(), &part.denial) {
                ("deny", Some(denial)) => policy.denied.entry(denial.code.clone()).or_default().push(i + 1),
                ("fail", _) => policy.failed.push(i + 1),
                _ => {}
            }
        }
    }
    let mut out = anstream::stdout().lock();
    if global.json {
        json::write_line(&mut out, &json!({ "requests": entries.len(), "monitored": watched }))?;
        return Ok(ExitStatus::Done);
    }
    for (policy, Watched { asked, denied, failed }) in &watched {
        writeln!(out, "{}: asked {asked} times", for_people(policy))?;
        for (code, lines) in denied {
            writeln!(out, "  would have denied {} with {code}, first in line {}", lines.len(), lines[0])?;
        }
        if let Some(first) = failed.first() {
            writeln!(out, "  failed {} times, first in line {first}", failed.len())?;
        }
    }
    if watched.is_empty() {
        writeln!(out, "no policy is in monitor mode in these {} requests", entries.len())?;
    }
    Ok(ExitStatus::Done)
}
