//! `umount DEVICE` and `mount -o remount DEVICE`, as umount(8) and mount(8) have it: what is meant is where the file system on the
//! device is mounted.

use crate::error::Error;
use crate::host::resolve::resolve;
use crate::host::root::HostRoot;
use crate::model::ends::FileKind;
use crate::model::refusals::Refusals;
use crate::model::request::{MountRequest, Operation};
use crate::model::rules::Symlinks;
use crate::mount_table::mount::Mount;

/// The request with the mount point in the place of the device.
///
/// # Errors
/// When it's mounted more than once, or below another mount.
pub(super) fn named_by_mount_point(host: &HostRoot, request: MountRequest) -> Result<MountRequest, Error> {
    if !matches!(request.operation, Operation::Unmount(_) | Operation::Remount { .. })
        || !request.target.starts_with("/dev/")
    {
        return Ok(request);
    }
    // What is wrong with the path is said where all paths are looked up.
    let Ok(found) = resolve(host, &request.target, Symlinks::Resolve) else { return Ok(request) };
    let Some(device) = found.found.device.filter(|_| found.found.kind == FileKind::BlockDevice) else {
        return Ok(request);
    };
    let table = host.mount_table()?;
    if table.mount_point(found.found.path.as_bytes()).is_some() {
        return Ok(request);
    }
    // btrfs has a number of its own, and shows the device as its source.
    let is_from_it = |mount: &Mount<'_>| {
        (mount.major(), mount.minor()) == (device.major, device.minor)
            || *mount.fstype() == *b"btrfs" && *mount.source() == *found.found.path.as_bytes()
    };
    let mounted: Vec<Mount<'_>> = table.iter().filter(is_from_it).collect();
    let refused = |message: String| Err(Refusals::one("TARGET", message, Some("name a mount point")).into());
    match mounted.as_slice() {
        [] => Ok(request),
        [mount] => {
            let target = mount.to_text().target;
            match table.mount_point(&mount.target()).is_some_and(|top| top.id() == mount.id()) {
                true => Ok(MountRequest { target, ..request }),
                false => refused(format!("{} is mounted on {target}, and another mount hides it", request.target)),
            }
        }
        several => {
            let targets: Vec<String> = several.iter().map(|mount| mount.to_text().target).collect();
            refused(format!("{} is mounted {} times: {}", request.target, targets.len(), targets.join(", ")))
        }
    }
}
