//! What orders the requests of many callers.
//!
//! A request holds the locks of the places that it works on from before it's decided: callers that want the same place are
//! served one after the other. While a mount is shown, it also holds the one lock of the whole host: what the policies were
//! told is then still true.
//!
//! A lock is one byte of a file, found by the hash of its name. It is an open file description lock of fcntl(2): the kernel
//! gives it back when its owner is gone, however that ended. A lock that can't be had refuses the request.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, mkdirat, openat};
use sha2::{Digest, Sha256};

use super::lock_holders::holder;
use super::open::open_below;
use super::owner::{may_make, owner};
use super::root::HostRoot;
use crate::model::host_error::HostError;

/// The locks that one request holds; they are given back when it's dropped.
#[derive(Debug)]
pub struct Locks {
    host: Arc<HostRoot>,
    deadline: Instant,
    file: OnceLock<Option<OwnedFd>>,
    held: Mutex<Vec<String>>,
    /// How many hold the lock of the host for this request.
    host_holders: AtomicU32,
}

const FOLDER: &str = "mountgate";
const FILE: &str = "requests.lock";
/// The byte that stands for the whole host. No hash leads there.
const HOST: i64 = i64::MAX - 1;
/// The byte that stands for the turn of those that are decided again.
const TURN: i64 = HOST - 1;
/// How long a turn is waited for.
const MAX_TURN: Duration = Duration::from_secs(1);
/// How long is waited at most between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
const SHORT_PAUSE: Duration = Duration::from_millis(1);
/// How long is waited for the lock of the host, whatever the time, to take something back.
const TO_UNDO: Duration = Duration::from_millis(500);

impl Locks {
    /// The locks of a request, which must have them within this time.
    pub fn new(host: &Arc<HostRoot>, within: Duration) -> Self {
        let (file, held, host_holders) = (OnceLock::new(), Mutex::default(), AtomicU32::new(0));
        Self { host: host.clone(), deadline: Instant::now() + within, file, held, host_holders }
    }

    /// Waits for the lock of a place, unless this request holds it already. True means that the lock is new: another
    /// request may have changed the place since it was looked at.
    ///
    /// # Errors
    /// When another request holds the lock until the time is up, or there can be no locks.
    pub(crate) fn hold(&self, place: &str) -> Result<bool, HostError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.iter().any(|held| held == place) {
            return Ok(false);
        }
        let Some(file) = self.file()? else { return Ok(false) };
        self.wait_for(file, position(place), PAUSE, self.deadline, place)?;
        held.push(place.to_owned());
        Ok(true)
    }

    /// Waits for the turn of those that must be decided again, because others were faster: where one tries at a time, each gets on. Whoever has
    /// the turn may be slow, so it isn't waited for for long.
    pub(crate) fn take_turn(&self) {
        let until = self.deadline.min(Instant::now() + MAX_TURN);
        if let Ok(Some(file)) = self.file() {
            while set_lock(file, TURN, libc::F_WRLCK).is_err() && Instant::now() < until {
                std::thread::sleep(SHORT_PAUSE);
            }
        }
    }

    /// Waits for the lock of the whole host.
    ///
    /// # Errors
    /// When the time is up, or there can be no locks.
    pub(crate) fn hold_host(self: &Arc<Self>) -> Result<HostLock, HostError> {
        self.hold_host_until(self.deadline)
    }

    /// As [`Self::hold_host`], to take something back: there is always some time for that.
    ///
    /// # Errors
    /// When the lock can't be had.
    pub(crate) fn hold_host_to_undo(self: &Arc<Self>) -> Result<HostLock, HostError> {
        self.hold_host_until(self.deadline.max(Instant::now() + TO_UNDO))
    }

    fn hold_host_until(self: &Arc<Self>, deadline: Instant) -> Result<HostLock, HostError> {
        let lock = HostLock(self.clone());
        // A lock of this file that is held already is got, and would be lost with the first of two.
        if self.host_holders.fetch_add(1, Ordering::SeqCst) == 0
            && let Some(file) = self.file()?
        {
            self.wait_for(file, HOST, SHORT_PAUSE, deadline, "the host")?;
        }
        Ok(lock)
    }

    /// Waits for the lock of a byte until the deadline. The pause between two attempts grows up to `longest`.
    fn wait_for(
        &self,
        file: &OwnedFd,
        at: i64,
        longest: Duration,
        deadline: Instant,
        name: &str,
    ) -> Result<(), HostError> {
        let mut pause = Duration::from_micros(100);
        loop {
            match set_lock(file, at, libc::F_WRLCK) {
                Ok(()) => return Ok(()),
                Err(Errno::EAGAIN | Errno::EACCES) if Instant::now() < deadline => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(longest);
                }
                Err(errno) => {
                    let is_busy = matches!(errno, Errno::EAGAIN | Errno::EACCES);
                    let hint = is_busy.then(|| {
                        let holder = holder(self.host.root(), file, at).map(|holder| format!(": {holder}"));
                        format!(
                            "another mountgate works on it{}; try again when it has ended",
                            holder.unwrap_or_default()
                        )
                    });
                    let error = HostError::new("fcntl", &format!("F_OFD_SETLK, the lock of {name}"), errno.into());
                    return Err(error.with_hint(hint));
                }
            }
        }
    }

    /// The file of the locks. A sandbox needs none: nobody else is in it.
    fn file(&self) -> Result<Option<&OwnedFd>, HostError> {
        if self.host.is_sandbox() {
            return Ok(None);
        }
        if self.file.get().is_none() {
            let opened = open(&self.host).map_err(|error| {
                HostError::new("open", &format!("the host's /run/{FOLDER}/{FILE}, which orders requests"), error)
                    .with_hint(Some("the folder must be writable, and belong to the calling user with mode 0700"))
            })?;
            let _ = self.file.set(Some(opened));
        }
        Ok(self.file.get().and_then(Option::as_ref))
    }
}

/// The lock of the whole host, which is given back when it's dropped.
#[derive(Debug)]
pub(crate) struct HostLock(Arc<Locks>);

impl HostLock {
    /// What gives the lock back from another thread, whoever of this request holds it.
    pub(crate) fn give_back(&self) -> impl FnOnce() + Send + use<> {
        let locks = self.0.clone();
        move || {
            locks.host_holders.store(0, Ordering::SeqCst);
            locks.unlock_host();
        }
    }
}

impl Drop for HostLock {
    fn drop(&mut self) {
        let one_less = |holders: u32| holders.checked_sub(1);
        if self.0.host_holders.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) == Ok(1) {
            self.0.unlock_host();
        }
    }
}

impl Locks {
    fn unlock_host(&self) {
        if let Some(Some(file)) = self.file.get() {
            // The kernel gives it back at the latest when the file is closed.
            let _ = set_lock(file, HOST, libc::F_UNLCK);
        }
    }
}

fn set_lock(file: &OwnedFd, at: i64, kind: libc::c_int) -> nix::Result<()> {
    let range = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: at,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&range)).map(drop)
}

fn open(host: &HostRoot) -> io::Result<OwnedFd> {
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let run = open_below(host.root(), "run", folder, ResolveFlags::empty())?;
    let open_folder = || openat(&run, FOLDER, folder | OFlags::NOFOLLOW, Mode::empty());
    let folder = match open_folder() {
        Err(rustix::io::Errno::NOENT) => {
            may_make()?;
            match mkdirat(&run, FOLDER, Mode::RWXU) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            open_folder()?
        }
        folder => folder?,
    };
    let stat = fstat(&folder)?;
    if stat.st_uid != owner() || stat.st_mode & 0o077 != 0 {
        return Err(io::Error::other("others have access to it"));
    }
    let makes = if may_make().is_ok() { OFlags::CREATE } else { OFlags::empty() };
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(&folder, FILE, flags | makes, Mode::RUSR | Mode::WUSR) {
        Err(rustix::io::Errno::NOENT) => Err(may_make().err().unwrap_or(io::ErrorKind::NotFound.into())),
        file => Ok(file?),
    }
}

/// The byte of the file that stands for a place.
fn position(place: &str) -> i64 {
    let digest = Sha256::digest(place.as_bytes());
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
