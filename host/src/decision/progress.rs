//! A request on its way through the chain.

use std::sync::Arc;

use super::case::Case;
use super::trace::TraceEntry;
use crate::model::edit::OwnedEdit;
use crate::model::ends::Ends;
use crate::model::location::Place;
use crate::model::request::MountRequest;
use crate::mount_table::snapshot::Snapshot;
use crate::policy::engine::contract_v0_1::{Review, ReviewParts};

/// A request as the policies so far have left it.
pub(super) struct Progress {
    pub(super) request: MountRequest,
    pub(super) ends: Ends,
    pub(super) places: Vec<Place>,
    pub(super) edits: Vec<OwnedEdit>,
    pub(super) trace: Vec<TraceEntry>,
    pub(super) snapshot: Arc<Snapshot>,
}

impl Progress {
    /// What the next policy is given to judge.
    pub(super) fn review(&self, case: &Case<'_>) -> Review {
        Review::new(ReviewParts {
            request: &self.request,
            original: &case.request,
            edits: &self.edits,
            source: self.ends.found_source(),
            target: &self.ends.target.found,
            option_paths: &self.ends.found_in_options(),
            requester: &case.requester,
            places: &self.places,
        })
    }
}
