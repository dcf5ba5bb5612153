//! Follows a request's paths on the host, on descriptors below the host's root.
//!
//! What is found (real path, kind, device, the links on the way, the mount it lies on) is what policies judge, and the
//! descriptor that it was found with is what is mounted. A path without symbolic links takes one openat2(2); one with
//! links is walked component by component, so that each is seen.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fstatfs, openat, openat2, readlinkat, statx,
};
use rustix::io::Errno;

use super::root::HostRoot;
use crate::model::ends::{Device, FileKind, PinnedPath, ResolvedPath};
use crate::model::paths::{components, lexical, relative};
use crate::model::rules::Symlinks;

/// Why a path can't be followed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each is its message")]
pub enum ResolveError {
    #[error("{0} doesn't exist on the host")]
    Missing(String),
    #[error("{0} isn't a directory on the host, and more follows behind it")]
    NotADirectory(String),
    #[error("{0} is a symbolic link, and `[host] symlinks` is \"refuse\"")]
    SymlinkRefused(String),
    #[error("{0} is a magic link of proc(5), which is never followed")]
    MagicLink(String),
    #[error("more than {MAX_SYMLINKS} symbolic links on the way, the last one {0}")]
    TooManyLinks(String),
    #[error("{0} isn't UTF-8")]
    NotUtf8(String),
    #[error("{call}({path}): {errno}")]
    Call { call: &'static str, path: String, errno: Errno },
    #[error("{call}({path}): {error}")]
    Io { call: &'static str, path: String, error: std::io::Error },
    #[error("{0} leads to a path with a control character in it")]
    ControlCharacter(String),
}

/// As many as the kernel follows, see path_resolution(7).
const MAX_SYMLINKS: usize = 40;
/// The magic number of procfs, see statfs(2).
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// Follows an absolute path below the host's root.
///
/// # Errors
/// When it isn't there, or must not be followed.
pub(crate) fn resolve(host: &HostRoot, path: &str, links: Symlinks) -> Result<PinnedPath, ResolveError> {
    let plain = lexical(path);
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    match openat2(host.root(), relative(&plain), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
        Ok(pin) => pinned(plain, Vec::new(), pin),
        // A link on the way, or something that the walk below finds words for.
        Err(_) => walk(host, path, links),
    }
}

fn walk(host: &HostRoot, path: &str, links: Symlinks) -> Result<PinnedPath, ResolveError> {
    let mut walk = Walk { host, trail: Vec::new(), symlinks: Vec::new() };
    let mut todo: Vec<String> = components(path).rev().map(str::to_owned).collect();
    while let Some(name) = todo.pop() {
        match name.as_str() {
            ".." => drop(walk.trail.pop()),
            name => {
                if let Some(link) = walk.step(name)? {
                    if links == Symlinks::Refuse {
                        return Err(ResolveError::SymlinkRefused(walk.path_of(name)));
                    }
                    walk.follow(name, &link, &mut todo)?;
                }
            }
        }
    }
    walk.found()
}

/// Looks at what was found.
fn pinned(path: String, symlinks: Vec<String>, pin: OwnedFd) -> Result<PinnedPath, ResolveError> {
    let mask = StatxFlags::TYPE | StatxFlags::MNT_ID;
    let stat = statx(&pin, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, mask)
        .map_err(|errno| ResolveError::Call { call: "statx", path: path.clone(), errno })?;
    let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::Directory => FileKind::Directory,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        _ => FileKind::Regular,
    };
    let is_device = matches!(kind, FileKind::BlockDevice | FileKind::CharDevice);
    let knows_mount = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    let found = ResolvedPath {
        path,
        kind,
        device: is_device.then_some(Device { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor }),
        symlinks,
        covering_mount: knows_mount.then_some(stat.stx_mnt_id),
    };
    Ok(PinnedPath { found, pin: Some(pin) })
}

/// A walk from the host's root: the folders gone through, each with its descriptor.
struct Walk<'h> {
    host: &'h HostRoot,
    trail: Vec<(String, OwnedFd)>,
    symlinks: Vec<String>,
}

impl Walk<'_> {
    /// Goes to a child, or returns what it says where it's a symbolic link.
    fn step(&mut self, name: &str) -> Result<Option<String>, ResolveError> {
        let current = self.trail.last().map_or(self.host.root(), |(_, fd)| fd.as_fd());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let there = openat(current, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => ResolveError::Missing(self.path_of(name)),
            Errno::NOTDIR => ResolveError::NotADirectory(self.path()),
            errno => ResolveError::Call { call: "openat", path: self.path_of(name), errno },
        })?;
        let call = |call, errno| ResolveError::Call { call, path: self.path_of(name), errno };
        // Nobody is asked who might not answer: what the kernel remembers is enough to tell a link.
        let stat = statx(&there, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE)
            .map_err(|errno| call("statx", errno))?;
        if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::Symlink {
            self.trail.push((name.to_owned(), there));
            return Ok(None);
        }
        if fstatfs(&there).map_err(|errno| call("fstatfs", errno))?.f_type == PROC_SUPER_MAGIC {
            return Err(ResolveError::MagicLink(self.path_of(name)));
        }
        let link = readlinkat(&there, "", Vec::new()).map_err(|errno| call("readlinkat", errno))?;
        let text = link.into_string().map_err(|_| ResolveError::NotUtf8(self.path_of(name)))?;
        match text.chars().any(char::is_control) {
            true => Err(ResolveError::ControlCharacter(self.path_of(name))),
            false => Ok(Some(text)),
        }
    }

    fn follow(&mut self, name: &str, link: &str, todo: &mut Vec<String>) -> Result<(), ResolveError> {
        self.symlinks.push(self.path_of(name));
        if self.symlinks.len() > MAX_SYMLINKS {
            return Err(ResolveError::TooManyLinks(self.path_of(name)));
        }
        if link.starts_with('/') {
            self.trail.clear();
        }
        todo.extend(components(link).rev().map(str::to_owned));
        Ok(())
    }

    fn found(mut self) -> Result<PinnedPath, ResolveError> {
        let path = self.path();
        let pin = match self.trail.pop() {
            Some((_, pin)) => pin,
            None => self.host.root().try_clone_to_owned().map_err(|error| ResolveError::Io {
                call: "dup",
                path: path.clone(),
                error,
            })?,
        };
        pinned(path, self.symlinks, pin)
    }

    fn path(&self) -> String {
        if self.trail.is_empty() {
            return "/".to_owned();
        }
        self.trail.iter().fold(String::new(), |path, (name, _)| path + "/" + name)
    }

    fn path_of(&self, name: &str) -> String {
        let mut path = self.path();
        if !path.ends_with('/') {
            path.push('/');
        }
        path + name
    }
}
