//! Finds the two ends of a request on the host, and holds what was found to the host's own rules.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::answers::{Role, location_of};
use super::case::{Case, Resolution};
use super::places::places;
use super::progress::Progress;
use super::{invariants, standing};
use crate::error::Error;
use crate::host::live_mounts::watched_snapshot;
use crate::host::loop_devices::LoopDevices;
use crate::host::own_state::OwnPlace;
use crate::host::resolve::{ResolveError, is_automount, resolve, resolve_descriptor, resolve_escaped, resolve_missing};
use crate::host::root::HostRoot;
use crate::host::storage::{storage, storage_of_mounted};
use crate::model::ends::{Ends, FileKind, OptionPath, PinnedPath, ResolvedPath};
use crate::model::image::needs_loop_device;
use crate::model::location::{Device, Place};
use crate::model::option_paths::{WrittenPath, judged_paths};
use crate::model::own_options::directory_mode;
use crate::model::paths::{is_source_path, lexical};
use crate::model::refusals::Refusals;
use crate::model::request::{MountRequest, Operation};
use crate::model::rules::HostRules;
use crate::mount_table::snapshot::Snapshot;

/// How a path is resolved that is missing.
type Otherwise<'o> = &'o dyn Fn(&str) -> Result<PinnedPath, ResolveError>;

/// Finds the ends of requests.
#[derive(Debug)]
pub(super) struct EndFinder<'p> {
    pub(super) rules: &'p HostRules,
    /// mountgate's own state, which no mount may hide, change or show.
    pub(super) own_state: &'p [OwnPlace],
}

impl EndFinder<'_> {
    /// Checks a request, and finds its ends and its places.
    pub(super) fn find(&self, case: &Case<'_>, request: &MountRequest) -> Result<(Ends, Vec<Place>), Error> {
        invariants::check_request(self.rules, case.host().map(Arc::as_ref), request)?;
        let snapshot = &case.snapshot;
        self.hold_both(case, request, snapshot)?;
        // Before the target is locked: a source may be on a server that doesn't answer, and others would wait for their target.
        let source = self.source(case, request, snapshot)?;
        let option_paths = self.option_paths(case, request, snapshot)?;
        let ends = Ends { source, target: self.target(case, request, snapshot)?, option_paths };
        hold_storage(case, request, &ends)?;
        let places = self.check(request, &ends, snapshot)?;
        Ok((ends, places))
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
            // The new target has a lock of its own. What was known of the mounts before may be old.
            if let (Some(host), Some(_)) = (case.host(), &case.locks) {
                progress.snapshot = Arc::new(watched_snapshot(host));
            }
            progress.ends.target = self.target(case, request, &progress.snapshot)?;
        }
        if request.source != progress.request.source || request.fstype != progress.request.fstype {
            progress.ends.source = self.source(case, request, &progress.snapshot)?;
        }
        if request.options != progress.request.options || request.fstype != progress.request.fstype {
            progress.ends.option_paths = self.option_paths(case, request, &progress.snapshot)?;
        }
        hold_storage(case, request, &progress.ends)?;
        progress.places = self.check(request, &progress.ends, &progress.snapshot)?;
        Ok(())
    }

    fn check(&self, request: &MountRequest, ends: &Ends, snapshot: &Snapshot) -> Result<Vec<Place>, Error> {
        invariants::check_resolved(self.rules, request, ends)?;
        let places = places(request, ends, snapshot)?;
        if places.is_empty() {
            let message = format!("nothing says where {} is", ends.target.found.path);
            return Err(Refusals::one("TARGET", message, None).into());
        }
        standing::check(self.rules, request, self.own_state, ends, &places, snapshot)?;
        Ok(places)
    }

    fn source(
        &self,
        case: &Case<'_>,
        request: &MountRequest,
        snapshot: &Snapshot,
    ) -> Result<Option<PinnedPath>, Error> {
        let Some(path) = request.source.as_deref() else { return Ok(None) };
        // A helper is slow: those that mount the same wait for each other.
        if let Some(locks) = case.locks.as_ref().filter(|_| self.rules.runs_helper(request)) {
            locks.hold(&format!("source {path}"))?;
        }
        match &case.resolution {
            Resolution::OnHost(host) if request.operation.source_is_path() || is_source_path(path) => {
                // A move takes a mount away from its source: that is a target as well.
                let is_target = request.operation == Operation::Move;
                let is_nodev = |fstype: &str| host.file_systems().is_nodev(fstype);
                match self.resolve(case, host, path, snapshot, (Role::of_source(request), is_target))? {
                    Ok(found) if matches!(request.operation, Operation::Bind { .. }) && is_automount(&found) => {
                        Err(not_mounted_yet("SOURCE", &found))
                    }
                    Ok(mut found) => {
                        if Role::of_source(request) == Role::Place {
                            let gives = request.options.permissions().next().is_some();
                            found.found.storage =
                                storage_of_mounted(host, snapshot, found.found.location.as_ref(), gives)?;
                        }
                        if let (Some(locks), Some(location)) = (&case.locks, &found.found.location)
                            && needs_loop_device(request, &found.found)
                        {
                            locks.hold(&format!("image {location}"))?;
                        }
                        Ok(Some(found))
                    }
                    // A file system without a device may have any word for its source.
                    Err(ResolveError::Missing(_)) if request.fstype.as_deref().is_some_and(is_nodev) => Ok(None),
                    Err(error) => Err(unresolved("SOURCE", &error)),
                }
            }
            Resolution::OnHost(_) => Ok(None),
            Resolution::Recorded { source, .. } => {
                let recorded = source.clone().filter(|_| case.request.source == request.source);
                recorded.map(|found| recorded_end(found, snapshot, Role::of_source(request))).transpose()
            }
        }
    }

    /// The paths of the host that the options name. A helper reads its options itself: those need to be named in `[host] options`.
    fn option_paths(
        &self,
        case: &Case<'_>,
        request: &MountRequest,
        snapshot: &Snapshot,
    ) -> Result<Vec<OptionPath<PinnedPath>>, Error> {
        let is_helped = self.rules.runs_helper(request);
        let has_them = matches!(request.operation, Operation::Mount | Operation::Remount { mount_point_only: false });
        if is_helped || !has_them {
            return Ok(Vec::new());
        }
        let judged = |option| judged_paths(option, &self.rules.options).into_iter().map(move |path| (option, path));
        let mut found = Vec::new();
        for (option, WrittenPath { path, .. }) in request.options.iter().flat_map(judged) {
            let end = match &case.resolution {
                Resolution::OnHost(host) => match self.resolve(case, host, &path, snapshot, (Role::Content, false))? {
                    Ok(end) if is_automount(&end) => return Err(not_mounted_yet(&format!("-o {}", option.name), &end)),
                    Ok(end) => end,
                    Err(error) => return Err(unresolved(&format!("-o {}", option.name), &error)),
                },
                Resolution::Recorded { option_paths, .. } => {
                    // The first of an option is that of its first path, and so on.
                    let before = found.iter().filter(|before: &&OptionPath<_>| before.option == option.name).count();
                    let recorded = option_paths.iter().filter(|recorded| recorded.option == option.name).nth(before);
                    let end = recorded.map_or_else(|| plain_directory(&path), |recorded| recorded.found.clone());
                    recorded_end(end, snapshot, Role::Content)?
                }
            };
            found.push(OptionPath { option: option.name.clone(), found: end });
        }
        Ok(found)
    }

    fn target(&self, case: &Case<'_>, request: &MountRequest, snapshot: &Snapshot) -> Result<PinnedPath, Error> {
        match &case.resolution {
            Resolution::OnHost(host) => {
                let otherwise: Otherwise<'_> = match request.operation {
                    Operation::Unmount(_) => &|path| resolve_escaped(host, path),
                    _ if directory_mode(&request.options).is_ok_and(|mode| mode.is_some()) => {
                        &|path| resolve_missing(host, path, self.rules.symlinks)
                    }
                    _ => &|path| Err(ResolveError::Missing(path.to_owned())),
                };
                let found = self.resolve_or(case, host, &request.target, snapshot, (Role::Place, true), otherwise)?;
                let mut found = found.map_err(|error| unresolved("TARGET", &error))?;
                if matches!(request.operation, Operation::Remount { .. }) {
                    let gives = request.options.permissions().next().is_some();
                    found.found.storage = storage_of_mounted(host, snapshot, found.found.location.as_ref(), gives)?;
                }
                Ok(found)
            }
            Resolution::Recorded { target, .. } => {
                let recorded = target.clone().filter(|_| case.request.target == request.target);
                let found = recorded.unwrap_or_else(|| plain_directory(&request.target));
                recorded_end(found, snapshot, Role::Place)
            }
        }
    }

    /// Takes the locks of both ends of a move, in an order that is the same whichever way it goes: two moves between the same places would
    /// wait for each other.
    fn hold_both(&self, case: &Case<'_>, request: &MountRequest, snapshot: &Snapshot) -> Result<(), Error> {
        let (Resolution::OnHost(host), Some(locks), Some(source), Operation::Move) =
            (&case.resolution, &case.locks, &request.source, request.operation)
        else {
            return Ok(());
        };
        let mut places = Vec::new();
        for path in [source, &request.target] {
            // What can't be resolved is told of later.
            let Ok(found) = resolve(host, path, self.rules.symlinks) else { return Ok(()) };
            if let Some(pin) = &found.pin {
                places.extend(location_of(snapshot, &found, pin.as_fd(), Role::Place)?.map(|place| place.to_string()));
            }
        }
        places.sort();
        places.iter().try_for_each(|place| locks.hold(place).map(drop)).map_err(Error::from)
    }

    /// Resolves a path, and finds out where it lies. A target is resolved under its lock, where the request will be carried
    /// out.
    fn resolve(
        &self,
        case: &Case<'_>,
        host: &HostRoot,
        path: &str,
        snapshot: &Snapshot,
        role: (Role, bool),
    ) -> Result<Result<PinnedPath, ResolveError>, Error> {
        self.resolve_or(case, host, path, snapshot, role, &|path| Err(ResolveError::Missing(path.to_owned())))
    }

    /// As [`Self::resolve`]. A path that is missing is resolved in another way.
    fn resolve_or(
        &self,
        case: &Case<'_>,
        host: &HostRoot,
        path: &str,
        snapshot: &Snapshot,
        (role, is_target): (Role, bool),
        otherwise: Otherwise<'_>,
    ) -> Result<Result<PinnedPath, ResolveError>, Error> {
        loop {
            let links = self.rules.symlinks;
            let held = if is_target { None } else { resolve_descriptor(host, path, links) };
            let found = match held.unwrap_or_else(|| resolve(host, path, links)) {
                Err(ResolveError::Missing(_)) => otherwise(path),
                found => found,
            };
            let mut found = match found {
                Ok(found) => found,
                Err(error) => return Ok(Err(error)),
            };
            if let Some(pin) = &found.pin {
                found.found.location = location_of(snapshot, &found, pin.as_fd(), role)?;
                if role == Role::Content {
                    found.found.storage = storage(host, snapshot, &found.found, pin.as_fd())?;
                }
            }
            let is_device = role == Role::Content && found.found.kind == FileKind::BlockDevice;
            if found.found.location.is_none() && !is_device {
                return Ok(Err(ResolveError::Changed(path.to_owned())));
            }
            let locks = case.locks.as_ref().filter(|_| is_target);
            let place = found.found.location.as_ref().map_or_else(|| found.found.path.clone(), ToString::to_string);
            // The request that held the lock before may have changed the path: resolve it again.
            if !locks.map_or(Ok(false), |locks| locks.hold(&place))? {
                return Ok(Ok(found));
            }
        }
    }
}

/// Holds the locks of all that may be written in the end, whatever it's called: one request decides who writes it. Their order is the same for all.
fn hold_storage(case: &Case<'_>, request: &MountRequest, ends: &Ends) -> Result<(), Error> {
    let (Some(host), Some(locks)) = (case.host(), &case.locks) else { return Ok(()) };
    let file_system = |found: &ResolvedPath| found.location.as_ref().map(|location| location.device);
    let devices: Vec<Device> = match request.operation {
        Operation::Mount => {
            let written = ends.found_source().into_iter().chain(ends.option_paths.iter().map(|path| &path.found.found));
            let disks = written.filter(|found| found.kind == FileKind::BlockDevice);
            disks.flat_map(|found| [found.device, file_system(found)]).flatten().collect()
        }
        Operation::Remount { mount_point_only: false } => file_system(&ends.target.found).into_iter().collect(),
        _ => Vec::new(),
    };
    let loops = LoopDevices::of(host);
    let mut files: Vec<_> = devices.into_iter().flat_map(|device| loops.written_by(device)).collect();
    files.sort();
    files.dedup();
    files.iter().try_for_each(|file| locks.hold(&format!("file system in {file}")).map(drop)).map_err(Error::from)
}

/// What a path is where nothing is known of it.
fn plain_directory(path: &str) -> ResolvedPath {
    ResolvedPath {
        path: lexical(path),
        kind: FileKind::Directory,
        location: None,
        device: None,
        storage: Vec::new(),
        symlinks: Vec::new(),
        covering_mount: None,
    }
}

/// A recorded end lies where the table says.
fn recorded_end(mut found: ResolvedPath, snapshot: &Snapshot, role: Role) -> Result<PinnedPath, Error> {
    if found.location.is_none() {
        found.location = match (role, found.kind, found.device) {
            (Role::Content, FileKind::BlockDevice, Some(device)) => snapshot.file_system_on(device)?,
            // What is on it isn't known, and where its node lies isn't what is asked.
            (Role::Content, FileKind::BlockDevice, None) => None,
            _ => snapshot.locate(&found.path)?,
        };
    }
    Ok(PinnedPath::whole(found, None))
}

fn not_mounted_yet(argument: &str, found: &PinnedPath) -> Error {
    let message = format!("{} is an automount point where nothing is mounted yet", found.found.path);
    let hint = Some("look into it first, e.g. with `ls`, so that it's mounted");
    Refusals::one(argument, message, hint).with_code("not-mounted").into()
}

fn unresolved(argument: &str, error: &ResolveError) -> Error {
    let hint = match error {
        ResolveError::Missing(_) => Some("create it first, or correct the path"),
        ResolveError::SymlinkRefused(_) => Some("give the real path"),
        _ => None,
    };
    let code = match error {
        ResolveError::Missing(_) if argument == "TARGET" => "no-target",
        ResolveError::Missing(_) => "no-source",
        ResolveError::NotADirectory(_) => "not-a-directory",
        _ => "not-resolved",
    };
    Refusals::one(argument, error.to_string(), hint).with_code(code).into()
}
