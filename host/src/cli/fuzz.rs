//! `mountgate fuzz`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::json;

use super::global::Global;
use super::input::read_plain;
use super::request_file::RequestFile;
use crate::error::{Error, with_causes};
use crate::exit::ExitStatus;
use crate::fuzz::dictionary::Dictionary;
use crate::fuzz::input::Input;
use crate::fuzz::instrument::{Noting, instrument};
use crate::fuzz::oracles::EXPLAINED;
use crate::fuzz::run::{self, Bounds, Finding, Policies, Summary, Watcher};
use crate::fuzz::tables::Tables;
use crate::gate::Gate;
use crate::mount_table::table::MountTable;
use crate::policy::directory::units::parse_duration;
use crate::policy::engine::{Engine, Rewriting};

/// Look for requests that make policies misbehave
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mountgate fuzz --policies policies/baseline --runs 200000
  mountgate fuzz --policies . --max-time 10m --report junit=fuzz.xml
  mountgate fuzz --explain two-verdicts

Each finding is written as a request file that `mountgate check --request FILE` replays.

Exit status: 0 nothing found, 4 the policy directory isn't sound, 5 something found")]
pub(super) struct FuzzArgs {
    /// How many requests to try
    #[arg(
        long,
        value_name = "N",
        default_value_if("max_time", clap::builder::ArgPredicate::IsPresent, "18446744073709551615"),
        default_value = "100000"
    )]
    runs: u64,
    /// How long to try, e.g. 30s or 10m
    #[arg(long, value_name = "T", value_parser = time)]
    max_time: Option<Duration>,
    /// The same seed makes the same requests
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// A mount table that requests meet, in the format of /proc/self/mountinfo; may be given several times
    #[arg(long, value_name = "FILE")]
    mount_table: Vec<PathBuf>,
    /// Stop at the first finding
    #[arg(long)]
    first: bool,
    /// What guides the search
    #[arg(long, value_enum, default_value = "comparisons")]
    guide: Guide,
    /// Leave a kind of finding out, by its code, e.g. restriction-denied where that is meant
    #[arg(long, value_name = "CODE", value_parser = codes())]
    without: Vec<String>,
    /// Say what a kind of finding means, and search nothing
    #[arg(long, value_name = "CODE", value_parser = codes())]
    explain: Option<String>,
    /// Write a report for CI
    #[arg(long, value_name = "junit=FILE", value_parser = junit)]
    report: Option<PathBuf>,
    /// Where findings are written
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Guide {
    /// Nothing
    Blind,
    /// Which branches of the plugins are taken
    Edges,
    /// That, and what the plugins compare
    Comparisons,
}

/// The codes of findings.
fn codes() -> PossibleValuesParser {
    PossibleValuesParser::new(EXPLAINED.map(|(code, _)| code))
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a time as 30s or 10m".to_owned())
}

pub(super) fn junit(text: &str) -> Result<PathBuf, String> {
    text.strip_prefix("junit=").map(PathBuf::from).ok_or_else(|| "write it as junit=FILE".to_owned())
}

pub(super) fn run(global: &Global, args: &FuzzArgs) -> anyhow::Result<ExitStatus> {
    if let Some((code, meaning)) = EXPLAINED.iter().find(|(code, _)| args.explain.as_deref() == Some(code)) {
        writeln!(anstream::stdout(), "{code}: {meaning}")?;
        return Ok(ExitStatus::Done);
    }
    let cache = global.cache();
    let mut directory = global.open_directory(global.policies(), &cache)?;
    for entry in &mut directory.policies {
        entry.limits = entry.limits.without_clock();
    }
    let dictionary = Dictionary::of(directory.policies.iter().map(|entry| entry.settings.as_str()));
    let tables = Tables::new(&args.tables()?);
    // A busy machine must not make a finding: only fuel ends a plugin.
    let plain = Gate::load(&Engine::without_deadlines().map_err(Error::Sandbox)?, directory.clone(), &cache)?;
    let rewritten = |rewriting| -> anyhow::Result<Option<Gate>> {
        let engine = Engine::rewriting(rewriting).map_err(Error::Sandbox)?;
        Ok(Gate::load(&engine, directory.clone(), &cache)
            // The plugins as they are were loaded: it's their instrumented form that is too much.
            .inspect_err(|error| tracing::warn!("searching with less guidance: {}", with_causes(error)))
            .ok())
    };
    let edges = if args.guide == Guide::Blind { None } else { rewritten(EDGES)? };
    let comparisons = if args.guide == Guide::Comparisons && edges.is_some() { rewritten(COMPARISONS)? } else { None };
    let mut watcher = ToFiles::new(args, &tables)?;
    let policies = Policies { plain: &plain, edges: edges.as_ref(), comparisons: comparisons.as_ref() };
    let bounds = Bounds { runs: args.runs, time: args.max_time, without: &args.without };
    let summary = run::run(&policies, &tables, &dictionary, args.seed, bounds, &mut watcher);
    watcher.bar.finish_and_clear();
    if let Some(error) = watcher.failed {
        return Err(error);
    }
    if let Some(path) = &args.report {
        write_junit(path, &plain, &summary)?;
    }
    print(global, args.seed, &summary, &watcher.files)?;
    if summary.changed > 0 {
        tracing::warn!(
            "{} verdicts of instrumented plugins are others: report this, with the plugins",
            summary.changed
        );
    }
    Ok(if summary.findings.is_empty() { ExitStatus::Done } else { ExitStatus::Found })
}

const EDGES: Rewriting = Rewriting { name: "edges", rewrite: |plugin| instrument(plugin, Noting::Edges) };
const COMPARISONS: Rewriting =
    Rewriting { name: "comparisons", rewrite: |plugin| instrument(plugin, Noting::Comparisons) };

/// Writes each finding at once, so that whatever ends the search loses none.
struct ToFiles<'f> {
    bar: ProgressBar,
    folder: &'f Path,
    tables: &'f Tables,
    files: Vec<PathBuf>,
    failed: Option<anyhow::Error>,
    stops_at_first: bool,
    interrupted: &'static AtomicBool,
}

impl<'f> ToFiles<'f> {
    fn new(args: &'f FuzzArgs, tables: &'f Tables) -> anyhow::Result<Self> {
        let interrupted = crate::sys::note_interrupts().context("SIGINT can't be handled")?;
        Ok(Self {
            bar: progress(args),
            folder: &args.output,
            tables,
            files: Vec::new(),
            failed: None,
            stops_at_first: args.first,
            interrupted,
        })
    }
}

impl FuzzArgs {
    /// The mount tables that are given.
    fn tables(&self) -> anyhow::Result<Vec<String>> {
        let read = |file: &PathBuf| {
            let text = String::from_utf8_lossy(&read_plain(file)?).into_owned();
            MountTable::parse(text.clone().into_bytes())?;
            anyhow::Ok(text)
        };
        self.mount_table.iter().map(read).collect()
    }
}

impl Watcher for ToFiles<'_> {
    fn progress(&mut self, runs: u64, findings: usize) {
        self.bar.set_position(runs);
        self.bar.set_message(format!("{findings} findings"));
    }

    fn found(&mut self, finding: &Finding) {
        match write_finding(self.folder, finding, self.tables) {
            Ok(file) => self.files.push(file),
            Err(error) => self.failed = Some(error),
        }
    }

    fn stops(&self) -> bool {
        let is_enough = self.stops_at_first && !self.files.is_empty();
        is_enough || self.failed.is_some() || self.interrupted.load(Ordering::Relaxed)
    }
}

fn progress(args: &FuzzArgs) -> ProgressBar {
    let bar = if args.runs == u64::MAX { ProgressBar::new_spinner() } else { ProgressBar::new(args.runs) };
    let style = ProgressStyle::with_template("{elapsed} {wide_bar} {pos} runs, {per_sec}, {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn print(global: &Global, seed: u64, summary: &Summary, files: &[PathBuf]) -> anyhow::Result<()> {
    let rate = summary.runs as f64 / summary.elapsed.as_secs_f64().max(1e-9);
    let mut out = anstream::stdout().lock();
    if global.json {
        let findings: Vec<_> = summary
            .findings
            .iter()
            .zip(files)
            .map(|(finding, file)| {
                let symptom = &finding.symptom;
                json!({ "policy": symptom.policy, "code": symptom.oracle.code(), "message": symptom.message,
                        "times": finding.times, "alone": finding.alone.is_some(), "file": file, "request": finding.input.request })
            })
            .collect();
        let reached: Vec<_> = summary
            .reached
            .iter()
            .map(|reached| json!({ "policy": reached.policy, "in_chain": reached.in_chain, "edges": reached.edges }))
            .collect();
        let object = json!({ "runs": summary.runs, "seed": seed, "runs_per_second": rate.round(), "findings": findings,
                    "corpus": summary.corpus, "changed": summary.changed, "reached": reached });
        writeln!(out, "{object}")?;
        return Ok(());
    }
    for (finding, file) in summary.findings.iter().zip(files) {
        let alone = if finding.alone.is_some() { ", asked by itself" } else { "" };
        writeln!(out, "{}{alone}\n  {} times, e.g. {}", finding.symptom, finding.times, finding.input.request)?;
        let only = finding.alone.as_ref().map(|policy| format!(" --only {policy}")).unwrap_or_default();
        let policies = global.policies().display();
        writeln!(out, "  mountgate check --policies {policies}{only} --request {}", file.display())?;
    }
    for reached in summary.reached.iter().filter(|reached| !reached.in_chain) {
        writeln!(
            out,
            "not reached  {}: the policies before it let nothing through, or it is for none of the callers",
            reached.policy
        )?;
    }
    let found = summary.findings.len();
    writeln!(out, "{} runs with seed {seed}, {rate:.0} a second: {found} findings", summary.runs)?;
    Ok(())
}

/// Writes a finding as a request file, and for two verdicts a second one beside it.
fn write_finding(folder: &Path, finding: &Finding, tables: &Tables) -> anyhow::Result<PathBuf> {
    let name: String =
        finding.symptom.policy.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let stem = format!("finding-{name}-{}", finding.symptom.oracle.code());
    let path = write_input(folder, &stem, &finding.input, tables)?;
    if let Some(again) = &finding.again {
        write_input(folder, &format!("{stem}-again"), again, tables)?;
    }
    Ok(path)
}

fn write_input(folder: &Path, stem: &str, input: &Input, tables: &Tables) -> anyhow::Result<PathBuf> {
    let table = tables.text(input.table);
    let table_name = (!table.is_empty()).then(|| PathBuf::from(format!("{stem}.mountinfo")));
    let write = |name: &Path, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("{} can't be written", path.display())).map(|()| path)
    };
    if let Some(name) = &table_name {
        write(name, table)?;
    }
    let file = RequestFile {
        request: input.request.clone(),
        source: input.source.clone(),
        target: Some(input.target.clone()),
        requester: input.requester.clone(),
        mount_table: table_name,
    };
    write(Path::new(&format!("{stem}.json")), &(serde_json::to_string_pretty(&file)? + "\n"))
}

fn write_junit(path: &Path, gate: &Gate, summary: &Summary) -> anyhow::Result<()> {
    let mut suite = TestSuite::new("mountgate fuzz");
    for policy in gate.policies() {
        let of_policy: Vec<&Finding> =
            summary.findings.iter().filter(|finding| finding.symptom.policy == policy.name).collect();
        let status = if of_policy.is_empty() {
            TestCaseStatus::success()
        } else {
            let findings: Vec<String> =
                of_policy.iter().map(|finding| format!("{}: {}", finding.symptom, finding.input.request)).collect();
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(findings.join("\n"));
            status
        };
        suite.add_test_case(TestCase::new(policy.name.as_str(), status));
    }
    let mut report = Report::new("mountgate fuzz");
    report.add_test_suite(suite);
    let text = report.to_string().context("the report can't be made")?;
    std::fs::write(path, text).with_context(|| format!("{} can't be written", path.display()))
}
