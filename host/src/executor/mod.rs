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

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::audit::Secrets;
use crate::error::HostError;
use crate::host_root::{HostRoot, Namespace};
use crate::identity::Identity;
use crate::plan::{MountPlan, Step};
use undo::Undo;

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
}

/// How long a kernel that doesn't answer is waited for after the deadline. A program is killed at the deadline itself,
/// and has half of this to be gone.
const GRACE: Duration = Duration::from_millis(1500);

impl HostExecutor {
    /// For this host.
    pub fn new(host: &Arc<HostRoot>) -> Self {
        Self { host: host.clone() }
    }
}

impl Executor for HostExecutor {
    /// The work is done on a thread of its own, which enters the host's namespace and ends with the request: this process
    /// stays where it is, and goes on even if the kernel never answers that thread.
    fn apply(&self, plan: MountPlan) -> Result<Applied, ApplyError> {
        if let Namespace::Closed(error) = self.host.namespace() {
            return Err(error.again().into());
        }
        let timeout = plan.timeout();
        let watch = Arc::new(Watch::new(Instant::now() + timeout));
        let (done, result) = channel();
        let (host, watched) = (self.host.clone(), watch.clone());
        std::thread::Builder::new()
            .name("host".to_owned())
            .spawn(move || {
                watched.thread.store(nix::unistd::gettid().as_raw().unsigned_abs(), Ordering::Relaxed);
                let _ =
                    done.send(namespace::enter(&host).map_err(Into::into).and_then(|()| run(&host, plan, &watched)));
            })
            .map_err(|error| HostError::new("clone", "a thread for the host's mount namespace", error))?;
        match result.recv_timeout(timeout + GRACE) {
            Ok(result) => result,
            // What has begun to be shown is seen through; what hasn't won't be.
            Err(RecvTimeoutError::Timeout) if !watch.give_up() => {
                result.recv_timeout(GRACE).unwrap_or_else(|_| Err(watch.stuck(timeout).into()))
            }
            Err(RecvTimeoutError::Timeout) => Err(watch.stuck(timeout).into()),
            Err(RecvTimeoutError::Disconnected) => {
                let error = std::io::Error::other("the thread in the host's mount namespace ended early");
                Err(HostError::new("join", "the host's thread", error).into())
            }
        }
    }
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

/// What the two threads of a request know of each other.
#[derive(Debug)]
struct Watch {
    deadline: Instant,
    /// One of the three below.
    state: AtomicU8,
    thread: AtomicU32,
}

/// The host is as it was, and the request can be given up without a trace.
const OPEN: u8 = 0;
/// The host is being changed.
const COMMITTED: u8 = 1;
/// The host must not be changed any more.
const GIVEN_UP: u8 = 2;

impl Watch {
    fn new(deadline: Instant) -> Self {
        Self { deadline, state: AtomicU8::new(OPEN), thread: AtomicU32::new(0) }
    }

    /// Whether the host may be changed from here on.
    fn commit(&self) -> bool {
        match self.state.compare_exchange(OPEN, COMMITTED, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => true,
            Err(state) => state == COMMITTED,
        }
    }

    /// Whether the host stays as it was.
    fn give_up(&self) -> bool {
        self.state.compare_exchange(OPEN, GIVEN_UP, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// A request whose thread doesn't come back from the kernel.
    fn stuck(&self, timeout: Duration) -> MountFailure {
        let thread = self.thread.load(Ordering::Relaxed);
        MountFailure {
            step: "the host's kernel".to_owned(),
            reason: format!("it hasn't answered within {timeout:?}{}", process::waiting_in(thread)),
            undone: Vec::new(),
        }
    }
}
