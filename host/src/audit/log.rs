//! Appends lines to an audit file. Each line names the hash of the line before it, so that a line that was changed, taken out or put
//! in shows.
//!
//! The file is opened anew for each request: after logrotate(8) has renamed it, the next request makes a new one. Writers wait for
//! each other by flock(2).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags, fallocate, flock, fstatvfs};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::entry::{AuditEntry, hash};
use crate::host::owner::{may_make, owner};

/// An audit file that is open for one request.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    file: File,
}

/// So much must be free before a request that has to be audited is carried out.
const RESERVED: u64 = 8 << 20;
/// A line that is longer is written without the host's mounts: less than what is reserved, or there may be no room for it.
const MAX_WITH_MOUNTS: u64 = RESERVED;
/// How long the lock of the file is waited for.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// How long is waited between two attempts.
const PAUSE: Duration = Duration::from_millis(1);
/// A line is never longer than this.
const MAX_LINE: u64 = 64 << 20;

impl AuditLog {
    /// Opens a file, and makes it where it's missing. Only its owner can read it.
    ///
    /// # Errors
    /// When it can't be opened for writing, isn't a plain file, or others could have written it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let makes = if may_make().is_ok() { OFlags::CREATE } else { OFlags::empty() };
        let flags = OFlags::RDWR | makes | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
        let found = file.metadata()?;
        let is_private = found.uid() == owner() && found.mode() & 0o022 == 0;
        match (found.is_file(), is_private) {
            (true, true) => Ok(Self { path: path.to_owned(), file }),
            (true, false) => Err(io::Error::other("others could have written it")),
            (false, _) => Err(io::Error::other("it isn't a plain file")),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes sure that a line can be written.
    ///
    /// # Errors
    /// When there is no room.
    pub fn reserve(&self) -> io::Result<()> {
        let end = self.file.metadata()?.len();
        if let Some(most) = getrlimit(Resource::Fsize).current.filter(|most| *most < end + RESERVED) {
            let message = format!("files may have {most} bytes at most: raise the limit with ulimit -f");
            return Err(io::Error::other(message));
        }
        let whole = self.end_of_last_line(end)?;
        self.start_of_last_line(whole)?;
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, end, RESERVED) {
            Ok(()) => Ok(()),
            // Not every file system can reserve.
            Err(Errno::OPNOTSUPP) => {
                let stat = fstatvfs(&self.file)?;
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                if free >= RESERVED { Ok(()) } else { Err(Errno::NOSPC.into()) }
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Appends a line. What a line that was torn left behind is cut off first, and the new line tells how much that was.
    ///
    /// # Errors
    /// When it can't be written. The file is as it was then.
    pub fn append(mut self, mut entry: AuditEntry) -> io::Result<()> {
        self.lock()?;
        let end = self.file.metadata()?.len();
        let whole = self.end_of_last_line(end)?;
        entry.torn = (whole < end).then_some(end - whole);
        entry.previous = self.line_before(whole)?.map(|line| hash(&line));
        let mut line = serde_json::to_vec(&entry)?;
        if line.len() as u64 >= MAX_WITH_MOUNTS {
            line = serde_json::to_vec(&entry.without_mounts(line.len() as u64))?;
        }
        line.push(b'\n');
        if line.len() as u64 > MAX_LINE {
            return Err(io::Error::other(format!("its line would have {} bytes", line.len())));
        }
        // To set the length also gives back what other requests have reserved behind the end.
        if whole < end {
            self.file.set_len(whole)?;
            let _ = fallocate(&self.file, FallocateFlags::KEEP_SIZE, whole, RESERVED);
        }
        self.file.seek(SeekFrom::Start(whole))?;
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // Half a line would be taken for a torn one.
            let _ = self.file.set_len(whole);
        }
        written
    }

    /// Waits for others that write, but not for ever: whoever can read the file can hold its lock.
    fn lock(&self) -> io::Result<()> {
        let end = Instant::now() + MAX_WAIT;
        loop {
            match flock(self.file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if Instant::now() < end => std::thread::sleep(PAUSE),
                Err(Errno::WOULDBLOCK) => return Err(io::Error::other("somebody else holds its lock")),
                locked => return Ok(locked?),
            }
        }
    }

    /// Where the last whole line ends.
    fn end_of_last_line(&self, end: u64) -> io::Result<u64> {
        let mut at = end;
        while at > 0 {
            if end - at > MAX_LINE {
                return Err(io::Error::other("its last line is longer than any that mountgate writes"));
            }
            let start = at.saturating_sub(4096);
            let mut piece = vec![0; usize::try_from(at - start).unwrap_or_default()];
            self.file.read_exact_at(&mut piece, start)?;
            if let Some(found) = piece.iter().rposition(|byte| *byte == b'\n') {
                return Ok(start + found as u64 + 1);
            }
            at = start;
        }
        Ok(0)
    }

    /// Where the line begins that ends there.
    fn start_of_last_line(&self, end: u64) -> io::Result<u64> {
        if end == 0 { Ok(0) } else { self.end_of_last_line(end - 1) }
    }

    /// The line that ends there, without its end.
    fn line_before(&mut self, end: u64) -> io::Result<Option<Vec<u8>>> {
        if end == 0 {
            return Ok(None);
        }
        let start = self.start_of_last_line(end)?;
        self.file.seek(SeekFrom::Start(start))?;
        let mut line = Vec::new();
        (&self.file).take(end - 1 - start).read_to_end(&mut line)?;
        Ok(Some(line))
    }
}
