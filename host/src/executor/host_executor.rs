//! Carries plans out in the host's mount namespace, on a thread that entered it.

use std::sync::Arc;
use std::sync::mpsc::channel;

use super::apply::{Applied, Executor};
use super::failure::ApplyError;
use super::namespace;
use super::steps::run;
use super::watch::Watch;
use crate::host::root::HostRoot;
use crate::model::host_error::HostError;
use crate::plan::mount_plan::MountPlan;

/// Works on the host's own mount namespace.
#[derive(Debug)]
pub struct HostExecutor {
    host: Arc<HostRoot>,
    /// The timer of a thread that exists for one request. The thread itself enters the host's namespace.
    attended: Option<Arc<Watch>>,
}

impl HostExecutor {
    /// An executor for this host. A thread of its own does the work, and this process stays in its namespace.
    pub fn new(host: &Arc<HostRoot>) -> Self {
        Self { host: host.clone(), attended: None }
    }

    /// An executor for this host on the calling thread. That thread stays in the host's namespace, and another thread keeps
    /// its time.
    pub(crate) fn on_this_thread(host: &Arc<HostRoot>, watch: &Arc<Watch>) -> Self {
        Self { host: host.clone(), attended: Some(watch.clone()) }
    }
}

impl Executor for HostExecutor {
    fn apply(&self, plan: MountPlan) -> Result<Applied, ApplyError> {
        if let Some(watch) = &self.attended {
            return enter_and_run(&self.host, plan, watch);
        }
        let watch = Arc::new(Watch::new(plan.timeout()));
        watch.policies_are_ready();
        let (host, watched, timeout) = (self.host.clone(), watch.clone(), plan.timeout());
        let (done, result) = channel();
        let thread = std::thread::Builder::new().name("host".to_owned()).spawn(move || {
            watched.begin();
            // After the time is up the receiver is gone.
            let _ = done.send(enter_and_run(&host, plan, &watched));
        });
        let thread =
            thread.map_err(|error| HostError::new("clone", "a thread for the host's mount namespace", error))?;
        match watch.wait_for(&result, timeout, || ()) {
            Ok(Some(result)) => result,
            Err(stuck) => Err(stuck.into()),
            // The thread panicked, and so does this one.
            Ok(None) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("the thread sends its result before it ends"),
            },
        }
    }
}

fn enter_and_run(host: &HostRoot, plan: MountPlan, watch: &Watch) -> Result<Applied, ApplyError> {
    namespace::enter(host)?;
    run(host, plan, watch)
}
