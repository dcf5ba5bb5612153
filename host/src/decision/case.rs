//! A request with all that its decision depends on.

use std::sync::Arc;

use crate::host::locks::Locks;
use crate::host::root::HostRoot;
use crate::model::ends::{OptionPath, ResolvedPath};
use crate::model::request::MountRequest;
use crate::model::requester::Requester;
use crate::mount_table::snapshot::Snapshot;

/// A request with all that a decision depends on.
#[derive(Debug)]
pub struct Case<'h> {
    /// The request.
    pub request: MountRequest,
    /// Who asks.
    pub requester: Requester,
    /// Where the paths of the request are resolved.
    pub resolution: Resolution<'h>,
    /// The host's mounts.
    pub snapshot: Arc<Snapshot>,
    /// The locks, for a request that will be carried out.
    pub locks: Option<Arc<Locks>>,
}

impl<'h> Case<'h> {
    pub(super) fn host(&self) -> Option<&'h Arc<HostRoot>> {
        match self.resolution {
            Resolution::OnHost(host) => Some(host),
            Resolution::Recorded { .. } => None,
        }
    }
}

/// Where the paths of a request are resolved.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each request")]
pub enum Resolution<'h> {
    /// On the host.
    OnHost(&'h Arc<HostRoot>),
    /// Nowhere: a request file says what they were, so that a decision can be replayed on any machine.
    Recorded {
        /// What the source was.
        source: Option<ResolvedPath>,
        /// What the target was.
        target: Option<ResolvedPath>,
        /// What the paths in the options were; directories, where they aren't among these.
        option_paths: Vec<OptionPath>,
    },
}
