//! A request that every policy agreed to.

use super::answers::Answers;
use crate::host::root::HostRoot;
use crate::model::ends::{Ends, OptionPath, PinnedPath};
use crate::model::request::MountRequest;

/// A request that every policy agreed to. Only this folder can make one, and a plan is made of nothing else.
pub(crate) struct Approved<'h> {
    request: MountRequest,
    ends: Ends,
    host: Option<&'h HostRoot>,
    answers: Option<Answers>,
}

impl<'h> Approved<'h> {
    /// Nothing but [`super::chain::Chain::decide`] may call this, after the last validating policy agreed.
    pub(super) fn new(request: MountRequest, ends: Ends, host: Option<&'h HostRoot>, answers: Option<Answers>) -> Self {
        Self { request, ends, host, answers }
    }

    pub(crate) fn request(&self) -> &MountRequest {
        &self.request
    }

    pub(crate) fn source(&self) -> Option<&PinnedPath> {
        self.ends.source.as_ref()
    }

    pub(crate) fn target(&self) -> &PinnedPath {
        &self.ends.target
    }

    pub(crate) fn option_paths(&self) -> &[OptionPath<PinnedPath>] {
        &self.ends.option_paths
    }

    /// The host that it will be carried out on. A replayed decision has none.
    pub(crate) fn host(&self) -> Option<&HostRoot> {
        self.host
    }

    pub(crate) fn into_parts(self) -> (MountRequest, Ends, Option<Answers>) {
        (self.request, self.ends, self.answers)
    }
}
