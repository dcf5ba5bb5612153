//! The executor that runs the host's own mount(8) and umount(8).

use std::time::{Duration, Instant};

use super::process::{End, Ended, run};
use super::{Applied, ApplyError, Executor, MountFailure, namespace, verify};
use crate::audit::Secrets;
use crate::error::Error;
use crate::host_root::HostRoot;
use crate::mount_table::MountTable;
use crate::plan::{MountPlan, Step};

/// Runs each step of a plan with the host's own programs.
#[derive(Debug)]
pub struct MountProgram<'h> {
    host: &'h HostRoot,
}

/// How long taking a step back may take.
const UNDO_TIME: Duration = Duration::from_secs(5);

impl<'h> MountProgram<'h> {
    /// For this host.
    pub fn new(host: &'h HostRoot) -> Self {
        Self { host }
    }

    fn table(&self) -> Result<MountTable, ApplyError> {
        self.host.mount_table().map_err(|error| match error {
            Error::Host(error) => error.into(),
            other => MountFailure {
                step: "read the host's mount table".to_owned(),
                reason: other.to_string(),
                undone: Vec::new(),
            }
            .into(),
        })
    }
}

impl Executor for MountProgram<'_> {
    fn apply(&self, plan: &MountPlan) -> Result<Applied, ApplyError> {
        let before = self.table()?;
        let ran = namespace::within(self.host, || run_all(plan))?;
        let after = self.table()?;
        let failed = match ran {
            Ok(output) => match verify::check(plan, &before, &after) {
                Ok(()) => {
                    let mount_id = plan.makes_mount().then(|| self.host.unique_mount_id(plan.target())).flatten();
                    return Ok(Applied { mount_id, table: after, output });
                }
                Err(reason) => {
                    let said = if output.is_empty() { output } else { format!(" (it said: {output})") };
                    let step = plan.lines().pop().unwrap_or_default();
                    (step, format!("it exited with 0, but {reason}{said}"))
                }
            },
            Err(failed) => failed,
        };
        let (step, reason) = failed;
        let undone = namespace::within(self.host, || undo(plan, &before, &after))?;
        Err(MountFailure { step, reason, undone }.into())
    }
}

/// Runs the steps in order. Returns what they said, or the one that failed and why.
fn run_all(plan: &MountPlan) -> Result<String, (String, String)> {
    let deadline = Instant::now() + plan.timeout();
    let secrets = Secrets::of(&[&plan.request().options]);
    let mut output = Vec::new();
    for (step, line) in plan.steps().iter().zip(plan.lines()) {
        let reason = match run(&plan.argv(step), deadline) {
            Ok(Ended { end: End::Exited(status), output: words }) if status.success() => {
                output.extend((!words.is_empty()).then(|| secrets.mask(&words)));
                continue;
            }
            Ok(ended) => told(&ended, plan.timeout()),
            Err(error) => format!("it can't be started: {error}"),
        };
        return Err((line, secrets.mask(&reason)));
    }
    Ok(output.join("; "))
}

/// Takes back what the steps did, by what the table shows and not by what they said: a step that was killed may have
/// done its work, and one that did nothing must not take away what was there before. Says how it went.
fn undo(plan: &MountPlan, before: &MountTable, after: &MountTable) -> Vec<String> {
    let undo_one = |step: &Step| {
        let argv = plan.argv(step);
        let line = argv.join(" ");
        match run(&argv, Instant::now() + UNDO_TIME) {
            Ok(Ended { end: End::Exited(status), .. }) if status.success() => format!("undone: {line}"),
            Ok(ended) => format!("NOT undone: {line}: {}", told(&ended, UNDO_TIME)),
            Err(error) => format!("NOT undone: {line}: {error}"),
        }
    };
    let done = plan.steps().iter().rev().filter(|step| verify::is_done(step, before, after));
    done.filter_map(Step::undo).map(|step| undo_one(&step)).collect()
}

fn told(ended: &Ended, timeout: Duration) -> String {
    let how = match &ended.end {
        End::Exited(status) => match status.code() {
            Some(code) => format!("exit status {code} ({})", decoded(code)),
            None => status.to_string(),
        },
        End::Killed => format!("it took longer than {timeout:?} and was killed"),
        End::Stuck(pid) => format!("it took longer than {timeout:?} and process {pid} can't be killed"),
    };
    if ended.output.is_empty() { how } else { format!("{}: {how}", ended.output) }
}

/// What an exit status of mount(8) means, which is a sum of these.
fn decoded(status: i32) -> String {
    const MEANINGS: [(i32, &str); 7] = [
        (1, "wrong usage or no permission"),
        (2, "system error"),
        (4, "a bug in mount(8)"),
        (8, "interrupted"),
        (16, "trouble with fstab or mtab"),
        (32, "the mount failed"),
        (64, "some of the mounts succeeded"),
    ];
    let words: Vec<&str> = MEANINGS.iter().filter(|(bit, _)| status & bit != 0).map(|(_, meaning)| *meaning).collect();
    if words.is_empty() { "not one that mount(8) knows".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn exit_statuses_of_mount_are_decoded() {
        assert_eq!(decoded(32), "the mount failed");
        assert_eq!(decoded(33), "wrong usage or no permission, the mount failed");
        assert_eq!(decoded(128), "not one that mount(8) knows");
    }
}
