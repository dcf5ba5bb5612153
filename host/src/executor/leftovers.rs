//! What a failed helper leaves running, even in a session of its own.
//!
//! This process adopts the orphans of its children (`PR_SET_CHILD_SUBREAPER` of prctl(2)) for as long as it runs, so
//! that what a helper left can be found and ended. After a mount that worked they go to init when this process ends.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::process::proc_shows_own_pids;

/// The children that this process had before the helper was started.
#[derive(Debug)]
pub(super) struct Children(BTreeSet<i32>);

/// How long what was killed may take to be gone.
const GRACE: Duration = Duration::from_millis(300);

impl Children {
    /// The children of this process now. From here on it adopts orphans.
    pub(super) fn now() -> Self {
        if let Err(errno) = set_child_subreaper(true) {
            tracing::debug!("orphans of helpers won't be found: {errno}");
        }
        Self(children().into_iter().collect())
    }

    /// Kills all children that came since, and reaps them.
    pub(super) fn end_others(&self) {
        let start = Instant::now();
        loop {
            let others: Vec<i32> = children().into_iter().filter(|child| !self.0.contains(child)).collect();
            if others.is_empty() || start.elapsed() > GRACE {
                return;
            }
            for child in others {
                let pid = Pid::from_raw(child);
                // It may have gone in this moment.
                let _ = kill(pid, Signal::SIGKILL);
                match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                    // Its own children come next.
                    Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(5)),
                    Ok(_) | Err(Errno::ECHILD) => {}
                    Err(errno) => tracing::debug!("process {child} can't be waited for: {errno}"),
                }
            }
        }
    }
}

/// The children of all threads of this process, see proc(5), `/proc/PID/task/TID/children`.
fn children() -> Vec<i32> {
    if !proc_shows_own_pids() {
        return Vec::new();
    }
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<i32>>())
        .collect()
}
