//! Runs one program to its end, or until the request has to end: no environment, no input, its own process group, bounded output.

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::failure::Stop;
use crate::model::untrusted;
use crate::sys;

/// The most bytes of a program's output that are kept.
const MAX_OUTPUT: usize = 64 << 10;
/// How often is asked whether there is a reason to end it.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a killed program may take to be gone.
const GRACE: Duration = Duration::from_millis(500);

/// A program that was run.
pub(super) struct Finished {
    pub(super) how: Ended,
    /// What it wrote to both outputs, control characters escaped.
    pub(super) output: String,
}

/// How a program ended.
pub(super) enum Ended {
    Exited(ExitStatus),
    /// It was killed, for this reason.
    Killed(Stop),
    /// It was killed for this reason and is still there, stuck in the kernel: its PID and where it is stuck.
    Stuck(Stop, u32, String),
}

/// Runs a program and waits until it has ended. A descendant that keeps its output open isn't waited for.
pub(super) fn run(argv: &[String], must_end: impl Fn() -> Option<Stop>) -> io::Result<Finished> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    sys::keep_descriptors_from_programs()?;
    let (mut reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().process_group(0);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = sys::with_no_signal_blocked(&mut command).spawn()?;
    // It would keep the pipe open.
    drop(command);
    rustix::io::ioctl_fionbio(&reader, true)?;
    let pid = Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let mut output = Vec::new();
    let how = match read_until_exit(&pidfd, &mut reader, &mut output, must_end)? {
        None => Ended::Exited(child.wait()?),
        Some(stop) => {
            // It may have gone in this moment.
            let _ = kill_process_group(pid, Signal::KILL);
            let end = Instant::now() + GRACE;
            let is_over = || (Instant::now() >= end).then_some(stop);
            match read_until_exit(&pidfd, &mut reader, &mut output, is_over)? {
                None => reap(&mut child, stop)?,
                Some(_) => Ended::Stuck(stop, child.id(), waiting_in(child.id())),
            }
        }
    };
    drain(&mut reader, &mut output)?;
    Ok(Finished { how, output: untrusted::one_line(&output) })
}

/// Where in the kernel a process or thread is waiting, as far as that can be read; see proc(5).
pub(super) fn waiting_in(pid: u32) -> String {
    if !proc_shows_own_pids() {
        return String::new();
    }
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let state =
        read("status").lines().find_map(|line| line.strip_prefix("State:").map(|state| state.trim().to_owned()));
    let stack: Vec<String> = read("stack").lines().take(8).map(|line| line.trim().to_owned()).collect();
    let place = match (stack.is_empty(), read("wchan")) {
        (false, _) => stack.join(" "),
        (true, wchan) if wchan.is_empty() || wchan == "0" => {
            return state.map(|s| format!(": {s}")).unwrap_or_default();
        }
        (true, wchan) => wchan,
    };
    format!(": {}, in {place}", state.unwrap_or_default())
}

/// Whether `/proc` shows the PID namespace of this process. In another namespace the same numbers are other processes.
pub(super) fn proc_shows_own_pids() -> bool {
    let known_as = std::fs::read_link("/proc/self").unwrap_or_default();
    known_as.as_os_str() == std::process::id().to_string().as_str()
}

fn reap(child: &mut Child, stop: Stop) -> io::Result<Ended> {
    let status = child.wait()?;
    Ok(if status.signal().is_some() { Ended::Killed(stop) } else { Ended::Exited(status) })
}

/// Takes in output until the program has ended, or there is a reason to end it: that.
fn read_until_exit(
    pidfd: &OwnedFd,
    reader: &mut PipeReader,
    output: &mut Vec<u8>,
    must_end: impl Fn() -> Option<Stop>,
) -> io::Result<Option<Stop>> {
    let mut reads = true;
    let timeout = Timespec::try_from(PAUSE).map_err(io::Error::other)?;
    loop {
        let stop = must_end();
        let mut fds = [PollFd::new(pidfd, PollFlags::IN), PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN)];
        // A pipe whose other end is closed would end every poll at once.
        let polled = if reads { 2 } else { 1 };
        match poll(&mut fds[..polled], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        let [ended, readable] = fds.map(|fd| fd.revents());
        if !readable.is_empty() {
            reads = drain(reader, output)?;
        }
        if !ended.is_empty() {
            return Ok(None);
        }
        if stop.is_some() {
            return Ok(stop);
        }
    }
}

/// Reads what is there. Says whether there may be more later.
fn drain(reader: &mut PipeReader, output: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(n) => output.extend(&buffer[..n.min(MAX_OUTPUT - output.len().min(MAX_OUTPUT))]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{SigSet, Signal as Blockable};

    use super::*;

    fn shell(script: &str, timeout: Duration) -> Finished {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned);
        let end = Instant::now() + timeout;
        run(&argv, || (Instant::now() >= end).then_some(Stop::Late(timeout))).expect("sh can be run")
    }

    #[test]
    fn both_outputs_are_kept_and_escaped() {
        let ended = shell("echo one; echo two >&2; printf 'a\\033[31m\\n'; exit 3", Duration::from_secs(10));
        assert!(matches!(ended.how, Ended::Exited(status) if status.code() == Some(3)));
        assert_eq!(ended.output, "one; two; a\\u{1b}[31m");
    }

    #[test]
    fn a_program_without_end_is_killed_with_its_children() {
        let ended = shell("trap '' TERM; sleep 1000 & sleep 1000", Duration::from_millis(50));
        assert!(matches!(ended.how, Ended::Killed(Stop::Late(_))));
    }

    #[test]
    fn a_grandchild_that_holds_the_pipe_is_not_waited_for() {
        let ended = shell("setsid sleep 3 & echo done", Duration::from_secs(60));
        assert!(matches!(ended.how, Ended::Exited(_)));
        assert_eq!(ended.output, "done");
    }

    #[test]
    fn a_program_starts_with_no_signal_blocked() {
        let mut blocked = SigSet::empty();
        blocked.add(Blockable::SIGUSR1);
        blocked.thread_block().expect("a signal can be blocked");
        let ended = shell("grep SigBlk /proc/self/status", Duration::from_secs(60));
        blocked.thread_unblock().expect("it can be unblocked");
        assert_eq!(ended.output, "SigBlk:\\u{9}0000000000000000");
    }

    #[test]
    fn a_flood_of_output_is_cut() {
        let ended = shell("yes | head -c 1000000", Duration::from_secs(60));
        assert!(ended.output.len() <= 3 * MAX_OUTPUT);
    }
}
