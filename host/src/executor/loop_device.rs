//! Shows an image as a block device, see loop(4). The device lasts as long as its mount.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, statx};
use rustix::io::Errno;

use super::execution::Execution;
use super::failure::StepError;
use super::lookup;
use crate::host::loop_devices::{LOOP_MAJOR, path_of};
use crate::host::root::HostRoot;
use crate::model::ends::FileKind;
use crate::model::image::Image;
use crate::model::location::Device;
use crate::plan::call::call;
use crate::sys::{self, LoopBacking, LoopSetup};

/// How often another device is tried where somebody else was faster.
const ATTEMPTS: usize = 16;

/// A loop device that shows an image. If nothing is mounted from it when it's dropped, the kernel takes it away.
pub(super) struct LoopDevice {
    pub(super) path: String,
    pub(super) number: Device,
    /// Keeps the device until something is mounted from it.
    _device: OwnedFd,
}

/// Refuses a block device that shows what is mounted from another one already, unless both are only read: the kernel takes them for two.
pub(super) fn check_other_device(execution: &Execution<'_>, fstype: &str, read_only: bool) -> Result<(), StepError> {
    let found = execution.plan.found_source().filter(|found| found.kind == FileKind::BlockDevice);
    let (Some(own), Some(mounted)) =
        (found.and_then(|found| found.device), found.and_then(|found| found.location.as_ref()))
    else {
        return Ok(());
    };
    // A btrfs is known by all its devices, and has a number of its own.
    if mounted.device == own || mounted.device.major == 0 {
        return Ok(());
    }
    let line = || call("fsopen", &[fstype]);
    let table = lookup::table(execution).map_err(|error| StepError::new(line(), error))?;
    let Some(other) = table.by_device(mounted.device.major, mounted.device.minor).next() else { return Ok(()) };
    let other = other.to_text();
    if read_only && other.super_options.iter().any(|option| option == "ro") {
        return Ok(());
    }
    let reason = format!(
        "it shows the same as {}, which is mounted on {}: two file systems on it would destroy each other",
        other.source.escape_debug(),
        other.target.escape_debug()
    );
    Err(StepError::new(line(), (reason, Errno::BUSY)))
}

/// Shows the pinned image as a block device.
pub(super) fn attach(execution: &Execution<'_>, image: Image, read_only: bool) -> Result<LoopDevice, StepError> {
    let path = execution.plan.found_source().map_or("", |found| &found.path);
    let failed = |error: io::Error| StepError::new(call("ioctl", &["LOOP_CONFIGURE", path]), error);
    let pin = execution.source()?;
    let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
    // The pin can't be read from. This opens the very file again.
    let name = format!("/proc/self/fd/{}", pin.as_raw_fd());
    let file = rustix::fs::open(name, access | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let unused = |own: Option<Device>| match used_by(execution.host, file.as_fd(), read_only, own).map_err(failed)? {
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
        let (device, number) = free_device(execution.host).map_err(failed)?;
        match sys::loop_configure(device.as_fd(), file.as_fd(), &setup) {
            Ok(()) => {
                // Somebody else may have done the same meanwhile, through another name of the file: then neither goes on.
                let made = LoopDevice { path: path_of(number), number, _device: device };
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

/// A device that shows nothing yet.
fn free_device(host: &HostRoot) -> io::Result<(OwnedFd, Device)> {
    let control = host.open_file("/dev/loop-control", OFlags::RDWR)?;
    let number = Device { major: LOOP_MAJOR, minor: sys::loop_free(control.as_fd())? };
    let device = host.open_file(&path_of(number), OFlags::RDWR)?;
    match number_of(device.as_fd())? == number {
        true => Ok((device, number)),
        false => Err(io::Error::other(format!("{} isn't that loop device", path_of(number)))),
    }
}

fn number_of(device: BorrowedFd<'_>) -> io::Result<Device> {
    let stat = statx(device, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?;
    Ok(Device { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor })
}

/// The loop device that shows the file already, beside this request's own. Two that can both only be read from do no harm.
fn used_by(host: &HostRoot, file: BorrowedFd<'_>, read_only: bool, own: Option<Device>) -> io::Result<Option<String>> {
    let stat = rustix::fs::fstat(file)?;
    for entry in std::fs::read_dir("/sys/block")? {
        let Some(name) = entry?.file_name().to_str().map(str::to_owned) else { continue };
        let number = name.strip_prefix("loop").and_then(|number| number.parse::<u32>().ok());
        let Some(minor) = number.filter(|minor| own.is_none_or(|own| own.minor != *minor)) else { continue };
        let path = path_of(Device { major: LOOP_MAJOR, minor });
        let shows_something = || std::fs::exists(format!("/sys/block/loop{minor}/loop"));
        if !shows_something()? {
            continue;
        }
        let asked = host.open_file(&path, OFlags::RDONLY).and_then(|device| sys::loop_backing(device.as_fd()));
        let backing = match asked {
            Ok(backing) => backing,
            // Only one that shows nothing by now needn't be asked.
            Err(_) if !shows_something()? => None,
            Err(error) => return Err(io::Error::new(error.kind(), format!("{path} may show the same image: {error}"))),
        };
        let is_this = |other: &LoopBacking| other.device == stat.st_dev && other.inode == stat.st_ino;
        if backing.filter(is_this).is_some_and(|other| !(read_only && other.read_only)) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
