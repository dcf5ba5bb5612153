//! Mounts that take a helper (`mount.TYPE`) or an option that only mount(8) carries out. The host's mount(8) runs, and
//! what it did is verified.

use super::apply::Applied;
use super::carried::Before;
use super::execution::Execution;
use super::failure::StepError;
use super::process::{Ended, Finished, run};
use super::scope::{ScopeError, without_announcement};
use super::undo::Undo;
use super::{leftovers, singleton, verify};
use crate::model::secrets::Secrets;
use crate::plan::attributes::Attributes;
use crate::plan::helper_mount::{HelperMount, without_scope};
use crate::plan::step::Step;

/// Has the host's mount(8) mount, and verifies what is there afterwards.
pub(super) fn mount(
    execution: &Execution<'_>,
    mount: &HelperMount,
    undos: &mut Vec<Undo>,
    applied: &mut Applied,
) -> Result<(), StepError> {
    let line = || Step::Helper(mount.clone()).lines(&mount.target).join(" ");
    if !mount.helper {
        singleton::check_any(execution, &mount.fstype)?;
    }
    let children = leftovers::Children::now();
    let earlier = undos.len();
    execution.commit_to_wait(line)?;
    // While the helper works, others can mount.
    execution.is_overtaken.set(true);
    let before = Before::now(execution, execution.target()?).map_err(|error| StepError::new(line(), error))?;
    let result = run_mount(execution, mount, applied).and_then(|output| {
        let attributes = Attributes::of(&mount.options);
        // The output may say why nothing is there.
        let printed = if output.is_empty() { String::new() } else { format!(" (it said: {output})") };
        let id = verify::helper(execution, mount, attributes, &before, undos).map_err(|error| {
            let reason = format!("it exited with 0, but {}{printed}", error.reason);
            StepError { call: line(), reason, ..error }
        })?;
        applied.notes.extend((!output.is_empty()).then(|| format!("mount(8) said: {output}")));
        Ok(id)
    });
    if result.is_err() {
        children.end_others();
        // It may have been killed when its work was already done.
        if undos.len() == earlier {
            let _ = verify::helper(execution, mount, Attributes::default(), &before, undos);
        }
    }
    applied.mount_id = result?;
    Ok(())
}

/// Runs mount(8), in a scope of its own where systemd gives one. Returns its output.
fn run_mount(execution: &Execution<'_>, mount: &HelperMount, applied: &mut Applied) -> Result<String, StepError> {
    if let Some(scope) = &mount.scope {
        match run_program(execution, &mount.argv(true)) {
            Ok(output) => return Ok(without_announcement(&output)),
            Err(failed) => match ScopeError::of(&failed.reason) {
                None => return Err(StepError::new(failed.call, without_announcement(&failed.reason))),
                Some(error) if scope.required => return Err(StepError::new(failed.call, error.to_string())),
                Some(error) => applied.notes.push(format!("{}: {error}", without_scope(&mount.fstype))),
            },
        }
    }
    run_program(execution, &mount.argv(false))
}

fn run_program(execution: &Execution<'_>, argv: &[String]) -> Result<String, StepError> {
    let must_end = || execution.watch.must_end();
    let line = || Secrets::of(&[execution.plan.request()]).mask(&argv.join(" "));
    let reason = match run(argv, must_end) {
        Ok(Finished { how: Ended::Exited(status), output }) if status.success() => {
            return Ok(output);
        }
        Ok(finished) => {
            let how = match &finished.how {
                Ended::Exited(status) => match status.code() {
                    Some(code) => format!("exit status {code} ({})", decoded(code)),
                    None => status.to_string(),
                },
                Ended::Killed(stop) => format!("{stop}, and the program was killed"),
                Ended::Stuck(stop, pid, place) => format!("{stop}, and process {pid} can't be killed{place}"),
            };
            if finished.output.is_empty() { how } else { format!("{}: {how}", finished.output) }
        }
        Err(error) => match must_end() {
            Some(stop) => format!("{stop}: {error}"),
            None => format!("it can't be started: {error}"),
        },
    };
    Err(StepError::new(line(), reason))
}

/// What an exit status of mount(8) means, which is a sum of these.
fn decoded(status: i32) -> String {
    // mount(8) ends as its helper does.
    if matches!(status, 126 | 127) {
        return "a program wasn't there or can't be run".to_owned();
    }
    const MEANINGS: [(i32, &str); 7] = [
        (1, "wrong usage or no permission"),
        (2, "system error"),
        (4, "a bug in mount(8)"),
        (8, "interrupted"),
        (16, "trouble with fstab or mtab"),
        (32, "the mount failed"),
        (64, "some of the mounts succeeded"),
    ];
    let meanings: Vec<&str> =
        MEANINGS.iter().filter(|(bit, _)| status & bit != 0).map(|(_, meaning)| *meaning).collect();
    if meanings.is_empty() { "not one that mount(8) knows".to_owned() } else { meanings.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn exit_statuses_of_mount_are_decoded() {
        assert_eq!(decoded(32), "the mount failed");
        assert_eq!(decoded(33), "wrong usage or no permission, the mount failed");
        assert_eq!(decoded(127), "a program wasn't there or can't be run");
        assert_eq!(decoded(128), "not one that mount(8) knows");
    }
}
