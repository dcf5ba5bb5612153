//! `mountgate fuzz`

mod bounds;
mod corpus_folder;
mod engine_flags;
mod finding;
pub(super) mod guides;
pub(super) mod input_file;
mod jobs;
mod report;
pub(super) mod target;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use clap::builder::PossibleValuesParser;
use indicatif::ProgressBar;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub(super) use self::bounds::{Bounds, progress};
use self::corpus_folder::CorpusFolder;
pub(super) use self::corpus_folder::settings;
use self::engine_flags::EngineFlags;
pub(super) use self::guides::{Guide, Guides, trials};
use self::report::{Judged, ReportFile};
use super::global::Global;
use super::input::read_plain;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::fuzz::dictionary::Dictionary;
use crate::fuzz::input::Input;
use crate::fuzz::oracles::{EXPLAINED, Oracle};
use crate::fuzz::run::{self, Finding, Plan, Policies, Summary, Watcher, Without};
use crate::fuzz::tables::{Table, Tables};
use crate::gate::Gate;
use crate::json;
use crate::model::refusals::Refusals;
use crate::model::untrusted::for_people;

/// Look for requests that make policies misbehave
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mountgate fuzz --policies policies/baseline --runs 200000
  mountgate fuzz --policies . --max-time 10m --corpus corpus --report junit=fuzz.xml,sarif=fuzz.sarif
  mountgate fuzz --policies . -- -merge=1 corpus new-requests
  mountgate fuzz --explain two-verdicts

Each finding is a folder: the request, which `mountgate check --request FILE` replays, a case for `mountgate policy test`, and what it
means. After `--` stand folders of a corpus, request files that are run, and the flags of libFuzzer: -runs, -max_total_time, -seed, -jobs,
-merge=1, -minimize_crash=1, -artifact_prefix, -exact_artifact_path, -dict. Others are left out.

Exit status: 0 nothing found, 4 the policy directory isn't sound, 5 something found")]
pub(super) struct FuzzArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// A folder of requests to begin with, which those are added to that reach something new; may be given several times: what is new
    /// goes to the first
    #[arg(long, value_name = "DIR")]
    corpus: Vec<PathBuf>,
    /// How many searches run side by side, with seeds of their own. They share the corpus
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: u64,
    /// Which of them this is
    #[arg(long, hide = true)]
    job: Option<u64>,
    /// A mount table that requests meet, in the format of /proc/self/mountinfo; may be given several times
    #[arg(long, value_name = "FILE")]
    mount_table: Vec<PathBuf>,
    /// Stop at the first finding
    #[arg(long)]
    first: bool,
    /// What guides the search
    #[arg(long, value_enum, default_value = "comparisons")]
    guide: Guide,
    /// Leave a kind of finding out, by its code, e.g. restriction-denied where that is meant. `fuzz-without` in policies.toml does so for
    /// one policy
    #[arg(long, value_name = "CODE", value_parser = codes())]
    without: Vec<String>,
    /// Say what a kind of finding means, and search nothing
    #[arg(long, value_name = "CODE", value_parser = codes())]
    explain: Option<String>,
    /// Write a report for CI: junit=FILE, json=FILE, sarif=FILE
    #[arg(long, value_name = "FORM=FILE", value_delimiter = ',')]
    report: Vec<ReportFile>,
    /// Where findings are written
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Folders, request files, and flags of libFuzzer
    #[arg(last = true, value_name = "LIBFUZZER")]
    engine: Vec<OsString>,
}

/// The codes of findings.
fn codes() -> PossibleValuesParser {
    PossibleValuesParser::new(EXPLAINED.map(|(code, _)| code))
}

pub(super) fn junit(text: &str) -> Result<PathBuf, String> {
    text.strip_prefix("junit=").map(PathBuf::from).ok_or_else(|| "write it as junit=FILE".to_owned())
}

pub(super) fn run(global: &Global, args: &FuzzArgs) -> anyhow::Result<ExitStatus> {
    if let Some((code, meaning)) = EXPLAINED.iter().find(|(code, _)| args.explain.as_deref() == Some(code)) {
        writeln!(anstream::stdout(), "{code}: {meaning}")?;
        return Ok(ExitStatus::Done);
    }
    if args.job.is_some() {
        // Whatever ends the first process: this one keeps what it has found, and ends as well. SIGINT may be ignored, as a shell's background jobs
        // do.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
        // Also while it gets ready.
        crate::sys::note_interrupts(true).context("SIGINT can't be handled")?;
    }
    let flags = EngineFlags::parse(&args.engine)
        .map_err(|message| Error::from(Refusals::one("--", message, Some("mountgate fuzz --help names the flags"))))?;
    let subject = Subject::load(global, args, &flags)?;
    if flags.merges {
        return subject.merge(&flags);
    }
    if !flags.files.is_empty() {
        return subject.examine(&flags);
    }
    let jobs = flags.jobs.unwrap_or(args.jobs);
    if jobs > 1 && args.job.is_none() { subject.search_in_jobs(&flags, jobs) } else { subject.search(&flags) }
}

/// What is searched, and with what.
struct Subject<'a> {
    global: &'a Global,
    args: &'a FuzzArgs,
    guides: Guides,
    tables: Tables,
    dictionary: Dictionary,
    without: Vec<Without>,
}

impl<'a> Subject<'a> {
    fn load(global: &'a Global, args: &'a FuzzArgs, flags: &EngineFlags) -> anyhow::Result<Self> {
        let guides = Guides::load(global, global.policies(), args.guide)?.with_properties(global, global.policies())?;
        let entries = guides.plain.entries();
        let stated = guides.properties.iter().flat_map(Gate::entries);
        let mut dictionary = Dictionary::of(entries.iter().chain(stated).map(|entry| entry.settings.as_str()));
        dictionary.add(flags.words()?);
        let given = |file: &PathBuf| -> anyhow::Result<_> {
            Ok(Table::parse(String::from_utf8_lossy(&read_plain(file)?).into_owned())?)
        };
        let tables = Tables::new(args.mount_table.iter().map(given).collect::<Result<Vec<_>, _>>()?);
        let mut without = Vec::new();
        without.extend(args.without.iter().map(|code| Without { policy: None, code: code.clone() }));
        let properties = guides.properties.iter().flat_map(Gate::entries);
        for entry in entries.iter().chain(properties) {
            let is_known = |code: &String| EXPLAINED.iter().any(|(known, _)| known == code);
            if let Some(code) = entry.fuzz_without.keys().find(|code| !is_known(code)) {
                let message = format!("`fuzz-without` of {} names {code:?}, which is no code of a finding", entry.name);
                let hint = Some("mountgate fuzz --help lists them, at --without");
                return Err(Error::from(Refusals::one("policies.toml", message, hint)).into());
            }
            // A property may have the name of a policy.
            let is_property = entries.iter().all(|of_chain| !std::ptr::eq(of_chain, entry));
            let is_its = |code: &&String| is_property == (*code == Oracle::PropertyViolated.code());
            let of_policy = |code: &String| Without { policy: Some(entry.name.clone()), code: code.clone() };
            without.extend(entry.fuzz_without.keys().filter(is_its).map(of_policy));
        }
        Ok(Self { global, args, guides, tables, dictionary, without })
    }

    fn policies(&self) -> Policies<'_> {
        self.guides.policies(None)
    }

    fn plan(&self, flags: &EngineFlags, corpus: Vec<Input>) -> Plan<'_> {
        let seed = flags.seed.unwrap_or(self.args.bounds.seed).wrapping_add(self.args.job.unwrap_or(0));
        let runs = flags.runs.unwrap_or(if flags.time.is_some() { u64::MAX } else { self.args.bounds.runs });
        let time = flags.time.or(self.args.bounds.max_time);
        let Self { tables, dictionary, without, .. } = self;
        Plan { tables, dictionary, corpus, settings: Vec::new(), labels: &self.global.label, seed, runs, time, without }
    }

    fn search(&self, flags: &EngineFlags) -> anyhow::Result<ExitStatus> {
        let folders: Vec<PathBuf> = self.args.corpus.iter().chain(&flags.folders).cloned().collect();
        let (corpus, inputs) = CorpusFolder::open(&folders)?;
        let plan = Plan { settings: settings(&folders)?, ..self.plan(flags, inputs) };
        let (seed, runs) = (plan.seed, plan.runs);
        let mut watcher = ToFiles::new(self, flags, corpus, runs)?;
        let trials = self.guides.trials(self.global)?;
        let summary = run::run(&self.guides.policies(Some(&trials)), plan, &mut watcher);
        watcher.bar.finish_and_clear();
        if let Some(error) = watcher.failed {
            return Err(error);
        }
        let digest: String = watcher.digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        self.report(seed, &summary, &watcher.folders, Some(&digest))?;
        if summary.changed > 0 {
            tracing::warn!(
                "{} verdicts of instrumented plugins are others: report this, with the plugins",
                summary.changed
            );
        }
        Ok(if summary.findings.is_empty() { ExitStatus::Done } else { ExitStatus::Found })
    }

    /// Runs request files, as an engine does to see whether a finding is still there, or to make one smaller.
    fn examine(&self, flags: &EngineFlags) -> anyhow::Result<ExitStatus> {
        let plan = self.plan(flags, Vec::new());
        let mut watcher = ToFiles::new(self, flags, CorpusFolder::open(&[])?.0, 0)?;
        watcher.makes_artifacts = flags.minimizes;
        let read = |path: &PathBuf| {
            anstream::eprintln!("Running: {}", path.display());
            input_file::read(path)
        };
        let inputs = flags.files.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
        let findings = run::examine(&self.policies(), &plan, &inputs, &mut watcher);
        watcher.bar.finish_and_clear();
        if let Some(error) = watcher.failed {
            return Err(error);
        }
        let summary = Summary {
            runs: u64::try_from(flags.files.len()).unwrap_or(u64::MAX),
            elapsed: Duration::ZERO,
            reached: Vec::new(),
            corpus: 0,
            changed: 0,
            findings,
        };
        self.report(plan.seed, &summary, &watcher.folders, None)?;
        Ok(if summary.findings.is_empty() { ExitStatus::Done } else { ExitStatus::Found })
    }

    /// Adds to the first folder what the others have that reaches something new.
    fn merge(&self, flags: &EngineFlags) -> anyhow::Result<ExitStatus> {
        let Some((first, others)) = flags.folders.split_first() else {
            let hint = Some("e.g. mountgate fuzz --policies DIR -- -merge=1 corpus new-requests");
            return Err(
                Error::from(Refusals::one("-merge=1", "it needs a folder to merge into".to_owned(), hint)).into()
            );
        };
        let (mut corpus, known) = CorpusFolder::open(std::slice::from_ref(first))?;
        let mut new = Vec::new();
        for folder in others {
            new.extend(input_file::read_folder(folder)?.into_iter().map(|(_, input)| input));
        }
        // The small ones first: a large one that reaches the same isn't needed then.
        new.sort_by_key(Input::size);
        let chosen = run::merge(&self.policies(), &known, &new);
        for number in &chosen {
            corpus.add(&input_file::canonical(&new[*number])?)?;
        }
        let folder = corpus.path().unwrap_or(first).display().to_string();
        let trials = self.guides.trials(self.global)?;
        let policies = self.guides.policies(Some(&trials));
        let (known_settings, new_settings) = (settings(std::slice::from_ref(first))?, settings(others)?);
        let chosen_settings = run::merge_settings(&policies, &known_settings, &new_settings);
        for (policy, settings) in &chosen_settings {
            corpus.add_settings(policy, settings)?;
        }
        if self.global.json {
            let object = serde_json::json!({ "corpus": folder, "before": known.len(), "read": new.len(), "added": chosen.len(),
                                             "added_settings": chosen_settings.len() });
            writeln!(anstream::stdout(), "{object}")?;
        } else {
            writeln!(anstream::stdout(), "{folder}: {} of {} requests reach something new", chosen.len(), new.len())?;
            if !new_settings.is_empty() {
                let (chosen, all) = (chosen_settings.len(), new_settings.len());
                writeln!(anstream::stdout(), "{folder}: {chosen} of {all} settings reach something new")?;
            }
        }
        Ok(ExitStatus::Done)
    }

    /// All that findings may be about.
    fn judged(&self) -> Vec<Judged<'_>> {
        let policies = self.global.policies();
        let own = (&self.guides.plain, policies.to_owned(), false);
        let stated = self.guides.properties.as_ref().map(|gate| (gate, policies.join(guides::PROPERTIES), true));
        let all = std::iter::once(own).chain(stated);
        all.flat_map(|(gate, folder, is_property)| {
            let judged = move |entry| Judged { entry, config: folder.join("policies.toml"), is_property };
            gate.entries().iter().map(judged)
        })
        .collect()
    }

    fn report(&self, seed: u64, summary: &Summary, folders: &[PathBuf], digest: Option<&str>) -> anyhow::Result<()> {
        let policies = self.global.policies();
        let mut object = as_json(seed, summary, folders);
        object["digest"] = digest.into();
        let judged = self.judged();
        if self.args.job.is_none() {
            for report in &self.args.report {
                report.write(&judged, &summary.findings, &object)?;
            }
        }
        let mut out = anstream::stdout().lock();
        if self.global.json || self.args.job.is_some() {
            return Ok(json::write_line(&mut out, &object)?);
        }
        for (finding, folder) in summary.findings.iter().zip(folders) {
            let alone = if finding.alone.is_some() { ", asked by itself" } else { "" };
            let (symptom, request) = (finding.symptom.to_string(), finding.input.request.to_string());
            writeln!(out, "{}{alone}", for_people(&symptom))?;
            writeln!(out, "  {} times, e.g. {}", finding.times, for_people(&request))?;
            match finding.settings {
                Some(_) => writeln!(out, "  with the settings in {}", folder.join(finding::SETTINGS).display())?,
                None => writeln!(out, "  {}", finding::command(finding, folder, policies))?,
            }
        }
        for reached in summary.reached.iter().filter(|reached| !reached.in_chain) {
            writeln!(
                out,
                "not reached  {}: the policies before it let nothing through, or it is for none of the callers",
                reached.policy
            )?;
        }
        let (found, rate) = (summary.findings.len(), rate(summary));
        let digest = digest.map(|digest| format!(", digest {digest}")).unwrap_or_default();
        writeln!(out, "{} runs with seed {seed}, {rate:.0} a second: {found} findings{digest}", summary.runs)?;
        Ok(())
    }
}

/// Runs a second.
fn rate(summary: &Summary) -> f64 {
    summary.runs as f64 / summary.elapsed.as_secs_f64().max(1e-9)
}

fn as_json(seed: u64, summary: &Summary, folders: &[PathBuf]) -> Value {
    let finding = |(finding, folder): (&Finding, &PathBuf)| {
        let symptom = &finding.symptom;
        serde_json::json!({ "policy": symptom.policy, "code": symptom.oracle.code(), "message": symptom.message, "times": finding.times,
                "alone": finding.alone.is_some(), "settings": finding.settings, "file": folder.join(finding::REQUEST).to_string_lossy(), "request": finding.input.request })
    };
    let findings: Vec<Value> = summary.findings.iter().zip(folders).map(finding).collect();
    let reached: Vec<Value> = summary
        .reached
        .iter()
        .map(|reached| serde_json::json!({ "policy": reached.policy, "in_chain": reached.in_chain, "edges": reached.edges }))
        .collect();
    serde_json::json!({ "runs": summary.runs, "seed": seed, "runs_per_second": rate(summary).round(), "findings": findings,
            "corpus": summary.corpus, "changed": summary.changed, "reached": reached })
}

/// Writes each finding at once, so that whatever ends the search loses none.
struct ToFiles<'f> {
    bar: ProgressBar,
    args: &'f FuzzArgs,
    flags: &'f EngineFlags,
    policies: &'f Path,
    /// Where findings are written.
    output: PathBuf,
    corpus: CorpusFolder,
    /// Of all that was kept and found: the same seed makes the same on every machine.
    digest: Sha256,
    /// The folders of the findings.
    folders: Vec<PathBuf>,
    /// The policy and the code of each.
    kinds: Vec<(String, &'static str)>,
    failed: Option<anyhow::Error>,
    /// Whether an engine wants findings as files that it names.
    makes_artifacts: bool,
    stops_at_first: bool,
    interrupted: &'static AtomicBool,
}

impl<'f> ToFiles<'f> {
    fn new(subject: &'f Subject<'_>, flags: &'f EngineFlags, corpus: CorpusFolder, runs: u64) -> anyhow::Result<Self> {
        let args = subject.args;
        let interrupted = crate::sys::note_interrupts(args.job.is_some()).context("SIGINT can't be handled")?;
        // Only a search that an engine has begun ends at the first finding, as those of libFuzzer do.
        let is_of_engine = !args.engine.is_empty();
        Ok(Self {
            bar: if args.job.is_some() { ProgressBar::hidden() } else { progress(runs) },
            args,
            flags,
            policies: subject.global.policies(),
            output: args.job.map_or_else(|| args.output.clone(), |job| jobs::folder_of_job(&args.output, job)),
            corpus,
            digest: Sha256::new(),
            folders: Vec::new(),
            kinds: Vec::new(),
            failed: None,
            // Of several searches the first process gathers what they found.
            makes_artifacts: is_of_engine && args.job.is_none(),
            stops_at_first: args.first || is_of_engine,
            interrupted,
        })
    }

    /// Writes a finding as a folder, in the place of what was seen of it before.
    fn write_folder(&self, finding: &Finding) -> anyhow::Result<PathBuf> {
        let is_like = |(policy, code): &&(String, &str)| {
            *policy == finding.symptom.policy && *code == finding.symptom.oracle.code()
        };
        finding::write(&self.output, finding, self.kinds.iter().filter(is_like).count(), self.policies)
    }

    fn write(&mut self, finding: &Finding) -> anyhow::Result<()> {
        self.folders.push(self.write_folder(finding)?);
        self.kinds.push((finding.symptom.policy.clone(), finding.symptom.oracle.code()));
        self.digest.update(format!("{} {}", finding.symptom, input_file::canonical(&finding.input)?));
        if self.makes_artifacts {
            let text = input_file::canonical(&finding.input)?;
            let prefix = self.flags.artifact_prefix.as_deref().unwrap_or("./");
            let word = if self.flags.minimizes { "minimized-from" } else { "crash" };
            // The one file has the first: another would take its place.
            let exact = self.flags.exact_artifact_path.as_ref().filter(|_| self.folders.len() == 1);
            let path = match exact {
                Some(path) => path.clone(),
                None => PathBuf::from(format!("{prefix}{word}-{}", input_file::name(&text))),
            };
            input_file::write_whole(&path, &text)?;
            // Engines look for these two lines.
            anstream::eprintln!(
                "=={}== ERROR: libFuzzer: {}",
                std::process::id(),
                for_people(&finding.symptom.to_string())
            );
            anstream::eprintln!("Test unit written to {}", path.display());
        }
        Ok(())
    }
}

impl Watcher for ToFiles<'_> {
    fn progress(&mut self, runs: u64, findings: usize) {
        self.bar.set_position(runs);
        self.bar.set_message(format!("{findings} findings"));
    }

    fn seen(&mut self, finding: &Finding) {
        if let Err(error) = self.write_folder(finding) {
            self.failed = Some(error);
        }
    }

    fn found(&mut self, finding: &Finding) {
        if let Err(error) = self.write(finding) {
            self.failed = Some(error);
        }
    }

    fn kept(&mut self, input: &Input) {
        let keep = |text: String| {
            self.digest.update(&text);
            self.corpus.add(&text)
        };
        if let Err(error) = input_file::canonical(input).and_then(keep) {
            self.failed = Some(error);
        }
    }

    fn kept_settings(&mut self, policy: &str, settings: &Value) {
        self.digest.update(format!("{policy} {settings}"));
        if let Err(error) = self.corpus.add_settings(policy, settings) {
            self.failed = Some(error);
        }
    }

    fn arrived(&mut self) -> Vec<Input> {
        // Only beside others: a search by itself does the same each time.
        if self.args.job.is_some() { self.corpus.arrived() } else { Vec::new() }
    }

    fn stops(&self) -> bool {
        let is_enough = self.stops_at_first && !self.folders.is_empty();
        is_enough || self.failed.is_some() || self.interrupted.load(Ordering::Relaxed)
    }
}
