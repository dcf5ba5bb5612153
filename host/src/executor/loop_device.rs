//! Shows an image as a block device, see loop(4). The device lasts as long as its mount.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, major, minor, statx};
use rustix::io::Errno;

use super::execution::Execution;
use super::failure::StepError;
use super::lookup;
use super::mount_api::explained;
use crate::host::loop_devices::{BackingFile, LoopDevices, is_read_only, node_of};
use crate::host::root::HostRoot;
use crate::model::image::Image;
use crate::model::location::Device;
use crate::model::untrusted::for_people;
use crate::mount_table::topology::Topology;
use crate::plan::call::call;
use crate::sys::{self, LoopSetup};

/// How often another device is tried where somebody else was faster.
const ATTEMPTS: usize = 16;

/// A loop device that shows an image. If nothing is mounted from it when it's dropped, the kernel takes it away.
pub(super) struct LoopDevice {
    pub(super) path: String,
    pub(super) number: Device,
    /// Keeps the device until something is mounted from it.
    device: OwnedFd,
}

impl LoopDevice {
    pub(super) fn opened(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// Refuses to mount a block device, or to make what is mounted from it writable, where another device shows the same and is in use: the kernel
/// takes them for two. Devices that can only be read do no harm.
pub(super) fn check_alone(execution: &Execution<'_>, own: Device, line: impl Fn() -> String) -> Result<(), StepError> {
    let not_asked = |error: io::Error| {
        StepError::new(line(), format!("a loop device may show the same, and can't be asked: {error}"))
    };
    let destroyed = |other: String| {
        let reason = format!("it shows the same as {other}: two file systems on it would destroy each other");
        Err(StepError::new(line(), (reason, Errno::BUSY)))
    };
    let (host, devices) = (execution.host, LoopDevices::of(execution.host));
    let table = lookup::table(execution).map_err(|error| StepError::new(line(), error))?;
    let mounted = devices.file_system_on(own, &Topology::of(&table)).map_err(not_asked)?;
    if let Some(other) = mounted.filter(|other| !(is_read_only(host, own) && is_read_only(host, *other)))
        && let Some(mount) = table.by_device(other.major, other.minor).next().map(|mount| mount.to_text())
    {
        return destroyed(format!("{}, which is mounted on {}", for_people(&mount.source), for_people(&mount.target)));
    }
    match devices.in_use_elsewhere(own).map_err(not_asked)? {
        Some(other) => destroyed(format!("{}, which is in use", node_of(host, other))),
        None => Ok(()),
    }
}

/// Shows the pinned image as a block device.
pub(super) fn attach(execution: &Execution<'_>, image: Image, read_only: bool) -> Result<LoopDevice, StepError> {
    let path = execution.plan.found_source().map_or("", |found| &found.path);
    let failed = |error: io::Error| StepError::new(call("ioctl", &["LOOP_CONFIGURE", path]), error);
    let pin = execution.source()?;
    let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
    // The pin can't be read from. This opens the very file again.
    let name = format!("/proc/self/fd/{}", pin.as_raw_fd());
    let file = rustix::fs::open(name, access | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
        let cause = (errno == Errno::ROFS).then(|| "the image is write-protected: ask for ro".to_owned());
        StepError::new(call("ioctl", &["LOOP_CONFIGURE", path]), explained(errno, cause))
    })?;
    let unused = |own: Option<Device>| match used_by(execution, file.as_fd(), read_only, own).map_err(failed)? {
        Some(other) => {
            let reason = format!("{other} shows this image already: two file systems on it would destroy each other");
            Err(StepError::new(call("ioctl", &["LOOP_CONFIGURE", path]), reason).with_code("busy"))
        }
        None => Ok(()),
    };
    unused(None)?;
    let setup = LoopSetup { offset: image.offset, size_limit: image.size_limit, read_only, name: path };
    let mut last = Errno::BUSY;
    for _ in 0..ATTEMPTS {
        let (path, device, number) = free_device(execution.host).map_err(failed)?;
        match sys::loop_configure(device.as_fd(), file.as_fd(), &setup) {
            Ok(()) => {
                // Somebody else may have done the same meanwhile, through another name of the file: then neither goes on.
                let made = LoopDevice { path, number, device };
                return unused(Some(number)).map(|()| made);
            }
            Err(error) => last = Errno::from_io_error(&error).unwrap_or(Errno::IO),
        }
        if last != Errno::BUSY {
            break;
        }
    }
    Err(failed(last.into()))
}

/// A device that shows nothing yet, with its path and its number.
fn free_device(host: &HostRoot) -> io::Result<(String, OwnedFd, Device)> {
    let control = host.open_file("/dev/loop-control", OFlags::RDWR)?;
    let path = format!("/dev/loop{}", sys::loop_free(control.as_fd())?);
    let device = host.open_file(&path, OFlags::RDWR)?;
    let number = number_of(device.as_fd())?;
    match number.major {
        Device::LOOP_MAJOR => Ok((path, device, number)),
        _ => Err(io::Error::other(format!("{path} isn't a loop device"))),
    }
}

fn number_of(device: BorrowedFd<'_>) -> io::Result<Device> {
    let stat = statx(device, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?;
    Ok(Device { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor })
}

/// The loop device that shows the image already, beside this request's own. Two that can both only be read from do no harm.
fn used_by(
    execution: &Execution<'_>,
    file: BorrowedFd<'_>,
    read_only: bool,
    own: Option<Device>,
) -> io::Result<Option<String>> {
    let (host, path) = (execution.host, execution.plan.found_source().map_or("", |found| &found.path));
    let stat = rustix::fs::fstat(file)?;
    let devices = LoopDevices::of(host);
    let number_of = |number| Device { major: major(number), minor: minor(number) };
    // An overlay has a file of its upper layer under a number of its own.
    let (own_number, own_upper) = (number_of(stat.st_dev), devices.upper_of(path));
    for device in devices.all()?.into_iter().filter(|device| own != Some(*device)) {
        let backing = devices.backing_of(device).map_err(|error| {
            io::Error::new(error.kind(), format!("{} may show the same image: {error}", node_of(host, device)))
        })?;
        let is_this = backing.is_some_and(|backing| match backing.file {
            BackingFile::Device(_) => false,
            BackingFile::File(number, inode) => {
                let is_upper =
                    || own_upper == Some(number_of(number)) || devices.upper_of_image(device) == Some(own_number);
                inode == stat.st_ino && (number == stat.st_dev || is_upper())
            }
            BackingFile::Served(other) => other == path,
        });
        if is_this && !(read_only && is_read_only(host, device)) {
            return Ok(Some(node_of(host, device)));
        }
    }
    Ok(None)
}
