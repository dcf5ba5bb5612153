//! Each request has a deadline. This thread works on it, and may enter the host's namespace for it. Another one keeps the time: the plugins'
//! deadlines, and the deadline of the whole request, which holds even where the kernel doesn't answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::Builder;

use super::global::Global;
use super::inherited::leave_interrupts_to_others;
use super::lent;
use super::output::report_error;
use crate::error::Error;
use crate::executor::watch::Watch;
use crate::gate::Gate;
use crate::model::host_error::HostError;
use crate::model::rules::HostRules;
use crate::policy::cache::Cache;
use crate::policy::directory::open::PolicyDirectory;
use crate::policy::engine::Engine;
use crate::policy::engine::clock::TICK;

/// The other thread's stack: what RUST_MIN_STACK says isn't the caller's to choose.
const STACK: usize = 1 << 20;

/// What this process does after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Afterwards {
    /// It ends.
    Ends,
    /// It has more requests.
    GoesOn,
}

/// Makes a gate from a policy directory, and calls `work` with it. When the time is up before `work` has ended, `late` is called on another
/// thread, and this call never returns.
///
/// # Errors
/// What `work` and [`Gate::load`] return.
pub(super) fn run<T>(
    directory: PolicyDirectory,
    cache: &Cache,
    afterwards: Afterwards,
    late: impl FnOnce(Error) + Send + 'static,
    work: impl FnOnce(&Gate, &Arc<Watch>) -> Result<T, Error>,
) -> Result<T, Error> {
    let engine = match afterwards {
        Afterwards::Ends => Engine::for_the_last_request(),
        Afterwards::GoesOn => Engine::for_one_request(),
    }
    .map_err(Error::Sandbox)?;
    let clock = engine.clock();
    let watch = Watch::new(directory.host.timeout);
    let is_lent = lent::how().is_some();
    let watch = if is_lent { watch.that_holds_all_signals() } else { watch.that_holds_signals() };
    let tick = move || {
        clock.tick();
    };
    in_time(watch, tick, afterwards, late, |watch| {
        let gate = Gate::load(&engine, directory, cache)?;
        watch.policies_are_ready();
        let result = work(&gate, watch);
        if afterwards == Afterwards::Ends {
            // To take the sandbox apart piece by piece would take time.
            std::mem::forget((gate, engine));
        }
        result
    })
}

/// Looks at the host, for no longer than a request takes. `late` is called as [`run`] calls it.
///
/// # Errors
/// What `look` returns.
pub(super) fn look<T>(
    late: impl FnOnce(Error) + Send + 'static,
    look: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let watch = Watch::new(HostRules::default().timeout);
    watch.policies_are_ready();
    in_time(watch, || (), Afterwards::Ends, late, |_| look())
}

/// Tells that the time is up as every error is told, and ends the process.
pub(super) fn report_late(global: &Global) -> impl FnOnce(Error) + Send + use<> {
    let as_json = global.json;
    move |error| std::process::exit(report_error(&error.into(), as_json) as i32)
}

/// A thread without which nothing would end a request: the process doesn't go on without it.
struct Needed;

impl Drop for Needed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Calls `work`, and `tick` at intervals on another thread.
fn in_time<T>(
    watch: Watch,
    tick: impl FnMut() + Send + 'static,
    afterwards: Afterwards,
    late: impl FnOnce(Error) + Send + 'static,
    work: impl FnOnce(&Arc<Watch>) -> Result<T, Error>,
) -> Result<T, Error> {
    let watch = Arc::new(watch);
    watch.begin();
    // Whoever sets it says how the request ended.
    let has_ended = Arc::new(AtomicBool::new(false));
    // Nothing is ever sent: it ends with the work, also where that panics.
    let (working, is_over) = sync_channel::<Infallible>(0);
    let (kept, ended) = (watch.clone(), has_ended.clone());
    let keep_time = move || {
        let _needed = Needed;
        if let Err(stuck) = kept.wait_for(&is_over, TICK, tick)
            && !ended.swap(true, Ordering::SeqCst)
        {
            late(Error::Late { failure: stuck, may_still_change: kept.is_committed() });
        }
    };
    let thread = Builder::new().name("time".to_owned()).stack_size(STACK).spawn(keep_time);
    thread.map_err(|error| HostError::new("clone", "a thread that keeps the time", error))?;
    let result = leave_interrupts_to_others(|| work(&watch));
    if has_ended.swap(true, Ordering::SeqCst) {
        // The other thread says how the request ended.
        loop {
            std::thread::park();
        }
    }
    match afterwards {
        // To wake the other thread up, so that it ends, would take time. It has nothing to do any more.
        Afterwards::Ends => std::mem::forget(working),
        Afterwards::GoesOn => drop(working),
    }
    result
}
