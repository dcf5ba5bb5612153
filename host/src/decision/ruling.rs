//! What the chain came to, and how.

use std::sync::Arc;

use super::trace::TraceEntry;
use crate::model::edit::OwnedEdit;
use crate::model::ends::{OptionPath, ResolvedPath};
use crate::model::failure::Failure;
use crate::model::location::Place;
use crate::model::request::MountRequest;
use crate::model::requester::Requester;
use crate::model::verdict::Denial;
use crate::mount_table::snapshot::Snapshot;
use crate::plan::mount_plan::MountPlan;

/// What the chain came to.
#[derive(Debug)]
pub enum Ruling {
    /// It may be carried out, once.
    Allow(Option<Box<MountPlan>>),
    /// A policy denied it.
    #[expect(missing_docs, reason = "named for what they are")]
    Deny { policy: String, denial: Denial },
    /// A policy failed, and so denied it.
    #[expect(missing_docs, reason = "named for what they are")]
    Fail { policy: String, failure: Failure },
}

/// A decision and how it came about.
#[derive(Debug)]
pub struct Decision {
    /// The request as it was made.
    pub request: MountRequest,
    /// The request as the policies left it.
    pub final_request: MountRequest,
    /// What the host found at the source of that, where it's a path of the host.
    pub source: Option<ResolvedPath>,
    /// What the host found at the target of that.
    pub target: ResolvedPath,
    /// What the host found at the paths in the options of that.
    pub option_paths: Vec<OptionPath>,
    /// Every path of the host at which it will be seen.
    pub places: Vec<Place>,
    /// Who asked.
    pub requester: Requester,
    /// The edits that made `final_request` of `request`.
    pub edits: Vec<OwnedEdit>,
    /// The host's mounts as the policies saw them.
    pub snapshot: Arc<Snapshot>,
    /// Every policy's part, in order.
    pub trace: Vec<TraceEntry>,
    /// The result.
    pub ruling: Ruling,
}

impl Decision {
    /// The plan, where it's allowed. It's there once: what was approved is carried out once.
    pub fn take_plan(&mut self) -> Option<MountPlan> {
        match &mut self.ruling {
            Ruling::Allow(plan) => plan.take().map(|plan| *plan),
            _ => None,
        }
    }

    /// The word for what it came to: `allow`, `deny`, or `fail` where a policy failed.
    pub fn word(&self) -> &'static str {
        match self.ruling {
            Ruling::Allow(_) => "allow",
            Ruling::Deny { .. } => "deny",
            Ruling::Fail { .. } => "fail",
        }
    }

    /// The denial that counts, with the policy that it came from. A failure of a policy is one.
    pub fn denial(&self) -> Option<(&str, Denial)> {
        match &self.ruling {
            Ruling::Allow(_) => None,
            Ruling::Deny { policy, denial } => Some((policy, denial.clone())),
            Ruling::Fail { policy, failure } => {
                let (code, reason) = (failure.kind.code().to_owned(), failure.message.clone());
                Some((policy, Denial { code, reason, field: None, hint: None }))
            }
        }
    }
}
