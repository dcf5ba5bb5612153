//! Carries out plans on the host. Only here are namespaces entered, file systems mounted and programs started.

mod helper;
mod kernel;
mod leftovers;
mod namespace;
mod process;
pub mod sandbox;
mod scope;
mod undo;
mod verify;
mod watch;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::channel;

use crate::audit::Secrets;
use crate::error::HostError;
use crate::host_root::HostRoot;
use crate::identity::Identity;
use crate::plan::{MountPlan, Step};
use undo::Undo;
pub use watch::Watch;

/// What carries out a plan.
pub trait Executor {
    /// Carries it out, or leaves the host as it was.
    ///
    /// # Errors
    /// Why it couldn't be, and what was left undone.
    fn apply(&self, plan: MountPlan) -> Result<Applied, ApplyError>;
}

/// What was done.
#[derive(Debug, Default)]
pub struct Applied {
    /// The new mount's 64-bit id, which the kernel never uses again; none where no mount was made, or before Linux
    /// 6.8.
    pub mount_id: Option<u64>,
    /// What somebody who reads the output should know: e.g. what the host's programs said.
    pub notes: Vec<String>,
}

/// Why a plan wasn't carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The host couldn't be reached; nothing was run.
    #[error("the host's mount namespace can't be entered")]
    Host(#[from] HostError),
    /// The mount itself failed.
    #[error(transparent)]
    Mount(#[from] MountFailure),
}

/// A step that failed, and what became of those before it.
#[derive(Debug, thiserror::Error)]
#[error("`{step}` failed: {reason}")]
pub struct MountFailure {
    /// The call or the command as it was run, secrets masked.
    pub step: String,
    /// What the host said, secrets masked.
    pub reason: String,
    /// What was done to take earlier steps back, one line each.
    pub undone: Vec<String>,
}

/// A call that failed, and why.
#[derive(Debug)]
struct StepError {
    call: String,
    reason: String,
}

impl StepError {
    fn new(call: String, reason: impl ToString) -> Self {
        Self { call, reason: reason.to_string() }
    }
}

/// Works on the host's own mount namespace.
#[derive(Debug)]
pub struct HostExecutor {
    host: Arc<HostRoot>,
    /// For a thread that is there for one request: it's taken along into the host's namespace.
    here: Option<Arc<Watch>>,
}

impl HostExecutor {
    /// For this host. The work is done on a thread of its own, and this process stays where it is.
    pub fn new(host: &Arc<HostRoot>) -> Self {
        Self { host: host.clone(), here: None }
    }

    /// The same on the calling thread, which ends up in the host's namespace for good, and which somebody attends.
    pub(crate) fn here(host: &Arc<HostRoot>, watch: &Arc<Watch>) -> Self {
        Self { host: host.clone(), here: Some(watch.clone()) }
    }
}

impl Executor for HostExecutor {
    fn apply(&self, plan: MountPlan) -> Result<Applied, ApplyError> {
        if let Some(watch) = &self.here {
            return enter_and_run(&self.host, plan, watch);
        }
        let watch = Arc::new(Watch::new(plan.timeout()));
        let (host, watched, timeout) = (self.host.clone(), watch.clone(), plan.timeout());
        let (done, result) = channel();
        let thread = std::thread::Builder::new().name("host".to_owned()).spawn(move || {
            watched.begin();
            // Nobody waits any more where the time was up.
            let _ = done.send(enter_and_run(&host, plan, &watched));
        });
        let thread =
            thread.map_err(|error| HostError::new("clone", "a thread for the host's mount namespace", error))?;
        watch.wait_for(&result, thread, timeout, || ()).unwrap_or_else(|stuck| Err(stuck.into()))
    }
}

fn enter_and_run(host: &HostRoot, plan: MountPlan, watch: &Watch) -> Result<Applied, ApplyError> {
    namespace::enter(host)?;
    run(host, plan, watch)
}

/// Carries out the steps in order, and takes them back where one fails.
fn run(host: &HostRoot, mut plan: MountPlan, watch: &Watch) -> Result<Applied, ApplyError> {
    let (source, mut target) = plan.take_pins();
    let mut approved = None;
    if let [Step::Unmount(_)] = plan.steps() {
        // A descriptor would keep the mount busy; its id is never used again.
        let identity = target.take().map(|target| Identity::of(target.as_fd())).transpose();
        approved = identity.map_err(|error| HostError::new("statx", plan.target(), error))?;
    }
    let site = Site { host, plan: &plan, source, target, approved, watch };
    let secrets = Secrets::of(&[&plan.request().options]);
    let mut undos: Vec<Undo> = Vec::new();
    let mut applied = Applied::default();
    match site.steps(&mut undos, &mut applied) {
        Ok(()) => Ok(applied),
        Err(StepError { call, reason }) => {
            let undone = undos.into_iter().rev().map(|undo| secrets.mask(&undo.take_back(&site))).collect();
            Err(MountFailure { step: secrets.mask(&call), reason: secrets.mask(&reason), undone }.into())
        }
    }
}

/// Where a plan is carried out: what was approved, held by its descriptors.
struct Site<'p> {
    host: &'p HostRoot,
    plan: &'p MountPlan,
    source: Option<OwnedFd>,
    target: Option<OwnedFd>,
    /// What is to be unmounted.
    approved: Option<Identity>,
    watch: &'p Watch,
}

impl Site<'_> {
    fn steps(&self, undos: &mut Vec<Undo>, applied: &mut Applied) -> Result<(), StepError> {
        for step in self.plan.steps() {
            match step {
                Step::Mount { fstype, source, parameters, attributes } => {
                    let mount = self.mount(fstype, source, parameters, *attributes)?;
                    applied.mount_id = self.verify_mount(fstype, source, *attributes, undos, mount)?;
                }
                Step::Bind { recursive, attributes, .. } => {
                    let mount = self.bind(*recursive, *attributes)?;
                    applied.mount_id = self.verify_bind(*recursive, *attributes, undos, mount)?;
                }
                Step::SetAttributes(attributes) => self.set_attributes(*attributes, undos)?,
                Step::Reconfigure { parameters } => self.reconfigure(parameters, undos)?,
                Step::Move { .. } => self.move_mount(undos)?,
                Step::SetPropagation(propagation) => self.set_propagation(*propagation, undos)?,
                Step::Unmount(mode) => self.unmount(*mode, undos)?,
                Step::Helper(mount) => self.helper(mount, undos, applied)?,
            }
        }
        Ok(())
    }

    /// The last moment at which a request whose time is up can be given up without a trace.
    fn commit(&self, call: impl FnOnce() -> String) -> Result<(), StepError> {
        match self.watch.commit() {
            true => Ok(()),
            false => Err(StepError::new(call(), "the time for the request is up")),
        }
    }
}
