//! Several searches side by side, each a process of its own with its own seed.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus as ExitStatusOfProcess, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::engine_flags::EngineFlags;
use super::{CorpusFolder, Subject, ToFiles, input_file};
use crate::exit::ExitStatus;
use crate::fuzz::input::Input;
use crate::fuzz::oracles::{Oracle, Symptom};
use crate::fuzz::run::{self, Finding, Reached, Summary, Watcher};

impl Subject<'_> {
    /// Searches with so many processes, and gathers what they found.
    pub(super) fn search_in_jobs(&self, flags: &EngineFlags, jobs: u64) -> anyhow::Result<ExitStatus> {
        let start = Instant::now();
        let interrupted = crate::sys::note_interrupts(false).context("SIGINT can't be handled")?;
        keep_left(&self.args.output)?;
        let mut searches = (0..jobs).map(Job::start).collect::<anyhow::Result<Vec<_>>>()?;
        wait_for(&mut searches, interrupted)?;
        let mut answers: Vec<Value> = Vec::new();
        for (job, search) in (0..jobs).zip(searches) {
            let (status, said) = search.end()?;
            ensure!(
                matches!(status.code(), Some(0 | 5)),
                "a search ended with {status}: what it found is in {}",
                folder_of_job(&self.args.output, job).display()
            );
            answers.push(serde_json::from_slice(&said).context("a search said what can't be read")?);
        }
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let sum = |field: &str| answers.iter().map(|answer| number(&answer[field])).sum::<u64>();
        let lists =
            |field: &'static str| answers.iter().flat_map(move |answer| answer[field].as_array().into_iter().flatten());
        let plan = self.plan(flags, Vec::new());
        let mut watcher = ToFiles::new(self, flags, CorpusFolder::open(&[])?.0, 0)?;
        // Several may have found the same: it's looked at once more, and told once.
        let (mut inputs, mut of_settings) = (Vec::new(), Vec::<Finding>::new());
        for told in lists("findings") {
            let input = input_file::read(Path::new(told["file"].as_str().unwrap_or_default()))?;
            match found_of_settings(told, &input) {
                None => inputs.push(input),
                Some(found) if of_settings.iter().any(|known| known.symptom.is_of_kind(&found.symptom)) => {}
                Some(found) => of_settings.push(found),
            }
        }
        let mut findings = run::examine(&self.policies(), &plan, &inputs, &mut watcher);
        of_settings.iter().for_each(|finding| watcher.found(finding));
        findings.extend(of_settings);
        watcher.bar.finish_and_clear();
        if let Some(error) = watcher.failed {
            return Err(error);
        }
        for job in 0..jobs {
            // Of a search that found nothing there is none.
            let _ = fs::remove_dir_all(folder_of_job(&self.args.output, job));
        }
        let names = self.guides.plain.policies().iter().map(|policy| policy.name.clone());
        let reached = names.map(|policy| {
            let of_policy: Vec<&Value> = lists("reached").filter(|entry| entry["policy"] == policy).collect();
            let edges = of_policy.iter().map(|entry| number(&entry["edges"])).max().unwrap_or(0);
            Reached {
                in_chain: of_policy.iter().any(|entry| entry["in_chain"] == true),
                edges: usize::try_from(edges).unwrap_or(0),
                policy,
            }
        });
        let as_size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let summary = Summary {
            runs: sum("runs"),
            elapsed: start.elapsed().max(Duration::from_nanos(1)),
            reached: reached.collect(),
            corpus: as_size(sum("corpus")),
            changed: as_size(sum("changed")),
            findings,
        };
        self.report(plan.seed, &summary, &watcher.folders, None)?;
        Ok(if summary.findings.is_empty() { ExitStatus::Done } else { ExitStatus::Found })
    }
}

/// Where one of the searches writes what it finds.
pub(super) fn folder_of_job(output: &Path, job: u64) -> PathBuf {
    output.join(format!(".job-{job}"))
}

/// Puts aside what searches found whose first process was killed: the next ones write there.
fn keep_left(output: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(output).into_iter().flatten().flatten();
    let mut left: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    left.retain(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".job-")));
    left.sort();
    for folder in left {
        let free = (0..).map(|number| output.join(format!("left-{number}"))).find(|free| !free.exists());
        let Some(free) = free else { continue };
        fs::rename(&folder, &free).with_context(|| format!("{} can't be moved", folder.display()))?;
        tracing::warn!("an earlier search was killed: what it found is in {}", free.display());
    }
    Ok(())
}

/// A finding about settings, which no request shows by itself.
fn found_of_settings(told: &Value, input: &Input) -> Option<Finding> {
    let text = |field: &str| told[field].as_str().unwrap_or_default().to_owned();
    let oracle =
        [Oracle::PrepareFailed, Oracle::SettingsUnusable].into_iter().find(|oracle| told["code"] == oracle.code())?;
    Some(Finding {
        symptom: Symptom::of_settings(&text("policy"), oracle, text("message")),
        input: input.clone(),
        again: None,
        alone: Some(text("policy")),
        trace: Vec::new(),
        verdict: "",
        times: told["times"].as_u64().unwrap_or(1),
        settings: Some(told["settings"].clone()),
    })
}

/// One of the searches, and what it says, which is read while it runs.
struct Job {
    process: Child,
    said: JoinHandle<io::Result<Vec<u8>>>,
}

impl Job {
    /// Starts this program with its own arguments.
    #[expect(clippy::disallowed_methods, reason = "it is this program, which drops nothing and enters nothing to fuzz")]
    fn start(job: u64) -> anyhow::Result<Self> {
        let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
        arguments.splice(end..end, ["--job".into(), job.to_string().into()]);
        let mut command = Command::new(Path::new("/proc/self/exe"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().context("a search can't be started")?;
        let stdout = process.stdout.take();
        let said = std::thread::spawn(move || {
            let mut said = Vec::new();
            stdout.map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut said)).map(|_| said)
        });
        Ok(Self { process, said })
    }

    /// How it ended, and what it said.
    fn end(mut self) -> anyhow::Result<(ExitStatusOfProcess, Vec<u8>)> {
        let status = self.process.wait().context("a search can't be waited for")?;
        let said = self.said.join().map_err(|_| anyhow!("a search's answer can't be read"))?;
        Ok((status, said.context("a search's answer can't be read")?))
    }
}

/// Waits until all have ended. A signal that this process alone gets is passed on: each says what it has found so far.
fn wait_for(searches: &mut [Job], interrupted: &AtomicBool) -> anyhow::Result<()> {
    let mut is_passed_on = false;
    loop {
        let is_interrupted = interrupted.load(Ordering::Relaxed);
        let mut goes_on = false;
        for Job { process, .. } in &mut *searches {
            let is_running = process.try_wait().context("a search can't be waited for")?.is_none();
            if is_running && is_interrupted && !is_passed_on {
                kill_process(Pid::from_child(process), Signal::TERM).context("a search can't be told to end")?;
            }
            goes_on |= is_running;
        }
        is_passed_on |= is_interrupted;
        if !goes_on {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
