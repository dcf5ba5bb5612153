//! The time of a request, and what the thread that works on it and the one that waits for it know of each other.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::failure::MountFailure;
use super::process;

/// The time of one request.
#[derive(Debug)]
pub(crate) struct Watch {
    timeout: Duration,
    deadline: Instant,
    /// One of the three below.
    state: AtomicU8,
    /// The thread that works.
    thread: AtomicU32,
    /// Whether the policies are ready to be asked.
    is_ready: AtomicBool,
}

/// The host is as it was, and the request can be given up without a trace.
const OPEN: u8 = 0;
/// The host is being changed.
const COMMITTED: u8 = 1;
/// The host must not be changed any more.
const GIVEN_UP: u8 = 2;

/// How long a kernel that doesn't answer is waited for after the deadline, and once more where the host is being changed.
/// A program is killed at the deadline itself, and has half of this to be gone.
const GRACE: Duration = Duration::from_millis(950);

impl Watch {
    /// The time of a request that starts now.
    pub(crate) fn new(timeout: Duration) -> Self {
        let (state, thread) = (AtomicU8::new(OPEN), AtomicU32::new(0));
        Self { timeout, deadline: Instant::now() + timeout, state, thread, is_ready: AtomicBool::new(false) }
    }

    /// When its time is up.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The calling thread is the one that works on the request.
    pub(crate) fn begin(&self) {
        self.thread.store(nix::unistd::gettid().as_raw().unsigned_abs(), Ordering::Relaxed);
    }

    /// The policies are ready: from now on, it's the host that is waited for.
    pub(crate) fn policies_are_ready(&self) {
        self.is_ready.store(true, Ordering::Relaxed);
    }

    /// Waits for the working thread, and calls `each` at intervals. When the time is up, the request is given up. If the
    /// thread is already changing the host, it gets a little more time to finish instead.
    pub(crate) fn wait_for<T>(
        &self,
        result: &Receiver<T>,
        thread: JoinHandle<()>,
        interval: Duration,
        mut each: impl FnMut(),
    ) -> Result<T, MountFailure> {
        let end = self.deadline + GRACE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match result.recv_timeout(left.min(interval)) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => each(),
                Err(RecvTimeoutError::Timeout) if !self.give_up() => {
                    return result.recv_timeout(GRACE).map_err(|_| self.stuck("; the change may still happen"));
                }
                Err(RecvTimeoutError::Timeout) => return Err(self.stuck("")),
                // The thread panicked, and so does this one.
                Err(RecvTimeoutError::Disconnected) => match thread.join() {
                    Err(panic) => std::panic::resume_unwind(panic),
                    Ok(()) => return Err(self.failed("the request's thread", "it ended without a result".to_owned())),
                },
            }
        }
    }

    /// Whether the host may be changed from here on.
    pub(super) fn commit(&self) -> bool {
        match self.state.compare_exchange(OPEN, COMMITTED, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => true,
            Err(state) => state == COMMITTED,
        }
    }

    /// Whether the host was being changed, or may be.
    pub(crate) fn is_committed(&self) -> bool {
        self.state.load(Ordering::SeqCst) == COMMITTED
    }

    /// Whether the host stays as it was.
    fn give_up(&self) -> bool {
        self.state.compare_exchange(OPEN, GIVEN_UP, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// A request whose thread doesn't come back from the kernel.
    fn stuck(&self, more: &str) -> MountFailure {
        if !self.is_ready.load(Ordering::Relaxed) {
            let reason = format!(
                "they weren't compiled within {:?}: run `mountgate policy compile` when they are installed",
                self.timeout
            );
            return self.failed("the plugins", reason);
        }
        let place = process::waiting_in(self.thread.load(Ordering::Relaxed));
        self.failed("the host's kernel", format!("it hasn't answered within {:?}{place}{more}", self.timeout))
    }

    fn failed(&self, step: &str, reason: String) -> MountFailure {
        MountFailure { step: step.to_owned(), reason, code: "late", errno: None, undone: Vec::new() }
    }
}
