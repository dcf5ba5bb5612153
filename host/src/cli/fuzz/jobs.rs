//! Several searches side by side, each a process of its own with its own seed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::engine_flags::EngineFlags;
use super::{CorpusFolder, Subject, ToFiles, input_file};
use crate::exit::ExitStatus;
use crate::fuzz::run::{self, Reached, Summary};

impl Subject<'_> {
    /// Searches with so many processes, and gathers what they found.
    pub(super) fn search_in_jobs(&self, jobs: u64) -> anyhow::Result<ExitStatus> {
        let start = Instant::now();
        // A Ctrl-C reaches all of them: this one waits for what the others say.
        crate::sys::note_interrupts().context("SIGINT can't be handled")?;
        let children = (0..jobs).map(start_job).collect::<anyhow::Result<Vec<_>>>()?;
        let mut answers: Vec<Value> = Vec::new();
        for child in children {
            let output = child.wait_with_output().context("a search can't be waited for")?;
            ensure!(
                matches!(output.status.code(), Some(0 | 5)),
                "a search ended with {}: what it found is in {}",
                output.status,
                self.args.output.display()
            );
            answers.push(serde_json::from_slice(&output.stdout).context("a search said what can't be read")?);
        }
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let sum = |field: &str| answers.iter().map(|answer| number(&answer[field])).sum::<u64>();
        let lists =
            |field: &'static str| answers.iter().flat_map(move |answer| answer[field].as_array().into_iter().flatten());
        // Several may have found the same: it's looked at once more, and told once.
        let mut files: Vec<PathBuf> =
            lists("findings").filter_map(|finding| finding["file"].as_str().map(PathBuf::from)).collect();
        files.sort();
        files.dedup();
        let inputs = files.iter().map(|file| input_file::read(file)).collect::<anyhow::Result<Vec<_>>>()?;
        let flags = EngineFlags::default();
        let mut watcher = ToFiles::new(self, &flags, CorpusFolder::open(&[])?.0, 0)?;
        let findings = run::examine(&self.policies(), &self.plan(&flags, Vec::new()), &inputs, &mut watcher);
        watcher.bar.finish_and_clear();
        if let Some(error) = watcher.failed {
            return Err(error);
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
        self.report(self.args.seed, &summary, &watcher.folders)?;
        // Those about settings are shown by their folders alone.
        Ok(if summary.findings.is_empty() && files.is_empty() { ExitStatus::Done } else { ExitStatus::Found })
    }
}

/// Starts this program with its own arguments, as one of the searches.
#[expect(clippy::disallowed_methods, reason = "it is this program, which drops nothing and enters nothing to fuzz")]
fn start_job(job: u64) -> anyhow::Result<std::process::Child> {
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
