//! What takes a step back.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, UnmountFlags, open_tree, unmount};

use super::carried::Before;
use super::execution::Execution;
use super::failure::StepError;
use super::lookup::{self, Below};
use super::mount_api::{propagate, propagation_of, reconfigure};
use crate::decision::answers::Unconfirmed;
use crate::host::identity::Identity;
use crate::host::locks::HostLock;
use crate::host::place::Place;
use crate::model::options::MountOption;
use crate::model::request::{Propagation, PropagationType};
use crate::mount_table::escape::path_to_text;
use crate::plan::attributes::Attributes;
use crate::plan::call::{call, parameter};
use crate::sys::mount_setattr;

/// The way back from a step that was done.
#[derive(Debug)]
pub(super) enum Undo {
    /// The mount that this descriptor stands for is taken away.
    Detach(OwnedFd),
    /// The mounts on the target with these ids in mountinfo are taken away, from the top.
    DetachBelow(Vec<u64>),
    /// A copy of what was unmounted is put where that was, with the propagation that it had.
    /// `mount` is `None` if the mount couldn't be copied.
    Attach { mount: Option<(OwnedFd, PropagationType)>, path: Vec<u8> },
    /// The directory that was made is removed.
    RemoveDirectory { folder: OwnedFd, name: String },
    /// The bits of the mount point are set back.
    SetAttributes(Attributes),
    /// The file system's options are set back as far as it showed them.
    Reconfigure { parameters: Vec<MountOption>, before: Vec<String> },
    /// The source is moved back.
    MoveBack(Place),
    /// The optional fields of mountinfo say how it was.
    SetPropagation { recursive: bool, before: Vec<String> },
}

impl Undo {
    /// Takes the step back, and says how it went.
    pub(super) fn take_back(self, execution: &Execution<'_>) -> Result<String, String> {
        let result = self.try_back(execution);
        execution.watch.has_changed_something();
        match result {
            Ok(line) => Ok(format!("undone: {line}")),
            Err(StepError { call, reason, .. }) => Err(format!("NOT undone: {call}: {reason}")),
        }
    }

    fn try_back(self, execution: &Execution<'_>) -> Result<String, StepError> {
        let target = execution.plan.target();
        let (line, result) = match self {
            Self::Detach(mount) => (call("umount2", &[target, "MNT_DETACH"]), detach(execution, &mount)),
            Self::DetachBelow(mounts) => (call("umount2", &[target, "MNT_DETACH"]), detach_below(execution, &mounts)),
            Self::Attach { mount, path } => {
                let line = call("move_mount", &[&String::from_utf8_lossy(&path)]);
                let Some((mount, kind)) = mount else {
                    return Err(StepError::new(line, "an unbindable mount can't be copied"));
                };
                let place = execution.host.place(&path).and_then(|place| place.open());
                let back = place.and_then(|there| come_back(execution, mount.as_fd(), &path_to_text(&path), &there));
                // What is put on a shared mount is shared.
                let was = Propagation { kind, recursive: false };
                let keep = |()| if kind == PropagationType::Shared { Ok(()) } else { propagate(mount.as_fd(), was) };
                (line, back.and_then(keep))
            }
            Self::RemoveDirectory { folder, name } => {
                let result = unlinkat(&folder, name.as_str(), AtFlags::REMOVEDIR);
                (call("unlinkat", &[&name, "AT_REMOVEDIR"]), result.map_err(io::Error::from))
            }
            Self::SetAttributes(attributes) => {
                let line = call("mount_setattr", &[target, &attributes.to_string()]);
                (line, mount_setattr(execution.target()?, false, &attributes.into()))
            }
            Self::Reconfigure { parameters, before } => return undo_reconfigure(execution, &parameters, &before),
            Self::MoveBack(place) => {
                let line = call("move_mount", &[target, &place.path]);
                let Some(source) = &execution.source else { return Err(StepError::new(line, "no source is held")) };
                (line, place.open().and_then(|there| move_back(execution, source, &place.path, &there)))
            }
            Self::SetPropagation { recursive: true, .. } => {
                let line = call("mount_setattr", &[target, "AT_RECURSIVE"]);
                return Err(StepError::new(line, "the earlier propagation of the mounts below isn't known"));
            }
            Self::SetPropagation { before, .. } if before.iter().any(|field| field.contains(':')) => {
                let line = call("mount_setattr", &[target, &before.join(" ")]);
                return Err(StepError::new(line, "it can't join its former peers again"));
            }
            Self::SetPropagation { recursive: false, before } => {
                let kind = propagation_of(&before);
                let line = call("mount_setattr", &[target, kind.name()]);
                (line, propagate(execution.target()?, Propagation { kind, recursive: false }))
            }
        };
        match result {
            Ok(()) => Ok(line),
            Err(error) => Err(StepError::new(line, error)),
        }
    }
}

/// Puts a mount where it was, if it's seen only where that was judged.
fn come_back(execution: &Execution<'_>, mount: BorrowedFd<'_>, path: &str, there: &OwnedFd) -> io::Result<()> {
    let failed = |error: Unconfirmed| match error {
        Unconfirmed::Changed(what) => io::Error::other(what),
        Unconfirmed::Host(error) => io::Error::other(error),
    };
    let judged = || execution.plan.confirm_return(path, there.as_fd()).map_err(failed);
    let lock = judged()?;
    let own = Identity::of(mount)?.id;
    let before = Before::now(execution, there.as_fd())?;
    execution.attach(lock.as_ref().map(HostLock::give_back), mount, there.as_fd())?;
    // What is late comes back all the same. Where others didn't wait for it, more may have been made of its place.
    let is_judged = match execution.is_overtaken.replace(false) {
        true => judged().map(drop),
        false => Ok(()),
    };
    let is_where_it_was = is_judged.and_then(|()| {
        let new = before.new_mounts(execution)?;
        execution.plan.confirm_carried(own, &new, false).map_err(failed)
    });
    if is_where_it_was.is_err() {
        unmount(format!("/proc/self/fd/{}", mount.as_raw_fd()), UnmountFlags::DETACH)?;
    }
    is_where_it_was
}

/// Moves a mount back to where it was. What has come to a shared mount can't be moved away again: then a copy goes back, and it's
/// taken away where it is.
fn move_back(execution: &Execution<'_>, source: &OwnedFd, path: &str, there: &OwnedFd) -> io::Result<()> {
    match come_back(execution, source.as_fd(), path, there) {
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {}
        result => return result,
    }
    let identity = Identity::of(source.as_fd())?;
    is_uncovered(execution, &identity)?;
    for below in lookup::mounts_below(execution, &identity)? {
        let found = lookup::find(execution, &below.identity)?;
        // It would be left out of the copy.
        if found.is_some_and(|found| propagation_of(&found.optional_fields) == PropagationType::Unbindable) {
            return Err(io::Error::other(format!("{} can't be copied", String::from_utf8_lossy(&below.path))));
        }
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let copy = open_tree(source, "", flags | OpenTreeFlags::AT_RECURSIVE)?;
    come_back(execution, copy.as_fd(), path, there)?;
    detach(execution, source)
}

/// Takes one mount away by its descriptor, wherever it is by now, if nothing was mounted on it meanwhile: umount2(2) would
/// take that away.
fn detach(execution: &Execution<'_>, mount: &OwnedFd) -> io::Result<()> {
    let identity = Identity::of(mount.as_fd())?;
    if !is_uncovered(execution, &identity)? {
        return Ok(());
    }
    unmount(format!("/proc/self/fd/{}", mount.as_raw_fd()), UnmountFlags::DETACH)?;
    match lookup::find(execution, &identity)? {
        None => Ok(()),
        Some(_) => Err(io::Error::other("it's still mounted")),
    }
}

/// Takes these mounts on the target away, from the top. It's an error if anything else is on one of them.
fn detach_below(execution: &Execution<'_>, mounts: &[u64]) -> io::Result<()> {
    for mount in mounts {
        let there = execution.host.place(execution.plan.target()).and_then(|place| place.open())?;
        if Identity::of(there.as_fd())?.id == *mount {
            detach(execution, &there)?;
        } else if lookup::table(execution)?.by_id(*mount).is_some() {
            return Err(io::Error::other("something else is mounted over it by now"));
        }
    }
    Ok(())
}

/// Whether a mount is there. It's an error if another one hides it.
fn is_uncovered(execution: &Execution<'_>, mount: &Identity) -> io::Result<bool> {
    let Some(found) = lookup::find(execution, mount)? else { return Ok(false) };
    let is_on_it = |below: &Below| below.parent == found.id && path_to_text(&below.path) == found.target;
    match lookup::mounts_below(execution, mount)?.iter().any(is_on_it) {
        true => Err(io::Error::other("something else is mounted over it by now")),
        false => Ok(true),
    }
}

/// Gives each parameter the value that the file system showed before. One that it didn't show can't be given back.
fn undo_reconfigure(
    execution: &Execution<'_>,
    parameters: &[MountOption],
    before: &[String],
) -> Result<String, StepError> {
    let shown: Vec<MountOption> = before.iter().map(|text| MountOption::parse(text)).collect();
    let earlier = |option: &MountOption| match option.name.as_str() {
        "ro" | "rw" => shown.first().cloned(),
        name => shown.iter().find(|shown| shown.name == name).cloned(),
    };
    let (known, lost): (Vec<_>, Vec<_>) =
        parameters.iter().map(|option| earlier(option).ok_or(option)).partition(Result::is_ok);
    let known: Vec<MountOption> = known.into_iter().filter_map(Result::ok).collect();
    let lines: Vec<String> = known.iter().map(parameter).collect();
    let line = lines.join(" ");
    let target = execution.target()?;
    reconfigure(target, &known, || call("fspick", &[execution.plan.target()]))
        .map_err(|error| StepError::new(line.clone(), format!("{}: {}", error.call, error.reason)))?;
    let lost: Vec<String> = lost.into_iter().filter_map(Result::err).map(parameter).collect();
    match lost.is_empty() {
        true => Ok(line),
        false => Err(StepError::new(lost.join(" "), "the file system didn't show the earlier value")),
    }
}
