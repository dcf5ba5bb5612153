//! Finds the two ends of a request on the host, and holds what was found to the host's own rules.

use std::path::PathBuf;
use std::sync::Arc;

use super::case::{Case, Resolution};
use super::invariants;
use super::progress::Progress;
use crate::error::Error;
use crate::host::resolve::{ResolveError, resolve};
use crate::host::root::HostRoot;
use crate::model::ends::{Ends, FileKind, PinnedPath, ResolvedPath};
use crate::model::paths::{is_source_path, lexical};
use crate::model::refusals::Refusals;
use crate::model::request::{MountRequest, Operation};
use crate::model::rules::HostRules;

/// Finds the ends of requests.
#[derive(Debug)]
pub(super) struct EndFinder<'p> {
    pub(super) rules: &'p HostRules,
    /// Paths of mountgate's own state, which no mount may hide or change.
    pub(super) own_state: &'p [PathBuf],
}

impl EndFinder<'_> {
    /// Checks a request and finds its ends.
    pub(super) fn find(&self, case: &Case<'_>, request: &MountRequest) -> Result<Ends, Error> {
        invariants::check_request(self.rules, case.host().map(Arc::as_ref), request)?;
        let ends = Ends { target: self.target(case, request)?, source: self.source(case, request)? };
        self.check(case, request, &ends)?;
        Ok(ends)
    }

    /// Checks a request that policies changed. Only an end with a new name is resolved again.
    pub(super) fn find_changed(
        &self,
        case: &Case<'_>,
        request: &MountRequest,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        invariants::check_request(self.rules, case.host().map(Arc::as_ref), request)?;
        if request.target != progress.request.target {
            progress.ends.target = self.target(case, request)?;
            // The new target has a lock of its own. What was known of the mounts before may be old.
            if let (Some(host), Some(_)) = (case.host(), case.locks) {
                progress.snapshot = Arc::new(host.snapshot());
            }
        }
        if request.source != progress.request.source || request.fstype != progress.request.fstype {
            progress.ends.source = self.source(case, request)?;
        }
        self.check(case, request, &progress.ends)
    }

    fn check(&self, case: &Case<'_>, request: &MountRequest, ends: &Ends) -> Result<(), Error> {
        invariants::check_resolved(self.rules, request, ends)?;
        if case.host().is_some_and(|host| host.is_own_namespace()) {
            let real = |path: &PathBuf| path.canonicalize().ok().and_then(|path| path.to_str().map(str::to_owned));
            let state: Vec<String> = self.own_state.iter().filter_map(real).collect();
            invariants::check_own_state(self.rules, request, &state, ends)?;
        }
        Ok(())
    }

    fn source(&self, case: &Case<'_>, request: &MountRequest) -> Result<Option<PinnedPath>, Error> {
        let Some(path) = request.source.as_deref() else { return Ok(None) };
        match &case.resolution {
            Resolution::OnHost(host) if request.operation.source_is_path() || is_source_path(path) => {
                // A move takes a mount away from its source: that is a target as well.
                let is_target = request.operation == Operation::Move;
                let is_nodev = |fstype: &str| host.file_systems().is_nodev(fstype);
                match self.resolve(case, host, path, is_target)? {
                    Ok(found) => Ok(Some(found)),
                    // A file system without a device may have any word for its source.
                    Err(ResolveError::Missing(_)) if request.fstype.as_deref().is_some_and(is_nodev) => Ok(None),
                    Err(error) => Err(unresolved("SOURCE", &error)),
                }
            }
            Resolution::OnHost(_) => Ok(None),
            Resolution::Recorded { source, .. } => {
                let recorded = source.clone().filter(|_| case.request.source == request.source);
                Ok(recorded.map(|found| PinnedPath { found, pin: None }))
            }
        }
    }

    fn target(&self, case: &Case<'_>, request: &MountRequest) -> Result<PinnedPath, Error> {
        match &case.resolution {
            Resolution::OnHost(host) => {
                self.resolve(case, host, &request.target, true)?.map_err(|error| unresolved("TARGET", &error))
            }
            Resolution::Recorded { target, .. } => {
                let recorded = target.clone().filter(|_| case.request.target == request.target);
                let found = recorded.unwrap_or_else(|| ResolvedPath {
                    path: lexical(&request.target),
                    kind: FileKind::Directory,
                    device: None,
                    symlinks: Vec::new(),
                    covering_mount: None,
                });
                Ok(PinnedPath { found, pin: None })
            }
        }
    }

    /// Resolves a path. A target is resolved under its lock, where the request will be carried out.
    fn resolve(
        &self,
        case: &Case<'_>,
        host: &HostRoot,
        path: &str,
        is_target: bool,
    ) -> Result<Result<PinnedPath, ResolveError>, Error> {
        loop {
            let found = match resolve(host, path, self.rules.symlinks) {
                Ok(found) => found,
                Err(error) => return Ok(Err(error)),
            };
            let locks = case.locks.filter(|_| is_target);
            // The request that held the lock before may have changed the path: resolve it again.
            if !locks.map_or(Ok(false), |locks| locks.hold(&found.found.path))? {
                return Ok(Ok(found));
            }
        }
    }
}

fn unresolved(argument: &str, error: &ResolveError) -> Error {
    let hint = match error {
        ResolveError::Missing(_) => Some("create it first, or correct the path"),
        ResolveError::SymlinkRefused(_) => Some("give the real path"),
        _ => None,
    };
    Refusals::one(argument, error.to_string(), hint).into()
}
