//! The host's root: the folder that its `/` is seen under, and what is reached from there.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags, openat, openat2, statx};
use rustix::io::Errno;

use super::file_systems::FileSystems;
use super::foreign::foreign;
use super::identity::Identity;
use super::known_mounts::KnownMounts;
use super::namespaces::{self, Namespace};
use super::open::open_below;
use super::place::Place;
use crate::model::host_error::HostError;
use crate::model::paths::relative;
use crate::mount_table::table::MountTable;
use crate::sys;

/// Where the host is and how its mount namespace is reached.
#[derive(Debug)]
pub struct HostRoot {
    /// The host's `/`.
    root: OwnedFd,
    namespace: Namespace,
    /// The folder of the host's PID 1 in its `/proc`, or of this process for a sandbox.
    process: Result<OwnedFd, HostError>,
    /// Whether this process made the host for itself. Then no other user can act on it.
    is_sandbox: bool,
    file_systems: FileSystems,
    /// The types that were asked about, and whether they have a helper.
    pub(super) helpers: Mutex<HashMap<String, bool>>,
    /// The namespace's 64-bit id.
    namespace_id: OnceLock<Option<u64>>,
    /// What is known of its mounts.
    known_mounts: KnownMounts,
}

impl HostRoot {
    /// The folder that holds the host where none is given: `/rootfs` where that holds a host, else `/`. A file system that
    /// somebody brought there and that could hold anything isn't taken for a host.
    pub fn default_folder() -> PathBuf {
        let rootfs = Path::new("/rootfs");
        let is_host = rootfs.join("proc/1/mountinfo").exists()
            && foreign(rootfs).is_none()
            && open_path(&rootfs.join("proc/1"), OFlags::PATH).is_ok_and(|process| check_process(&process).is_ok());
        if is_host { rootfs.to_owned() } else { PathBuf::from("/") }
    }

    /// Opens the host under a folder. A namespace that can't be reached is an error only when it's needed.
    ///
    /// # Errors
    /// When the folder can't be opened.
    pub fn open(folder: &Path) -> Result<Self, HostError> {
        let pid_1 = folder.join("proc/1");
        let process = open_path(&pid_1, OFlags::PATH | OFlags::DIRECTORY);
        if let Ok(process) = &process {
            check_process(process).map_err(|error| {
                HostError::new("open", &pid_1.display().to_string(), error)
                    .with_hint(Some("--host-root names the folder that holds the host's /, with the host's own /proc"))
            })?;
        }
        let open_of_process = |what: &str, flags: OFlags| {
            let path = pid_1.join(what);
            let Ok(process) = &process else { return open_path(&path, flags) };
            openat(process, what, flags | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| HostError::new("open", &path.display().to_string(), error.into()))
        };
        let namespace = match open_of_process("ns/mnt", OFlags::RDONLY) {
            Ok(theirs) => {
                check_kind(&theirs, NSFS_MAGIC, "a mount namespace")
                    .map_err(|error| HostError::new("open", &pid_1.join("ns/mnt").display().to_string(), error))?;
                // In the host's `/proc`: a container may have none of its own.
                let ours = open_of_process("../self/ns/mnt", OFlags::RDONLY)
                    .or_else(|_| open_path(Path::new("/proc/self/ns/mnt"), OFlags::RDONLY))
                    .map_err(namespaces::with_advice)?;
                match namespaces::is_same(ours.as_fd(), theirs.as_fd())? {
                    true => Namespace::Own,
                    false => Namespace::Other(theirs),
                }
            }
            Err(error) => Namespace::Closed(namespaces::with_advice(error)),
        };
        let root = match open_of_process("root", OFlags::PATH | OFlags::DIRECTORY) {
            Ok(root) => root,
            // Without permission to look through PID 1, the folder itself shows the same tree, as this process sees it.
            Err(error) => {
                tracing::debug!("the host is seen through {}: {error}", folder.display());
                open_path(folder, OFlags::PATH | OFlags::DIRECTORY)?
            }
        };
        Ok(Self::new(root, namespace, process, false))
    }

    /// This process's own view, for a sandbox that is its own host.
    ///
    /// # Errors
    /// When `/` can't be opened.
    pub fn own() -> Result<Self, HostError> {
        let root = open_path(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
        let process = open_path(Path::new("/proc/self"), OFlags::PATH | OFlags::DIRECTORY);
        Ok(Self::new(root, Namespace::Own, process, true))
    }

    fn new(root: OwnedFd, namespace: Namespace, process: Result<OwnedFd, HostError>, is_sandbox: bool) -> Self {
        let (file_systems, helpers, namespace_id) = (FileSystems::default(), Mutex::default(), OnceLock::new());
        let known_mounts = KnownMounts::default();
        Self { root, namespace, process, is_sandbox, file_systems, helpers, namespace_id, known_mounts }
    }

    /// Keeps what is learned about the host's mounts in a folder that only this user can enter.
    #[must_use]
    pub fn keeping_in(self, folder: Option<OwnedFd>) -> Self {
        Self { known_mounts: KnownMounts::of(folder), ..self }
    }

    /// What is known of the host's mounts.
    pub(super) fn known_mounts(&self) -> &KnownMounts {
        &self.known_mounts
    }

    /// The host's `/`.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether the host is this process's own making.
    pub(crate) fn is_sandbox(&self) -> bool {
        self.is_sandbox
    }

    /// The namespace that mounts are made in.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The mounts of the host's PID 1, or of the sandbox.
    ///
    /// # Errors
    /// When the table can't be read.
    pub fn mount_table(&self) -> Result<MountTable, HostError> {
        let failed = |error| HostError::new("read", "the host's /proc/1/mountinfo", error);
        MountTable::read_from(self.open_mountinfo()?.into()).map_err(failed)
    }

    /// The file that tells the mounts of the host's PID 1, or of the sandbox.
    ///
    /// # Errors
    /// When it can't be opened.
    pub(super) fn open_mountinfo(&self) -> Result<OwnedFd, HostError> {
        let process = self.process.as_ref().map_err(HostError::clone)?;
        openat(process, "mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| HostError::new("read", "the host's /proc/1/mountinfo", errno.into()))
    }

    /// The place of a real path, as the kernel's bytes: the folder that holds it, and its name there.
    ///
    /// # Errors
    /// When the folder isn't there, or can't be reached without a symbolic link.
    pub(crate) fn place(&self, path: impl AsRef<[u8]>) -> io::Result<Place> {
        let path = path.as_ref();
        let shown = || String::from_utf8_lossy(path).into_owned();
        let at = path.iter().rposition(|byte| *byte == b'/').filter(|at| at + 1 < path.len());
        let at =
            at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{} lies in no folder", shown())))?;
        let (folder, name) = (&path[..at], &path[at + 1..]);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let folder = open_below(self.root(), OsStr::from_bytes(folder), flags, ResolveFlags::NO_SYMLINKS)?;
        Ok(Place { folder, name: CString::new(name)?, path: shown() })
    }

    /// Opens a file of the host by its real path.
    ///
    /// # Errors
    /// When it isn't there, or can't be reached without a symbolic link.
    pub(crate) fn open_file(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(open_below(self.root(), path, flags, ResolveFlags::NO_SYMLINKS)?)
    }

    /// Whether a real path leads to what a descriptor stands for, as far as the kernel knows without asking anybody.
    pub(crate) fn leads_to(&self, path: &[u8], pin: BorrowedFd<'_>) -> bool {
        let flags = ResolveFlags::NO_SYMLINKS | ResolveFlags::CACHED;
        let there = match openat2(
            self.root(),
            relative(OsStr::from_bytes(path)),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            flags | ResolveFlags::IN_ROOT,
        ) {
            Ok(there) => there,
            // It isn't in the kernel's caches. What is mounted in the end is compared as well.
            Err(Errno::AGAIN) => return true,
            Err(_) => return false,
        };
        match (Identity::of(there.as_fd()), Identity::of(pin)) {
            (Ok(one), Ok(other)) => one.is_same_file(&other) && one.is_same_mount(&other),
            _ => false,
        }
    }

    /// How statmount(2) and listmount(2) name the host's mount namespace; nothing stands for this process's own.
    ///
    /// # Errors
    /// Where they can't name it.
    pub(super) fn namespace_id(&self) -> io::Result<Option<u64>> {
        match &self.namespace {
            Namespace::Own => Ok(None),
            Namespace::Other(namespace) => {
                let id = self.namespace_id.get_or_init(|| sys::mount_namespace_id(namespace.as_fd()).ok());
                id.map(Some).ok_or_else(|| io::ErrorKind::Unsupported.into())
            }
            Namespace::Closed(_) => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    /// Whether this process is in the PID namespace of the host's PID 1, whose systemd knows processes by their numbers.
    pub(crate) fn shares_pid_namespace(&self) -> bool {
        self.process.as_ref().is_ok_and(|process| namespaces::shares_pid_namespace(process.as_fd()))
    }

    /// The file system types of the host's kernel.
    pub(crate) fn file_systems(&self) -> &FileSystems {
        &self.file_systems
    }

    /// Whose file a path leads to, and of what kind; links are followed.
    pub(super) fn look_up(&self, path: &str) -> Option<Statx> {
        owner(&self.find(path)?)
    }

    pub(super) fn find(&self, path: &str) -> Option<OwnedFd> {
        open_below(self.root(), path, OFlags::PATH, ResolveFlags::empty()).ok()
    }
}

/// Whose file a descriptor stands for, and of what kind.
pub(super) fn owner(found: &OwnedFd) -> Option<Statx> {
    let mask = StatxFlags::MODE | StatxFlags::TYPE | StatxFlags::UID;
    statx(found, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, mask).ok()
}

/// Magic numbers of file systems, see `include/uapi/linux/magic.h`.
pub(super) const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Whether a folder is what it should be: that of a process, on procfs. There, `root` and `ns/mnt` are magic links.
fn check_process(process: &OwnedFd) -> io::Result<()> {
    check_kind(process, PROC_SUPER_MAGIC, "a folder of proc(5)")
}

fn check_kind(file: &OwnedFd, magic: i64, what: &str) -> io::Result<()> {
    let is_it = rustix::fs::fstatfs(file)?.f_type == magic;
    if is_it { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it isn't {what}"))) }
}

fn open_path(path: &Path, flags: OFlags) -> Result<OwnedFd, HostError> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| HostError::new("open", &path.display().to_string(), error.into()))
}
