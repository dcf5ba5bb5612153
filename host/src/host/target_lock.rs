//! One lock per target on the host. Callers that want the same target are served one after the other, and each decides
//! on what the one before it left behind.
//!
//! A lock is one byte of a file, found by the hash of the target's real path. It is an open file description lock of
//! fcntl(2): the kernel gives it back when its owner is gone, however that ended. Different targets don't wait for each
//! other.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, mkdirat, openat};
use sha2::{Digest, Sha256};

use super::open::open_below;
use super::root::HostRoot;
use crate::model::host_error::HostError;

/// The locks that one request holds; they are given back when it's dropped.
#[derive(Debug)]
pub struct TargetLocks<'h> {
    host: &'h HostRoot,
    deadline: Instant,
    file: OnceCell<Option<OwnedFd>>,
    held: RefCell<Vec<String>>,
}

const FOLDER: &str = "mountgate";
const FILE: &str = "targets.lock";

impl<'h> TargetLocks<'h> {
    /// The locks of a request, which must have them within this time.
    pub fn new(host: &'h HostRoot, within: Duration) -> Self {
        Self { host, deadline: Instant::now() + within, file: OnceCell::new(), held: RefCell::default() }
    }

    /// Waits for the lock of a target, unless this request holds it already. True means that the lock is new: another
    /// request may have changed the target since it was looked at.
    ///
    /// # Errors
    /// When another request holds the lock until the time is up.
    pub(crate) fn hold(&self, target: &str) -> Result<bool, HostError> {
        if self.held.borrow().iter().any(|held| held == target) {
            return Ok(false);
        }
        let Some(file) = self.file.get_or_init(|| self.open()) else { return Ok(false) };
        let range = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: position(target),
            l_len: 1,
            l_pid: 0,
        };
        let mut pause = Duration::from_micros(200);
        loop {
            match fcntl(file, FcntlArg::F_OFD_SETLK(&range)) {
                Ok(_) => break,
                Err(Errno::EAGAIN | Errno::EACCES) if Instant::now() < self.deadline => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                Err(errno) => {
                    let busy = matches!(errno, Errno::EAGAIN | Errno::EACCES);
                    let hint = busy.then_some("another mountgate works on this target; try again when it has ended");
                    let error = HostError::new("fcntl", &format!("F_OFD_SETLK, the lock of {target}"), errno.into());
                    return Err(error.with_hint(hint));
                }
            }
        }
        self.held.borrow_mut().push(target.to_owned());
        Ok(true)
    }

    /// The file of the locks. Where there can be none, callers aren't ordered, and the log says so.
    fn open(&self) -> Option<OwnedFd> {
        if self.host.is_sandbox() {
            return None;
        }
        open(self.host)
            .inspect_err(|error| {
                tracing::warn!("concurrent requests aren't ordered: no lock in the host's /run/{FOLDER}: {error}");
            })
            .ok()
    }
}

fn open(host: &HostRoot) -> io::Result<OwnedFd> {
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let run = open_below(host.root(), "run", folder, ResolveFlags::empty())?;
    let open_folder = || openat(&run, FOLDER, folder | OFlags::NOFOLLOW, Mode::empty());
    let folder = match open_folder() {
        Err(rustix::io::Errno::NOENT) => {
            match mkdirat(&run, FOLDER, Mode::RWXU) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            open_folder()?
        }
        folder => folder?,
    };
    let stat = fstat(&folder)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
        return Err(io::Error::other("others have access to it"));
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(&folder, FILE, flags, Mode::RUSR | Mode::WUSR)?)
}

/// The byte of the file that stands for a target.
fn position(target: &str) -> i64 {
    let digest = Sha256::digest(target.as_bytes());
    digest.iter().take(8).fold(0, |position, byte| position << 8 | i64::from(*byte)) & (i64::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_within_a_file() {
        assert!((0..i64::MAX - 1).contains(&position("/mnt/a")));
        assert_ne!(position("/mnt/a"), position("/mnt/b"));
    }
}
