//! The thread that works on one request. It may enter the host's namespace, while the main thread keeps the time: the
//! plugins' deadlines, and the deadline of the whole request, which holds even where the kernel doesn't answer.
//!
//! The thread starts when everything is prepared, and the main thread sets nothing up meanwhile: two threads that do so wait
//! for each other.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::Builder;

use super::lent;
use crate::error::Error;
use crate::executor::watch::Watch;
use crate::gate::Gate;
use crate::model::host_error::HostError;
use crate::model::rules::HostRules;
use crate::policy::cache::Cache;
use crate::policy::directory::open::PolicyDirectory;
use crate::policy::engine::Engine;
use crate::policy::engine::clock::TICK;

/// The thread's stack: what RUST_MIN_STACK says isn't the caller's to choose.
const STACK: usize = 2 << 20;

/// Makes a gate from a policy directory, calls `work` with it on a new thread, and waits for the result.
///
/// # Errors
/// What `work` and [`Gate::load`] return, and that the time is up.
pub(super) fn run<T: Send + 'static>(
    directory: PolicyDirectory,
    cache: Cache,
    work: impl FnOnce(&Gate, &Arc<Watch>) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let engine = Engine::for_one_request().map_err(Error::Sandbox)?;
    let clock = engine.clock();
    let watch = Watch::new(directory.host.timeout);
    let is_lent = lent::how().is_some();
    let watch = if is_lent { watch.that_holds_all_signals() } else { watch.that_holds_signals() };
    let work = move |watch: &Arc<Watch>| {
        let gate = Gate::load(&engine, directory, &cache)?;
        watch.policies_are_ready();
        let result = work(&gate, watch);
        // The process ends soon, and to take the sandbox apart piece by piece would take time.
        std::mem::forget((gate, engine));
        result
    };
    let tick = || {
        clock.tick();
    };
    wait_for(watch, tick, work)
}

/// Looks at the host on a new thread, and waits for the result for no longer than for a request.
///
/// # Errors
/// What `look` returns, and that the time is up.
pub(super) fn look<T: Send + 'static>(look: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let watch = Watch::new(HostRules::default().timeout);
    watch.policies_are_ready();
    wait_for(watch, || (), move |_| look())
}

/// Calls `work` on a new thread, and waits for the result. Calls `tick` meanwhile.
fn wait_for<T: Send + 'static>(
    watch: Watch,
    tick: impl FnMut(),
    work: impl FnOnce(&Arc<Watch>) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let watch = Arc::new(watch);
    let (done, result) = sync_channel(1);
    let begun = watch.clone();
    // This thread waits, and the other one uses its free memory.
    #[cfg(target_env = "musl")]
    let free = crate::heap::FreeBlocks::take();
    let work = move || {
        #[cfg(target_env = "musl")]
        free.leave();
        begun.begin();
        work(&begun)
    };
    // After the time is up the receiver is gone.
    let thread = Builder::new().name("request".to_owned()).stack_size(STACK).spawn(move || drop(done.send(work())));
    let thread = thread.map_err(|error| HostError::new("clone", "a thread for the request", error))?;
    let result = watch.wait_for(&result, thread, TICK, tick);
    result.unwrap_or_else(|stuck| Err(Error::Late { failure: stuck, may_still_change: watch.is_committed() }))
}
