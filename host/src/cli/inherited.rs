//! What a process inherits from its caller and what would change how a request ends: limits, and signals.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::model::host_error::HostError;

/// From now on no signal ends or stops the process but those that ask it to end, those of a fault, and SIGKILL and SIGSTOP: a caller's timer, its
/// terminal, or a limit. Others would wait for a stopped process, and a change would stay half done. Programs that are started don't
/// inherit that.
pub(super) fn hold_other_signals() {
    let kept = [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGCHLD,
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGTRAP,
        Signal::SIGABRT,
        Signal::SIGSYS,
    ];
    let mut held = SigSet::all();
    kept.into_iter().for_each(|signal| held.remove(signal));
    // The threads that are started inherit it.
    let _ = held.thread_block();
}

/// Does something on this thread, while signals that ask the process to end go to its other threads: no call of the kernel is interrupted.
pub(super) fn leave_interrupts_to_others<T>(work: impl FnOnce() -> T) -> T {
    let interrupts = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    let before = interrupts.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let result = work();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    result
}

/// What of memory, addresses and files a request may need: with less, it could end in the middle of a change, or a plugin couldn't run.
const NEEDED: [(Resource, &str, &str, u64); 4] = [
    (Resource::Data, "RLIMIT_DATA", "-d", 64 << 20),
    (Resource::As, "RLIMIT_AS", "-v", 8 << 30),
    (Resource::Fsize, "RLIMIT_FSIZE", "-f", 64 << 20),
    (Resource::Stack, "RLIMIT_STACK", "-s", 4 << 20),
];

/// What of CPU time a request may need at most: all policies, and unmounting thousands of mounts.
const CPU_SECONDS: u64 = 60;

/// The stack that programs have, and no more: without a limit, addresses would be chosen in another way.
const STACK: u64 = 8 << 20;

/// Puts right what was inherited, as far as this process may.
///
/// # Errors
/// When too little is left.
pub(super) fn put_right() -> Result<(), String> {
    // With little of these, a request ended in the middle of a change: half of an audit line would be written, SIGKILL would come, or there
    // would be no memory.
    for resource in [Resource::Fsize, Resource::Cpu, Resource::As, Resource::Data] {
        let Rlimit { current, maximum: hard } = getrlimit(resource);
        if current.is_some() {
            let raised = setrlimit(resource, Rlimit { current: None, maximum: None });
            let _ = raised.or_else(|_| setrlimit(resource, Rlimit { current: hard, maximum: hard }));
        }
    }
    let stack = getrlimit(Resource::Stack);
    if stack.current.is_some_and(|bytes| bytes < STACK) {
        let enough = Some(stack.maximum.map_or(STACK, |most| most.min(STACK)));
        let _ = setrlimit(Resource::Stack, Rlimit { current: enough, maximum: stack.maximum });
    }
    // The end of a helper must be told.
    let _ = crate::sys::expect_children();
    for (resource, name, flag, needed) in NEEDED {
        if let Some(bytes) = getrlimit(resource).current.filter(|bytes| *bytes < needed) {
            return Err(format!(
                "{name} (getrlimit(2), `ulimit {flag}`) is {} KiB, can't be raised, and must be at least {} KiB",
                bytes >> 10,
                needed >> 10
            ));
        }
    }
    Ok(())
}

/// Checks that enough of CPU time is left to change the host: at its end SIGKILL would come, in the middle of a change.
///
/// # Errors
/// When too little is left, and couldn't be raised.
pub(super) fn check_cpu_time() -> Result<(), HostError> {
    let Some(seconds) = getrlimit(Resource::Cpu).current else { return Ok(()) };
    let left = seconds.saturating_sub(clock_gettime(ClockId::ProcessCPUTime).tv_sec.unsigned_abs());
    if left >= CPU_SECONDS {
        return Ok(());
    }
    let what = format!("`ulimit -t` leaves {left} s, can't be raised, and must leave at least {CPU_SECONDS} s");
    Err(HostError::new("getrlimit", "RLIMIT_CPU", io::Error::other(what)))
}
