//! The executor when it's killed, when calls fail, and when somebody swaps paths under it.

use anyhow::{Result, ensure};

use crate::support::{on_host_succeeds, on_host_with, text_of};

tests! {
    privileged a_race_for_the_paths_is_never_won,
    privileged the_same_race_is_won_against_mount,
    privileged a_bind_killed_at_any_call_leaves_nothing_or_what_was_approved,
    traced a_bind_with_any_call_failing_is_undone,
    privileged a_tmpfs_killed_at_any_call_leaves_nothing_or_what_was_approved,
    traced a_tmpfs_with_any_call_failing_is_undone,
    privileged a_remount_killed_at_any_call_leaves_nothing_or_what_was_approved,
    traced a_remount_with_any_call_failing_is_undone,
    privileged a_umount_killed_at_any_call_leaves_nothing_or_what_was_approved,
    traced a_umount_with_any_call_failing_is_undone,
}

fn a_race_for_the_paths_is_never_won() -> Result<()> {
    race("gate", "none landed")
}

fn the_same_race_is_won_against_mount() -> Result<()> {
    race("mount", "one landed")
}

fn a_bind_killed_at_any_call_leaves_nothing_or_what_was_approved() -> Result<()> {
    inside("kill-anywhere", "bind")
}

fn a_bind_with_any_call_failing_is_undone() -> Result<()> {
    inside("fail-calls", "bind")
}

fn a_tmpfs_killed_at_any_call_leaves_nothing_or_what_was_approved() -> Result<()> {
    inside("kill-anywhere", "tmpfs")
}

fn a_tmpfs_with_any_call_failing_is_undone() -> Result<()> {
    inside("fail-calls", "tmpfs")
}

fn a_remount_killed_at_any_call_leaves_nothing_or_what_was_approved() -> Result<()> {
    inside("kill-anywhere", "remount")
}

fn a_remount_with_any_call_failing_is_undone() -> Result<()> {
    inside("fail-calls", "remount")
}

fn a_umount_killed_at_any_call_leaves_nothing_or_what_was_approved() -> Result<()> {
    inside("kill-anywhere", "umount")
}

fn a_umount_with_any_call_failing_is_undone() -> Result<()> {
    inside("fail-calls", "umount")
}

fn inside(job: &str, operation: &str) -> Result<()> {
    let text = on_host_succeeds(&format!("$T inside {job} {operation}"))?;
    ensure!(text.contains(&format!("{operation}: ")), "{text}");
    Ok(())
}

const BELOW_RACE: &str = "[[policy]]
name = \"below-race\"
plugin = \"path-guard.wasm\"
settings = { allow-targets = [\"/mnt/race\"], allow-sources = [\"/mnt/race\"] }
";

fn race(what: &str, expected: &str) -> Result<()> {
    let output = on_host_with(BELOW_RACE, &["path-guard"], &format!("$T inside race {what}"))?;
    ensure!(output.status.success() && text_of(&output).contains(expected), "{}", text_of(&output));
    Ok(())
}
