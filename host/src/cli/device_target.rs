//! `umount DEVICE`, as umount(8) has it: what is unmounted is where the file system on the device is mounted.

use crate::error::Error;
use crate::host::resolve::resolve;
use crate::host::root::HostRoot;
use crate::model::ends::FileKind;
use crate::model::refusals::Refusals;
use crate::model::request::{MountRequest, Operation};
use crate::model::rules::Symlinks;

/// The request with the mount point in the place of the device. Devices lie in `/dev`: to look at another path might take as long as a server
/// likes.
///
/// # Errors
/// When it's mounted more than once.
pub(super) fn named_by_mount_point(host: &HostRoot, request: MountRequest) -> Result<MountRequest, Error> {
    if !matches!(request.operation, Operation::Unmount(_)) || !request.target.starts_with("/dev/") {
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
    let mut mounted: Vec<String> =
        table.by_device(device.major, device.minor).map(|mount| mount.to_text().target).collect();
    match mounted.len() {
        0 => Ok(request),
        1 => Ok(MountRequest { target: mounted.remove(0), ..request }),
        count => {
            let message = format!("{} is mounted {count} times: {}", request.target, mounted.join(", "));
            Err(Refusals::one("TARGET", message, Some("name one of the mount points")).into())
        }
    }
}
