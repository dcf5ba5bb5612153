//! Resolves a request's paths on the host, on descriptors below the host's root.
//!
//! Policies judge what is found: the real path, the kind, the device, the links on the way, the mount that it lies on. The
//! descriptor that it was found with is what is mounted. A path without symbolic links takes one openat2(2). A path with
//! links is walked component by component, so that each link is seen. Then the kernel resolves the same path and has the
//! last word: it knows rules that no walk sees, such as `nosymfollow` mounts and `fs.protected_symlinks` of proc(5).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fstatfs, openat, readlinkat, statx};
use rustix::io::Errno;

use super::identity::Identity;
use super::open::open_below;
use super::root::{HostRoot, PROC_SUPER_MAGIC};
use crate::model::ends::{FileKind, PinnedPath, ResolvedPath};
use crate::model::location::Device;
use crate::model::paths::{components, lexical, names_directory};
use crate::model::rules::Symlinks;
use crate::mount_table::escape::{path_to_text, unescape};

/// Why a path can't be followed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each is its message")]
pub enum ResolveError {
    #[error("{0} doesn't exist on the host")]
    Missing(String),
    #[error("{0} isn't a directory on the host, and the path asks for one")]
    NotADirectory(String),
    #[error("{0} is a symbolic link, and `[host] symlinks` is \"refuse\"")]
    SymlinkRefused(String),
    #[error("the kernel refuses a link on the way ({links}): {}", why_refused(*errno))]
    LinkRefused { links: String, errno: Errno },
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
    #[error("{0} changed while it was resolved")]
    Changed(String),
}

/// The kernel follows at most so many links, see path_resolution(7).
pub(super) const MAX_SYMLINKS: usize = 40;
/// The magic number of autofs, see statfs(2).
const AUTOFS_SUPER_MAGIC: i64 = 0x187;

/// Whether a link is a magic one: of the links of proc(5), only these lead elsewhere than their text says.
pub(super) fn is_magic(folder: BorrowedFd<'_>, name: &str, link: &OwnedFd) -> rustix::io::Result<bool> {
    let is_of_proc = fstatfs(link)?.f_type == PROC_SUPER_MAGIC;
    Ok(is_of_proc && open_below(folder, name, OFlags::PATH, ResolveFlags::empty()).err() == Some(Errno::LOOP))
}

/// Whether something is a place of autofs where nothing is mounted yet: a copy of it would show nothing, ever.
pub(crate) fn is_automount(found: &PinnedPath) -> bool {
    let is_autofs = |pin: &OwnedFd| fstatfs(pin).is_ok_and(|stat| stat.f_type == AUTOFS_SUPER_MAGIC);
    found.pin.as_ref().is_some_and(is_autofs)
}

/// Resolves an absolute path below the host's root, see path_resolution(7).
///
/// # Errors
/// When it isn't there, or must not be followed.
pub fn resolve(host: &HostRoot, path: &str, links: Symlinks) -> Result<PinnedPath, ResolveError> {
    let plain = lexical(path);
    match open_below(host.root(), &plain, OFlags::PATH, ResolveFlags::NO_SYMLINKS) {
        Ok(pin) => pinned(plain, Vec::new(), pin).and_then(|found| checked(path, found)),
        // The walk says what is wrong. Where it finds nothing, the path has changed since.
        Err(_) if links == Symlinks::Refuse => {
            walk(host, path, links).and_then(|_| Err(ResolveError::Changed(path.to_owned())))
        }
        // There is a link on the way, or an error that the walk can describe better.
        Err(_) => follow_links(host, path),
    }
}

/// Resolves a path whose end is missing, as far as it's there.
///
/// # Errors
/// When it's there, or what is there must not be followed, or is no directory.
pub(crate) fn resolve_missing(host: &HostRoot, path: &str, links: Symlinks) -> Result<PinnedPath, ResolveError> {
    let names: Vec<&str> = components(path).collect();
    for there in (0..names.len()).rev() {
        let (held, missing) = names.split_at(there);
        let mut found = match resolve(host, &lexical(&format!("/{}/", held.join("/"))), links) {
            Err(ResolveError::Missing(_)) => continue,
            found => found?,
        };
        let Some(pin) = found.pin.as_ref().filter(|_| found.found.kind == FileKind::Directory) else {
            return Err(ResolveError::NotADirectory(found.found.path));
        };
        // A link that leads nowhere is in the way.
        if openat(pin, names[there], OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).is_ok() {
            return Err(ResolveError::Missing(path.to_owned()));
        }
        found.missing = missing.join("/");
        found.found.path = lexical(&format!("{}/{}", found.found.path, found.missing));
        return Ok(found);
    }
    Err(ResolveError::Missing(path.to_owned()))
}

/// Resolves a path whose bytes are written as octal escapes, as `mountgate list` and proc(5) write those that aren't text. No
/// link is followed.
///
/// # Errors
/// When it isn't there.
pub(crate) fn resolve_escaped(host: &HostRoot, path: &str) -> Result<PinnedPath, ResolveError> {
    let bytes = unescape(path.as_bytes()).into_owned();
    let names: Vec<&[u8]> = bytes.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    if bytes == path.as_bytes() || bytes.contains(&0) || names.contains(&b"..".as_slice()) {
        return Err(ResolveError::Missing(path.to_owned()));
    }
    let plain = [b"/", names.join(&b'/').as_slice()].concat();
    let pin = open_below(host.root(), OsStr::from_bytes(&plain), OFlags::PATH, ResolveFlags::NO_SYMLINKS)
        .map_err(|_| ResolveError::Missing(path.to_owned()))?;
    let found = pinned(path_to_text(&plain), Vec::new(), pin)?;
    Ok(PinnedPath { bytes: Some(plain), ..found })
}

/// Resolves `/proc/PID/fd/N`, which a program passes on to say what it holds. It's judged by its path on the host, and that must
/// lead to the same thing. None of another path.
///
/// # Errors
/// When it's at no path of the host.
pub(crate) fn resolve_descriptor(
    host: &HostRoot,
    path: &str,
    links: Symlinks,
) -> Option<Result<PinnedPath, ResolveError>> {
    let (folder, number) = descriptor(path)?;
    let elsewhere = || ResolveError::MagicLink(path.to_owned());
    let call = |call, errno| ResolveError::Call { call, path: path.to_owned(), errno };
    let follow = || {
        if links == Symlinks::Refuse {
            return Err(ResolveError::SymlinkRefused(path.to_owned()));
        }
        let folder = open_below(host.root(), folder, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)
            .map_err(|errno| call("openat2", errno))?;
        if fstatfs(&folder).map_err(|errno| call("fstatfs", errno))?.f_type != PROC_SUPER_MAGIC {
            return Err(elsewhere());
        }
        let held = openat(&folder, number, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| call("openat", errno))?;
        let name = readlinkat(&folder, number, Vec::new()).map_err(|errno| call("readlinkat", errno))?;
        let name = name.into_string().map_err(|_| ResolveError::NotUtf8(path.to_owned()))?;
        if !name.starts_with('/') || name.chars().any(char::is_control) {
            return Err(elsewhere());
        }
        let mut found = resolve(host, &name, links)?;
        if !is_same(path, &held, &found)? {
            return Err(elsewhere());
        }
        found.found.symlinks.insert(0, path.to_owned());
        Ok(found)
    };
    Some(follow())
}

/// The folder and the number of a descriptor's name in proc(5).
pub(crate) fn descriptor(path: &str) -> Option<(&str, &str)> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (folder, number) = path.rsplit_once('/')?;
    let process = folder.strip_prefix("/proc/")?.strip_suffix("/fd")?;
    (is_number(process) && is_number(number)).then_some((folder, number))
}

/// Why the kernel refuses a link that is there.
fn why_refused(errno: Errno) -> &'static str {
    match errno {
        Errno::LOOP => "the mount that it lies on has nosymfollow",
        _ => "fs.protected_symlinks of proc(5) forbids links of others in a folder that all can write",
    }
}

/// How often a path that changes meanwhile is resolved again.
const ATTEMPTS: usize = 4;

/// Has the kernel resolve a path, and walks it: both must lead to the same thing. The kernel comes first, since it mounts
/// what an automount on the way stands for.
fn follow_links(host: &HostRoot, path: &str) -> Result<PinnedPath, ResolveError> {
    let mut last = ResolveError::Changed(path.to_owned());
    for _ in 0..ATTEMPTS {
        let kernels = open_below(host.root(), lexical(path), OFlags::PATH, ResolveFlags::empty());
        last = match (kernels, walk(host, path, Symlinks::Resolve)) {
            (Ok(theirs), Ok(found)) if is_same(path, &theirs, &found)? => return Ok(found),
            (Ok(_), Ok(_)) => ResolveError::Changed(path.to_owned()),
            // What the walk found missing may have been there for the kernel.
            (Ok(_), Err(error @ ResolveError::Missing(_))) => error,
            (_, Err(error)) => return Err(error),
            (Err(errno @ (Errno::LOOP | Errno::ACCESS)), Ok(found)) if !found.found.symlinks.is_empty() => {
                return Err(ResolveError::LinkRefused { links: found.found.symlinks.join(", "), errno });
            }
            (Err(errno), Ok(_)) => {
                return Err(ResolveError::Call { call: "openat2", path: path.to_owned(), errno });
            }
        };
    }
    Err(last)
}

fn is_same(path: &str, theirs: &OwnedFd, found: &PinnedPath) -> Result<bool, ResolveError> {
    let identity = |fd: &OwnedFd| {
        Identity::of(fd.as_fd()).map_err(|error| ResolveError::Io { call: "statx", path: path.to_owned(), error })
    };
    let Some(pin) = &found.pin else { return Ok(false) };
    let (theirs, ours) = (identity(theirs)?, identity(pin)?);
    Ok(ours.is_same_file(&theirs) && ours.is_same_mount(&theirs))
}

/// A path that can only name a directory must lead to one. The kernel isn't asked for one, because it would mount what an
/// automount there stands for.
fn checked(path: &str, found: PinnedPath) -> Result<PinnedPath, ResolveError> {
    match names_directory(path) && found.found.kind != FileKind::Directory {
        true => Err(ResolveError::NotADirectory(found.found.path)),
        false => Ok(found),
    }
}

fn walk(host: &HostRoot, path: &str, links: Symlinks) -> Result<PinnedPath, ResolveError> {
    let mut walk = Walk { host, trail: Vec::new(), symlinks: Vec::new() };
    let mut todo = steps(path);
    while let Some(name) = todo.pop() {
        if let "." | ".." = name.as_str() {
            walk.check_directory()?;
        }
        match name.as_str() {
            "." => {}
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

/// The steps of a walk, the last one first. A path that can only name a directory ends with `.`.
fn steps(path: &str) -> Vec<String> {
    let end = names_directory(path).then_some(".");
    end.into_iter().chain(components(path).rev()).map(str::to_owned).collect()
}

/// Looks at what was found.
fn pinned(path: String, symlinks: Vec<String>, pin: OwnedFd) -> Result<PinnedPath, ResolveError> {
    let mask = StatxFlags::TYPE | StatxFlags::MNT_ID;
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = match statx(&pin, "", flags, mask) {
        // A user's FUSE that not even root may look into tells nothing, and its root is a directory nearly always.
        Err(Errno::ACCESS) => statx(&pin, "", flags, StatxFlags::empty()),
        stat => stat,
    };
    let stat = stat.map_err(|errno| ResolveError::Call { call: "statx", path: path.clone(), errno })?;
    let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::Unknown if stat.stx_mode == 0 => FileKind::Directory,
        FileType::Directory => FileKind::Directory,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        _ => FileKind::Regular,
    };
    let is_device = matches!(kind, FileKind::BlockDevice | FileKind::CharDevice);
    let knows_mount = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0 || stat.stx_mnt_id != 0;
    let found = ResolvedPath {
        path,
        kind,
        location: None,
        device: is_device.then_some(Device { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor }),
        storage: Vec::new(),
        symlinks,
        covering_mount: knows_mount.then_some(stat.stx_mnt_id),
    };
    Ok(PinnedPath::whole(found, Some(pin)))
}

/// A walk from the host's root: what was gone through, each by its name and descriptor.
struct Walk<'h> {
    host: &'h HostRoot,
    trail: Vec<Passed>,
    symlinks: Vec<String>,
}

/// A component that a walk went through.
struct Passed {
    name: String,
    fd: OwnedFd,
    is_directory: bool,
}

impl Walk<'_> {
    /// Goes to a child. Returns the text of the child instead, where that is a symbolic link.
    fn step(&mut self, name: &str) -> Result<Option<String>, ResolveError> {
        let current = self.trail.last().map_or(self.host.root(), |passed| passed.fd.as_fd());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let there = openat(current, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => ResolveError::Missing(self.path_of(name)),
            Errno::NOTDIR => ResolveError::NotADirectory(self.path()),
            errno => ResolveError::Call { call: "openat", path: self.path_of(name), errno },
        })?;
        let call = |call, errno| ResolveError::Call { call, path: self.path_of(name), errno };
        // A server that doesn't answer isn't asked: what the kernel remembers is enough to tell a link.
        let stat = match statx(&there, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE) {
            // The root of a user's FUSE, see below.
            Err(Errno::ACCESS) => {
                self.trail.push(Passed { name: name.to_owned(), fd: there, is_directory: true });
                return Ok(None);
            }
            stat => stat.map_err(|errno| call("statx", errno))?,
        };
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        if kind != FileType::Symlink {
            self.trail.push(Passed { name: name.to_owned(), fd: there, is_directory: kind == FileType::Directory });
            return Ok(None);
        }
        if is_magic(current, name, &there).map_err(|errno| call("fstatfs", errno))? {
            return Err(ResolveError::MagicLink(self.path_of(name)));
        }
        let link = readlinkat(&there, "", Vec::new()).map_err(|errno| call("readlinkat", errno))?;
        let text = link.into_string().map_err(|_| ResolveError::NotUtf8(self.path_of(name)))?;
        match text.chars().any(char::is_control) {
            true => Err(ResolveError::ControlCharacter(self.path_of(name))),
            false => Ok(Some(text)),
        }
    }

    /// The host's root is a directory, and so is everything that has a child. Only the last component may be something else.
    fn check_directory(&self) -> Result<(), ResolveError> {
        match self.trail.last().is_none_or(|passed| passed.is_directory) {
            true => Ok(()),
            false => Err(ResolveError::NotADirectory(self.path())),
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
        todo.extend(steps(link));
        Ok(())
    }

    fn found(mut self) -> Result<PinnedPath, ResolveError> {
        let path = self.path();
        let pin = match self.trail.pop() {
            Some(passed) => passed.fd,
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
        self.trail.iter().fold(String::new(), |path, passed| path + "/" + &passed.name)
    }

    fn path_of(&self, name: &str) -> String {
        let mut path = self.path();
        if !path.ends_with('/') {
            path.push('/');
        }
        path + name
    }
}
