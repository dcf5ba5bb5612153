//! The time of a request, and what the thread that works on it and the one that keeps its time know of each other.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::failure::{MountFailure, Stop};
use super::process;
use crate::sys::note_interrupts;

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
    /// How many changes of the host were made or taken back.
    changes: AtomicU32,
    /// Whether signals wait while the host is being changed, and whether one came.
    holds_signals: bool,
    /// Whether a second one doesn't end the process either.
    holds_all: bool,
    is_interrupted: OnceLock<&'static AtomicBool>,
    /// A mount that is being put somewhere right now.
    attaching: Mutex<Option<Attaching>>,
}

/// A mount that is being put somewhere: the kernel waits for as long as somebody else holds the directory.
struct Attaching {
    since: Instant,
    /// Gives the lock of the host back, unless that was done.
    give_back: Option<Box<dyn FnOnce() + Send>>,
}

impl fmt::Debug for Attaching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attaching").field("since", &self.since).finish_non_exhaustive()
    }
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

/// How long a mount that is being put somewhere may keep the lock of the host. It takes microseconds where nobody holds the directory.
const MAX_HELD: Duration = Duration::from_millis(50);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(10);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// The time of a request that starts now.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            deadline: Instant::now() + timeout,
            state: AtomicU8::new(OPEN),
            thread: AtomicU32::new(0),
            is_ready: AtomicBool::new(false),
            changes: AtomicU32::new(0),
            holds_signals: false,
            holds_all: false,
            is_interrupted: OnceLock::new(),
            attaching: Mutex::default(),
        }
    }

    /// The same, for a process that exists for this request: while the host is being changed, the first signal that asks it to end doesn't
    /// end it. What was done is taken back.
    pub(crate) fn that_holds_signals(self) -> Self {
        Self { holds_signals: true, ..self }
    }

    /// The same, where whoever sends the signals must not end the process before it has written down what it did: a second signal doesn't
    /// end it either.
    pub(crate) fn that_holds_all_signals(self) -> Self {
        Self { holds_all: true, ..self.that_holds_signals() }
    }

    /// Why the request has to end now, if it has to.
    pub(super) fn must_end(&self) -> Option<Stop> {
        if self.is_interrupted.get().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            Some(Stop::Signal)
        } else {
            (Instant::now() >= self.deadline).then_some(Stop::Late(self.timeout))
        }
    }

    /// The host was changed, or a change was taken back: the kernel answers.
    pub(super) fn has_changed_something(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
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
    /// thread is already changing the host, it gets a little more time to finish instead. Nothing is returned where the thread ends
    /// without a result.
    pub(crate) fn wait_for<T>(
        &self,
        result: &Receiver<T>,
        interval: Duration,
        mut each: impl FnMut(),
    ) -> Result<Option<T>, MountFailure> {
        let end = self.deadline + GRACE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let received = result.recv_timeout(left.min(interval).min(LOOK));
            self.give_back_what_is_held_too_long();
            match received {
                Ok(result) => return Ok(Some(result)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => each(),
                Err(RecvTimeoutError::Timeout) if !self.give_up() => return self.wait_while_it_changes(result),
                Err(RecvTimeoutError::Timeout) => return Err(self.stuck("")),
            }
        }
    }

    /// Waits for a thread that takes back what it has done, as long as that goes on. A mount that is being put somewhere is waited for without
    /// end: it would appear when nobody is there any more to look where, and to write that down.
    fn wait_while_it_changes<T>(&self, result: &Receiver<T>) -> Result<Option<T>, MountFailure> {
        let mut is_told = false;
        let (mut changes, mut since) = (self.changes.load(Ordering::Relaxed), Instant::now());
        loop {
            let received = result.recv_timeout(LOOK);
            self.give_back_what_is_held_too_long();
            match received {
                Ok(result) => return Ok(Some(result)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = self.changes.load(Ordering::Relaxed);
            if std::mem::replace(&mut changes, now) != now {
                since = Instant::now();
            }
            if since.elapsed() < GRACE {
                continue;
            }
            if lock(&self.attaching).is_none() {
                return Err(self.stuck("; the change may still happen"));
            } else if !std::mem::replace(&mut is_told, true) {
                let place = process::waiting_in(self.thread.load(Ordering::Relaxed));
                tracing::error!(
                    "the kernel still waits for the target{place}: mountgate stays until it can take the mount away again"
                );
            }
        }
    }

    /// Puts a mount somewhere, with the lock of the host held. Says whether it's still held: others don't wait for it for long.
    pub(super) fn attach<T>(&self, give_back: impl FnOnce() + Send + 'static, attach: impl FnOnce() -> T) -> (T, bool) {
        *lock(&self.attaching) = Some(Attaching { since: Instant::now(), give_back: Some(Box::new(give_back)) });
        let result = attach();
        let ended = lock(&self.attaching).take();
        (result, ended.is_some_and(|ended| ended.give_back.is_some()))
    }

    fn give_back_what_is_held_too_long(&self) {
        let mut attaching = lock(&self.attaching);
        let held = attaching.as_mut().filter(|attaching| attaching.since.elapsed() > MAX_HELD);
        if let Some(give_back) = held.and_then(|attaching| attaching.give_back.take()) {
            give_back();
        }
    }

    /// Says that the host is changed from here on, or why it may not be.
    pub(super) fn commit(&self) -> Result<(), Stop> {
        match self.state.compare_exchange(OPEN, COMMITTED, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => {
                if self.holds_signals {
                    // Where no handler can be set, a signal ends the process as before.
                    let _ = note_interrupts(self.holds_all).map(|flag| self.is_interrupted.set(flag));
                }
                Ok(())
            }
            Err(COMMITTED) => self.must_end().map_or(Ok(()), Err),
            Err(_) => Err(Stop::Late(self.timeout)),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_mount_that_waits_for_its_place_gives_the_lock_of_the_host_back() {
        let watch = Arc::new(Watch::new(Duration::from_secs(600)));
        let ((give, given), (done, result)) = (channel(), channel());
        let working = watch.clone();
        std::thread::spawn(move || {
            working.begin();
            // The kernel waits until others could go on.
            let attach = || given.recv_timeout(Duration::from_secs(300)).is_ok();
            let give_back = move || give.send(()).unwrap_or_default();
            let _ = done.send(working.attach(give_back, attach));
        });
        let attached = watch.wait_for(&result, Duration::from_secs(600), || ());
        assert_eq!(attached.ok().flatten(), Some((true, false)));
    }
}
