//! Carries out plans on the host. Only here are namespaces entered, file systems mounted and programs started.

mod mount_program;
mod namespace;
mod process;
pub mod sandbox;
mod verify;

use crate::error::HostError;
use crate::mount_table::MountTable;
use crate::plan::MountPlan;

pub use mount_program::MountProgram;

/// What carries out a plan.
pub trait Executor {
    /// Carries it out, or leaves the host as it was.
    ///
    /// # Errors
    /// Why it couldn't be, and what was left undone.
    fn apply(&self, plan: &MountPlan) -> Result<Applied, ApplyError>;
}

/// What was done.
#[derive(Debug)]
pub struct Applied {
    /// The new mount's 64-bit id, which the kernel never uses again; none where no mount was made, or before Linux
    /// 6.8.
    pub mount_id: Option<u64>,
    /// The host's mounts afterwards.
    pub table: MountTable,
    /// What the host's programs said, if anything.
    pub output: String,
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
    /// The step as it was run, secrets masked.
    pub step: String,
    /// What the host said, secrets masked.
    pub reason: String,
    /// What was done to take earlier steps back, one line each.
    pub undone: Vec<String>,
}
