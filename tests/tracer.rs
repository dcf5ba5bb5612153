//! Runs a program under ptrace(2) and interferes at one of its system calls: kills it there, or has the call fail.
//!
//! Calls are counted over all threads together, in the order in which they happen, so that every one of them can be hit.

use std::collections::{HashMap, HashSet};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What to do to the program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Interference {
    /// Nothing; its calls are counted.
    None,
    /// SIGKILL before its n-th system call, counted from 1.
    KillAt(usize),
    /// The n-th call of this number fails with this error, or every one where n is 0.
    Fail { call: i64, nth: usize, errno: i32 },
    /// The kernel knows neither statmount(2) nor listmount(2).
    NoStatmount,
    /// Before the n-th call of a number, somebody else runs a shell script.
    Between(&'static [Meanwhile]),
}

/// What somebody else does before the n-th call of a number.
#[derive(Debug)]
pub(crate) struct Meanwhile {
    pub(crate) call: i64,
    pub(crate) nth: usize,
    pub(crate) script: String,
}

pub(crate) const STATMOUNT: i64 = 457;
pub(crate) const LISTMOUNT: i64 = 458;
pub(crate) const OPEN_TREE: i64 = 428;
pub(crate) const MOVE_MOUNT: i64 = 429;

/// How it ended.
#[derive(Debug)]
pub(crate) struct Traced {
    /// The exit status; none where it was killed.
    pub(crate) status: Option<i32>,
    /// How many system calls it made, and how many were made to fail.
    pub(crate) calls: usize,
    pub(crate) failed: usize,
}

/// Runs a program under the tracer. Its outputs go where the test's go, or to a file.
pub(crate) fn run(
    mut command: Command,
    interference: Interference,
    output: Option<&std::path::Path>,
) -> Result<Traced> {
    // The program stops itself, is seized, and goes on to be what it should be.
    let mut stopped = Command::new("/bin/sh");
    stopped.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => stopped.env(key, value),
            None => stopped.env_remove(key),
        };
    }
    match output {
        Some(path) => {
            let file = std::fs::File::create(path)?;
            stopped.stdout(file.try_clone()?).stderr(file);
        }
        None => {
            stopped.stdout(Stdio::null()).stderr(Stdio::null());
        }
    }
    let child = stopped.stdin(Stdio::null()).process_group(0).spawn()?;
    command.stdin(Stdio::null());
    let main = Pid::from_raw(i32::try_from(child.id())?);
    let stop = waitpid(main, Some(WaitPidFlag::WUNTRACED))?;
    anyhow::ensure!(matches!(stop, WaitStatus::Stopped(_, Signal::SIGSTOP)), "{stop:?}");
    let options = Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_EXITKILL
        | Options::PTRACE_O_TRACEEXEC;
    ptrace::seize(main, options)?;
    nix::sys::signal::kill(main, Signal::SIGCONT)?;
    follow(main, interference)
}

fn follow(main: Pid, interference: Interference) -> Result<Traced> {
    let mut traced = Traced { status: None, calls: 0, failed: 0 };
    let mut has_begun = false;
    // The threads whose call is being made to fail.
    let mut failing: HashSet<Pid> = HashSet::new();
    let mut matching = 0;
    let mut made: HashMap<i64, usize> = HashMap::new();
    loop {
        let stop = match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Err(nix::Error::ECHILD) => return Ok(traced),
            stop => stop?,
        };
        match stop {
            WaitStatus::Exited(pid, status) if pid == main => traced.status = Some(status),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {}
            WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_EXEC) => {
                has_begun = true;
                resume(pid, None)?;
            }
            WaitStatus::PtraceEvent(pid, ..) => resume(pid, None)?,
            WaitStatus::PtraceSyscall(pid) if has_begun && enters(pid)? => {
                traced.calls += 1;
                let mut fails = false;
                match interference {
                    Interference::KillAt(n) if traced.calls == n => nix::sys::signal::kill(main, Signal::SIGKILL)?,
                    Interference::Fail { call, nth, .. } if number(pid)? == call => {
                        matching += 1;
                        fails = nth == 0 || matching == nth;
                    }
                    Interference::Between(scripts) => {
                        let call = number(pid)?;
                        let nth = made.entry(call).or_default();
                        *nth += 1;
                        for script in scripts.iter().filter(|script| (script.call, script.nth) == (call, *nth)) {
                            let status = Command::new("/bin/sh").args(["-euc", &script.script]).status()?;
                            anyhow::ensure!(status.success(), "{script:?}: {status}");
                        }
                    }
                    Interference::NoStatmount => fails = matches!(number(pid)?, STATMOUNT | LISTMOUNT),
                    _ => {}
                }
                if fails {
                    traced.failed += 1;
                    skip(pid)?;
                    failing.insert(pid);
                }
                resume(pid, None)?;
            }
            WaitStatus::PtraceSyscall(pid) => {
                if failing.remove(&pid) {
                    answer(pid, interference)?;
                }
                resume(pid, None)?;
            }
            WaitStatus::Stopped(pid, signal) => {
                let passed = (!matches!(signal, Signal::SIGSTOP | Signal::SIGTRAP | Signal::SIGCONT)).then_some(signal);
                resume(pid, passed)?;
            }
            other => bail!("an unexpected stop: {other:?}"),
        }
    }
}

fn resume(pid: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::syscall(pid, signal) {
        // Killed meanwhile.
        Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
        Err(error) => Err(error).context("ptrace"),
    }
}

/// Whether a thread stands before a call, and not behind one.
fn enters(pid: Pid) -> Result<bool> {
    match ptrace::syscall_info(pid) {
        Ok(info) => Ok(info.op == libc::PTRACE_SYSCALL_INFO_ENTRY),
        Err(nix::Error::ESRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(target_arch = "x86_64")]
fn number(pid: Pid) -> Result<i64> {
    match ptrace::getregs(pid) {
        Ok(registers) => Ok(registers.orig_rax.cast_signed()),
        Err(nix::Error::ESRCH) => Ok(-1),
        Err(error) => Err(error.into()),
    }
}

/// Has the kernel do nothing instead of the call.
#[cfg(target_arch = "x86_64")]
fn skip(pid: Pid) -> Result<()> {
    let mut registers = ptrace::getregs(pid)?;
    registers.orig_rax = u64::MAX;
    Ok(ptrace::setregs(pid, registers)?)
}

/// Puts the error where the call's result is.
#[cfg(target_arch = "x86_64")]
fn answer(pid: Pid, interference: Interference) -> Result<()> {
    let errno = match interference {
        Interference::Fail { errno, .. } => errno,
        _ => libc::ENOSYS,
    };
    let mut registers = ptrace::getregs(pid)?;
    registers.rax = i64::from(-errno).cast_unsigned();
    Ok(ptrace::setregs(pid, registers)?)
}

#[cfg(not(target_arch = "x86_64"))]
fn number(_: Pid) -> Result<i64> {
    bail!("system calls can be failed on x86_64 only")
}

#[cfg(not(target_arch = "x86_64"))]
fn skip(_: Pid) -> Result<()> {
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn answer(_: Pid, _: Interference) -> Result<()> {
    Ok(())
}
