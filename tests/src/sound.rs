//! The executor when it's killed, when calls fail, and when somebody swaps paths under it.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::support::{on_host_succeeds, on_host_with, privileged, words};

pub(crate) fn tests() -> Vec<Trial> {
    let mut tests = vec![
        privileged("sound::a_race_for_the_paths_is_never_won", || race("gate", "none landed")),
        privileged("sound::the_same_race_is_won_against_mount", || race("mount", "one landed")),
    ];
    for operation in ["bind", "tmpfs", "remount", "umount"] {
        let kill = format!("sound::a_{operation}_killed_at_any_call_leaves_nothing_or_what_was_approved");
        tests.push(privileged(&kill, move || inside("kill-anywhere", operation)));
        let fail = format!("sound::a_{operation}_with_any_call_failing_is_undone");
        tests.push(privileged(&fail, move || inside("fail-calls", operation)));
    }
    tests
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
    ensure!(output.status.success() && words(&output).contains(expected), "{}", words(&output));
    Ok(())
}
