//! Calls of the kernel's mount API, with what the kernel says when one fails.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsPickFlags, MoveMountFlags, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fspick, move_mount,
};

use super::failure::StepError;
use crate::model::options::MountOption;
use crate::model::request::{Propagation, PropagationType};
use crate::model::untrusted;
use crate::plan::call::{call, parameter};
use crate::sys::{MountAttr, mount_setattr};

/// Puts a mount on what a descriptor stands for.
pub(super) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// Waits until nobody holds a directory: to put a mount there takes its lock, and whoever reads it holds that. A name with a slash behind it
/// can't be unlinked, so this removes nothing.
pub(super) fn wait_until_free(directory: BorrowedFd<'_>) {
    let _ = unlinkat(directory, "mountgate/", AtFlags::empty());
}

/// Changes the file system behind a mount.
pub(super) fn reconfigure(
    target: BorrowedFd<'_>,
    parameters: &[MountOption],
    line: impl Fn() -> String,
) -> Result<(), StepError> {
    let context = fspick(target, "", FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH)
        .map_err(|errno| StepError::new(line(), not_a_mount_point(errno.into())))?;
    configure(&context, parameters)?;
    fsconfig_reconfigure(&context).map_err(|errno| {
        let cause =
            (errno == Errno::ACCESS).then(|| "the device is write-protected: it can't be made writable".to_owned());
        with_cause_and_log(&context, call("fsconfig", &["FSCONFIG_CMD_RECONFIGURE"]), errno, cause)
    })
}

pub(super) fn propagate(target: BorrowedFd<'_>, to: Propagation) -> std::io::Result<()> {
    let attr = MountAttr { propagation: propagation_bit(to.kind), ..MountAttr::default() };
    mount_setattr(target, to.recursive, &attr)
}

/// `MS_…` of mount(2), which mount_setattr(2) takes for propagation.
pub(super) fn propagation_bit(kind: PropagationType) -> u64 {
    match kind {
        PropagationType::Shared => 1 << 20,
        PropagationType::Slave => 1 << 19,
        PropagationType::Private => 1 << 18,
        PropagationType::Unbindable => 1 << 17,
    }
}

/// What the optional fields of mountinfo say.
pub(super) fn propagation_of(fields: &[String]) -> PropagationType {
    let has = |prefix: &str| fields.iter().any(|field| field.starts_with(prefix));
    if has("unbindable") {
        PropagationType::Unbindable
    } else if has("shared:") {
        PropagationType::Shared
    } else if has("master:") {
        PropagationType::Slave
    } else {
        PropagationType::Private
    }
}

/// See `fs/fsopen.c` of the kernel.
pub(super) const MAX_VALUE: usize = 255;

pub(super) fn configure(context: &OwnedFd, parameters: &[MountOption]) -> Result<(), StepError> {
    for option in parameters {
        if option.value.as_ref().is_some_and(|value| value.len() > MAX_VALUE) {
            let reason = format!("its value is longer than the {MAX_VALUE} bytes that fsconfig(2) takes");
            return Err(StepError::new(parameter(option), reason));
        }
        match &option.value {
            Some(value) => fsconfig_set_string(context, option.name.as_str(), value.as_str()),
            None => fsconfig_set_flag(context, option.name.as_str()),
        }
        .map_err(|errno| {
            let is_number = |value: &String| value.bytes().all(|byte| byte.is_ascii_digit());
            let is_name =
                matches!(option.name.as_str(), "uid" | "gid") && !option.value.as_ref().is_some_and(is_number);
            let cause = (errno == Errno::INVAL && is_name).then(|| "write the number of the user or group".to_owned());
            with_cause_and_log(context, parameter(option), errno, cause)
        })?;
    }
    Ok(())
}

/// What an answer of the kernel means, and what to do about it, where the answer alone doesn't say.
pub(super) fn explained(errno: Errno, cause: Option<String>) -> (String, Errno) {
    let text = match cause {
        Some(cause) => format!("{errno}; {cause}"),
        None => errno.to_string(),
    };
    (text, errno)
}

/// Why a mount can't be shown at its target.
pub(super) fn not_shown(errno: Errno) -> (String, Errno) {
    let cause = match errno {
        Errno::NOSPC => Some("the mount namespace has as many mounts as fs.mount-max of proc(5) allows"),
        _ => None,
    };
    explained(errno, cause.map(str::to_owned))
}

/// Why a mount can't be moved.
pub(super) fn not_moved(errno: Errno) -> (String, Errno) {
    let cause = match errno {
        Errno::INVAL => Some(
            "a mount below a shared mount can't be moved, nor one with unbindable mounts to a shared place: make the mount above \
             it private first",
        ),
        Errno::LOOP => Some("a mount can't be moved below itself"),
        errno => return not_shown(errno),
    };
    explained(errno, cause.map(str::to_owned))
}

/// Why the kernel makes no file system of what it was given.
pub(super) fn not_made(fstype: &str, errno: Errno) -> Option<String> {
    let cause = match (errno, fstype) {
        (Errno::ROFS | Errno::ACCESS, _) => "the device is write-protected: ask for ro",
        (Errno::NOTBLK, "erofs") => {
            "this kernel mounts no erofs from a file, or not from one on that file system: ask for a loop device with -o loop"
        }
        (Errno::NOTBLK, _) => "this file system is mounted from a block device, and the source is none",
        (Errno::INVAL, "xfs") => {
            "an XFS with the same UUID may be mounted already: a copy is mounted with nouuid. Or it's no XFS"
        }
        (Errno::INVAL, _) => "there may be no such file system on it, or the options contradict each other",
        (Errno::BUSY, _) => "it's mounted already with other options, or something else uses the device",
        _ => return None,
    };
    Some(cause.to_owned())
}

/// A failed call on a context, with what the context says about it.
pub(super) fn with_context_log(context: &OwnedFd, call: String, errno: Errno) -> StepError {
    with_cause_and_log(context, call, errno, None)
}

/// As [`with_context_log`], with a cause.
pub(super) fn with_cause_and_log(context: &OwnedFd, call: String, errno: Errno, cause: Option<String>) -> StepError {
    let mut reason = explained(errno, cause).0;
    let mut buffer = [0; 1024];
    // One read a message, until there are no more.
    while let Ok(n @ 1..) = rustix::io::read(context, &mut buffer) {
        // Behind `e ` for an error, `w ` for a warning, `i ` for information.
        let message = untrusted::one_line(buffer.get(2..n).unwrap_or_default());
        reason.push_str("; ");
        reason.push_str(&message);
    }
    StepError::new(call, (reason, errno))
}

/// `EINVAL` is what the kernel says of a path that isn't the root of a mount.
pub(super) fn not_a_mount_point(error: std::io::Error) -> (String, Errno) {
    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
    explained(errno, (errno == Errno::INVAL).then(|| "is it a mount point of the host's?".to_owned()))
}
