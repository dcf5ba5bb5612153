//! What an executor is: it carries out plans.

use super::failure::ApplyError;
use crate::plan::mount_plan::MountPlan;

/// What carries out a plan.
pub trait Executor {
    /// Carries it out, or leaves the host as it was.
    ///
    /// # Errors
    /// Why the plan failed, and how its earlier steps were undone.
    fn apply(&self, plan: MountPlan) -> Result<Applied, ApplyError>;
}

/// What was done.
#[derive(Debug, Default)]
pub struct Applied {
    /// The new mount's 64-bit id, which the kernel never uses again; none where no mount was made, or before Linux
    /// 6.8.
    pub mount_id: Option<u64>,
    /// Notes for the person who reads the output, e.g. what the host's programs printed.
    pub notes: Vec<String>,
}
