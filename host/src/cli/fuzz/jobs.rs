//! Several searches side by side, each a process of its own with its own seed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
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
        // A Ctrl-C reaches all of them: this one waits for what the others say.
        crate::sys::note_interrupts().context("SIGINT can't be handled")?;
        keep_left(&self.args.output)?;
        let children = (0..jobs).map(start_job).collect::<anyhow::Result<Vec<_>>>()?;
        let outputs = children.into_iter().map(Child::wait_with_output).collect::<Vec<_>>();
        let mut answers: Vec<Value> = Vec::new();
        for (job, output) in (0..jobs).zip(outputs) {
            let output = output.context("a search can't be waited for")?;
            ensure!(
                matches!(output.status.code(), Some(0 | 5)),
                "a search ended with {}: what it found is in {}",
                output.status,
                folder_of_job(&self.args.output, job).display()
            );
            answers.push(serde_json::from_slice(&output.stdout).context("a search said what can't be read")?);
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

/// Starts this program with its own arguments, as one of the searches.
#[expect(clippy::disallowed_methods, reason = "it is this program, which drops nothing and enters nothing to fuzz")]
fn start_job(job: u64) -> anyhow::Result<Child> {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    arguments.splice(end..end, ["--job".into(), job.to_string().into()]);
    Command::new(Path::new("/proc/self/exe"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("a search can't be started")
}
