//! The thread that one request is worked on. The executor may take it into the host's namespace, while the main one keeps
//! the time: the plugins' deadlines, and that of the request as a whole, so that it's over in time even where the kernel
//! doesn't answer.
//!
//! It's started when all is prepared, and the main one sets nothing up meanwhile: two threads that do wait for each other.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::Builder;

use crate::error::{Error, HostError};
use crate::executor::Watch;
use crate::gate::{Gate, no_engine};
use crate::policy::{Cache, Engine, PolicyDirectory, TICK};

/// Makes a gate of a directory and does something with it on a thread of its own, and waits for that.
///
/// # Errors
/// Those of `work` and of [`Gate::new`]; and that time is up.
pub(crate) fn run<T: Send + 'static>(
    directory: PolicyDirectory,
    cache: Cache,
    work: impl FnOnce(&Gate, &Arc<Watch>) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let engine = Engine::unattended().map_err(no_engine)?;
    let clock = engine.clock();
    let watch = Arc::new(Watch::new(directory.host.timeout));
    let (done, result) = sync_channel(1);
    let begun = watch.clone();
    let work = move || {
        begun.begin();
        let gate = Gate::load(&engine, directory, &cache)?;
        let result = work(&gate, &begun);
        // The process ends soon: taking the sandbox apart piece by piece takes time.
        std::mem::forget((gate, engine));
        result
    };
    // Nobody waits any more where the time was up.
    let thread = Builder::new().name("request".to_owned()).spawn(move || drop(done.send(work())));
    let thread = thread.map_err(|error| HostError::new("clone", "a thread for the request", error))?;
    let tick = || {
        clock.tick();
    };
    let result = watch.wait_for(&result, thread, TICK, tick);
    result.unwrap_or_else(|stuck| Err(Error::Late { failure: stuck, is_begun: watch.is_committed() }))
}
