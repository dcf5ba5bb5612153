//! Mounts that take a helper (`mount.TYPE`), or work of mount(8)'s own: the host's mount(8) runs, and what it did is
//! looked at.

use std::time::Instant;

use super::process::{End, Ended, run};
use super::scope::{ScopeError, without_announcement};
use super::undo::Undo;
use super::{Applied, Site, StepError, leftovers};
use crate::audit::Secrets;
use crate::plan::{Attributes, HelperMount, Step, without_scope};

impl Site<'_> {
    pub(super) fn helper(
        &self,
        mount: &HelperMount,
        undos: &mut Vec<Undo>,
        applied: &mut Applied,
    ) -> Result<(), StepError> {
        let line = || Step::Helper(mount.clone()).lines(&mount.target).join(" ");
        let children = leftovers::Children::now();
        let before = self.before().map_err(|error| StepError::new(line(), error))?;
        self.commit(line)?;
        let result = self.run_helper(mount, applied).and_then(|words| {
            let attributes = Attributes::of(&mount.options);
            // What it said may be why nothing is there.
            let said = if words.is_empty() { String::new() } else { format!(" (it said: {words})") };
            let id = self
                .verify_helper(mount, attributes, &before, undos)
                .map_err(|error| StepError::new(line(), format!("it exited with 0, but {}{said}", error.reason)))?;
            applied.notes.extend((!words.is_empty()).then(|| format!("mount(8) said: {words}")));
            Ok(id)
        });
        if result.is_err() {
            children.end_others();
            // It may have been killed when its work was already done.
            if undos.is_empty() {
                let _ = self.verify_helper(mount, Attributes::default(), &before, undos);
            }
        }
        applied.mount_id = result?;
        Ok(())
    }

    /// Runs mount(8) in a scope of its own where one can be had. Returns what it said.
    fn run_helper(&self, mount: &HelperMount, applied: &mut Applied) -> Result<String, StepError> {
        if let Some(scope) = &mount.scope {
            match self.run_program(&mount.argv(true)) {
                Ok(words) => return Ok(without_announcement(&words)),
                Err(failed) => match ScopeError::of(&failed.reason) {
                    None => return Err(StepError::new(failed.call, without_announcement(&failed.reason))),
                    Some(error) if scope.required => return Err(StepError::new(failed.call, error)),
                    Some(error) => applied.notes.push(format!("{}: {error}", without_scope(&mount.fstype))),
                },
            }
        }
        self.run_program(&mount.argv(false))
    }

    fn run_program(&self, argv: &[String]) -> Result<String, StepError> {
        let deadline = self.watch.deadline();
        let timeout = self.plan.timeout();
        let line = || Secrets::of(&[&self.plan.request().options]).mask(&argv.join(" "));
        let reason = match run(argv, deadline) {
            Ok(Ended { end: End::Exited(status), output }) if status.success() => {
                return Ok(output);
            }
            Ok(ended) => {
                let how = match &ended.end {
                    End::Exited(status) => match status.code() {
                        Some(code) => format!("exit status {code} ({})", decoded(code)),
                        None => status.to_string(),
                    },
                    End::Killed => format!("it took longer than {timeout:?} and was killed"),
                    End::Stuck(pid, place) => {
                        format!("it took longer than {timeout:?}, and process {pid} can't be killed{place}")
                    }
                };
                if ended.output.is_empty() { how } else { format!("{}: {how}", ended.output) }
            }
            Err(error) if Instant::now() >= deadline => format!("the time for the request is up: {error}"),
            Err(error) => format!("it can't be started: {error}"),
        };
        Err(StepError::new(line(), reason))
    }
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
