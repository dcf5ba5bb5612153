//! The clock behind deadlines.
//!
//! A deadline is CPU time of the thread that evaluates, so that no verdict depends on how busy the machine is. The clock
//! says when to look: each tick ends an epoch of wasmtime's, and an evaluation that is running then compares its CPU time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{EngineWeak, UpdateDeadline};

/// The time between two calls of [`Clock::tick`].
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Ends the epochs of an engine for as long as something uses that.
pub(crate) struct Clock(EngineWeak);

impl Clock {
    pub(super) fn of(engine: &wasmtime::Engine) -> Self {
        Self(engine.weak())
    }

    /// Ends the epoch. False means that nothing uses the engine any more.
    pub(crate) fn tick(&self) -> bool {
        let engine = self.0.upgrade();
        if let Some(engine) = &engine {
            engine.increment_epoch();
        }
        engine.is_some()
    }

    /// Ticks on a thread of its own until nothing uses the engine any more.
    pub(super) fn start(self) -> std::io::Result<()> {
        let thread = std::thread::Builder::new().name("deadlines".to_owned()).stack_size(64 << 10);
        thread.spawn(move || {
            while self.tick() {
                std::thread::sleep(TICK);
            }
        })?;
        Ok(())
    }
}

/// What an evaluation does when an epoch ends: it goes on until it has used its CPU time. The first epoch that ends starts
/// the count, since most evaluations are over by then and need not ask the kernel for the time.
pub(super) fn deadline_check(limit: Duration) -> impl FnMut() -> UpdateDeadline + Send + Sync + 'static {
    let mut start = None;
    move || {
        let now = cpu_time();
        match now.saturating_sub(*start.get_or_insert(now)) < limit {
            true => UpdateDeadline::Continue(1),
            false => UpdateDeadline::Interrupt,
        }
    }
}

/// CPU time that the calling thread has used, see clock_gettime(2).
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_deadline_counts_cpu_time_and_not_waiting() {
        let limit = Duration::from_millis(30);
        let mut check = deadline_check(limit);
        assert!(matches!(check(), UpdateDeadline::Continue(_)));
        std::thread::sleep(limit * 3);
        assert!(matches!(check(), UpdateDeadline::Continue(_)), "waiting was counted");
        let start = cpu_time();
        while cpu_time() - start < limit {
            std::hint::black_box(Instant::now());
        }
        assert!(matches!(check(), UpdateDeadline::Interrupt), "work wasn't counted");
    }
}
