//! The host as this process sees it: the folder its `/` is under, and what lies there.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};

use crate::error::{Error, HostError};
use crate::mount_table::{MountTable, Snapshot};

/// Where the host is and how its mount namespace is reached.
#[derive(Debug)]
pub struct HostRoot {
    /// The host's `/`.
    root: OwnedFd,
    namespace: Namespace,
    mountinfo: PathBuf,
    /// Whether the host is this process's own making, where the host's root is nobody's enemy.
    is_sandbox: bool,
}

/// The host's mount namespace, see namespaces(7).
#[derive(Debug)]
pub(crate) enum Namespace {
    /// This process is in it.
    Own,
    /// Another one, open to be entered.
    Other(OwnedFd),
    /// It can't be reached, for this reason. One can decide without it, and not mount.
    Closed(HostError),
}

impl HostRoot {
    /// The folder that holds the host when nobody says: `/rootfs` where there is one, else `/`.
    pub fn default_folder() -> PathBuf {
        let rootfs = Path::new("/rootfs");
        let is_host = rootfs.join("proc/1/mountinfo").exists();
        if is_host { rootfs.to_owned() } else { PathBuf::from("/") }
    }

    /// Opens the host under a folder. A namespace that can't be reached is an error only when it's needed.
    ///
    /// # Errors
    /// When the folder can't be opened.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let of_pid_1 = |what: &str| folder.join("proc/1").join(what);
        let namespace = match open_path(&of_pid_1("ns/mnt"), OFlags::RDONLY) {
            Ok(theirs) => {
                let ours = open_path(Path::new("/proc/self/ns/mnt"), OFlags::RDONLY)?;
                if same_inode(ours.as_fd(), theirs.as_fd())? { Namespace::Own } else { Namespace::Other(theirs) }
            }
            Err(error) => Namespace::Closed(error),
        };
        let root = match open_path(&of_pid_1("root"), OFlags::PATH | OFlags::DIRECTORY) {
            Ok(root) => root,
            // Without leave to look through PID 1, the folder itself shows the same tree, as this process sees it.
            Err(error) => {
                tracing::debug!("the host is seen through {}: {error}", folder.display());
                open_path(folder, OFlags::PATH | OFlags::DIRECTORY)?
            }
        };
        Ok(Self { root, namespace, mountinfo: of_pid_1("mountinfo"), is_sandbox: false })
    }

    /// This process's own view, for a sandbox that is its own host.
    ///
    /// # Errors
    /// When `/` can't be opened.
    pub fn own() -> Result<Self, Error> {
        let root = open_path(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
        let mountinfo = PathBuf::from("/proc/self/mountinfo");
        Ok(Self { root, namespace: Namespace::Own, mountinfo, is_sandbox: true })
    }

    /// The host's `/`.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The namespace that mounts are made in.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Whether this process is in the host's mount namespace.
    pub(crate) fn is_own_namespace(&self) -> bool {
        matches!(self.namespace, Namespace::Own)
    }

    /// The mounts of the host's PID 1, or of the sandbox.
    ///
    /// # Errors
    /// When the table can't be read.
    pub fn mount_table(&self) -> Result<MountTable, Error> {
        read_table(&self.mountinfo)
    }

    /// The same, to be read when somebody asks.
    pub fn snapshot(&self) -> Snapshot {
        let path = self.mountinfo.clone();
        Snapshot::lazy(move || read_table(&path))
    }

    /// Whether the host was *booted with* systemd, see sd_booted(3). That its programs exist isn't enough.
    pub(crate) fn is_booted_with_systemd(&self) -> bool {
        self.look_up("/run/systemd/system").is_some()
    }

    /// The first of these places where the host has a program, as a path of the host. One that somebody else than
    /// root can write isn't a program of the host's.
    pub(crate) fn program(&self, name: &str, folders: &[&str]) -> Option<String> {
        folders.iter().map(|folder| format!("{folder}/{name}")).find(|path| {
            self.look_up(path).is_some_and(|found| {
                let is_program = found.stx_mode & 0o170_000 == 0o100_000 && found.stx_mode & 0o111 != 0;
                let is_roots = found.stx_uid == 0 && found.stx_mode & 0o022 == 0;
                is_program && (is_roots || self.is_sandbox)
            })
        })
    }

    /// Whether the host has something of this name in one of these places, whoever it belongs to.
    pub(crate) fn has(&self, name: &str, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.look_up(&format!("{folder}/{name}")).is_some())
    }

    /// The 64-bit id of the mount that a path lies on, which is never used again; none before Linux 6.8.
    pub(crate) fn unique_mount_id(&self, path: &str) -> Option<u64> {
        let found = self.find(path)?;
        let mask = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
        let stat = statx(&found, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, mask).ok()?;
        (stat.stx_mask & STATX_MNT_ID_UNIQUE != 0).then_some(stat.stx_mnt_id)
    }

    /// File system types of the host's kernel that need no device, from `/proc/filesystems`.
    pub(crate) fn has_nodev_type(&self, fstype: &str) -> bool {
        let mut text = String::new();
        let read = File::open("/proc/filesystems").and_then(|mut file| file.read_to_string(&mut text));
        read.is_ok() && text.lines().any(|line| line.strip_prefix("nodev\t") == Some(fstype))
    }

    fn look_up(&self, path: &str) -> Option<rustix::fs::Statx> {
        let found = self.find(path)?;
        let mask = StatxFlags::MODE | StatxFlags::TYPE | StatxFlags::UID;
        statx(&found, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, mask).ok()
    }

    fn find(&self, path: &str) -> Option<OwnedFd> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let relative = match path.trim_start_matches('/') {
            "" => ".",
            relative => relative,
        };
        openat2(&self.root, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how).ok()
    }
}

/// `STATX_MNT_ID_UNIQUE` of `include/uapi/linux/stat.h`, Linux 6.8.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

fn read_table(path: &Path) -> Result<MountTable, Error> {
    MountTable::read(path).map_err(|error| HostError::new("read", &path.display().to_string(), error).into())
}

fn open_path(path: &Path, flags: OFlags) -> Result<OwnedFd, HostError> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| HostError::new("open", &path.display().to_string(), error.into()))
}

fn same_inode(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool, HostError> {
    let stat = |fd| rustix::fs::fstat(fd).map_err(|e| HostError::new("fstat", "a namespace", e.into()));
    let (one, other) = (stat(one)?, stat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}
