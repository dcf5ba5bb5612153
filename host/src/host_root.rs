//! The host as this process sees it: the folder its `/` is under, and what lies there.

use std::collections::HashMap;
use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, openat, openat2, statat, statx};

use crate::error::{Error, HostError};
use crate::identity::{Identity, unique_id};
use crate::mount_table::{MountTable, Snapshot, statmount};
use crate::resolve::relative;
use crate::sys;

/// Where the host is and how its mount namespace is reached.
#[derive(Debug)]
pub struct HostRoot {
    /// The host's `/`.
    root: OwnedFd,
    namespace: Namespace,
    /// The folder of the host's PID 1 in its `/proc`, or of this process for a sandbox.
    process: Result<OwnedFd, HostError>,
    /// Whether the host is this process's own making, where the host's root is nobody's enemy.
    is_sandbox: bool,
    /// The text of `/proc/filesystems`.
    kernel_types: OnceLock<String>,
    /// The types that were asked about, and whether they have a helper.
    helpers: Mutex<HashMap<String, bool>>,
    /// The namespace's 64-bit id.
    namespace_id: OnceLock<Option<u64>>,
}

/// What a file system type of the kernel's is mounted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KernelType {
    pub(crate) needs_device: bool,
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
        let pid_1 = folder.join("proc/1");
        let process = open_path(&pid_1, OFlags::PATH | OFlags::DIRECTORY);
        let open_in_it = |what: &str, flags: OFlags| {
            let path = pid_1.join(what);
            let Ok(process) = &process else { return open_path(&path, flags) };
            openat(process, what, flags | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| HostError::new("open", &path.display().to_string(), error.into()))
        };
        let namespace = match open_in_it("ns/mnt", OFlags::RDONLY) {
            Ok(theirs) => {
                // In the host's `/proc`: a container may have none of its own.
                let ours = open_in_it("../self/ns/mnt", OFlags::RDONLY)
                    .or_else(|_| open_path(Path::new("/proc/self/ns/mnt"), OFlags::RDONLY))?;
                if same_inode(ours.as_fd(), theirs.as_fd())? { Namespace::Own } else { Namespace::Other(theirs) }
            }
            Err(error) => Namespace::Closed(error),
        };
        let root = match open_in_it("root", OFlags::PATH | OFlags::DIRECTORY) {
            Ok(root) => root,
            // Without leave to look through PID 1, the folder itself shows the same tree, as this process sees it.
            Err(error) => {
                tracing::debug!("the host is seen through {}: {error}", folder.display());
                open_path(folder, OFlags::PATH | OFlags::DIRECTORY)?
            }
        };
        Ok(Self {
            root,
            namespace,
            process,
            is_sandbox: false,
            kernel_types: OnceLock::new(),
            helpers: Mutex::default(),
            namespace_id: OnceLock::new(),
        })
    }

    /// This process's own view, for a sandbox that is its own host.
    ///
    /// # Errors
    /// When `/` can't be opened.
    pub fn own() -> Result<Self, Error> {
        let root = open_path(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
        let process = open_path(Path::new("/proc/self"), OFlags::PATH | OFlags::DIRECTORY);
        Ok(Self {
            root,
            namespace: Namespace::Own,
            process,
            is_sandbox: true,
            kernel_types: OnceLock::new(),
            helpers: Mutex::default(),
            namespace_id: OnceLock::new(),
        })
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

    /// Whether this process is in the host's mount namespace.
    pub(crate) fn is_own_namespace(&self) -> bool {
        matches!(self.namespace, Namespace::Own)
    }

    /// The mounts of the host's PID 1, or of the sandbox.
    ///
    /// # Errors
    /// When the table can't be read.
    pub fn mount_table(&self) -> Result<MountTable, Error> {
        let process = self.process.as_ref().map_err(HostError::again)?;
        let failed = |error| HostError::new("read", "the host's /proc/1/mountinfo", error);
        let file = openat(process, "mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let file = file.map_err(|errno| failed(errno.into()))?;
        Ok(MountTable::read_from(file.into()).map_err(failed)?)
    }

    /// The same, to be read when somebody asks.
    pub fn snapshot(self: &Arc<Self>) -> Snapshot {
        let (whole, one) = (self.clone(), self.clone());
        Snapshot::lazy(move || whole.mount_table(), move |path| one.covering(path))
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

    /// Whether the host has a mount helper for a file system type, whoever it belongs to.
    pub(crate) fn has_helper(&self, fstype: &str) -> bool {
        let mut known = self.helpers.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry(fstype.to_owned()).or_insert_with(|| {
            HELPER_FOLDERS.iter().any(|folder| self.look_up(&format!("{folder}/mount.{fstype}")).is_some())
        })
    }

    /// Whether a file system of this type is mounted from a block device, now that the kernel has it loaded.
    pub(crate) fn is_mounted_from_a_device(&self, fstype: &str) -> bool {
        let known = self.kernel_type(fstype).or_else(|| type_in(&kernel_types(), fstype));
        known.is_none_or(|known| known.needs_device)
    }

    /// Whether this process is in the PID namespace of the host's PID 1, whose systemd knows processes by their numbers.
    pub(crate) fn shares_pid_namespace(&self) -> bool {
        let Ok(process) = &self.process else { return false };
        let theirs = statat(process, "ns/pid", AtFlags::empty());
        let ours = statat(process, "../self/ns/pid", AtFlags::empty());
        matches!((theirs, ours), (Ok(theirs), Ok(ours)) if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino))
    }

    /// What the host's kernel says of a file system type, if it has it loaded; see proc(5), `/proc/filesystems`.
    pub(crate) fn kernel_type(&self, fstype: &str) -> Option<KernelType> {
        let text = self.kernel_types.get_or_init(kernel_types);
        type_in(text, fstype)
    }

    /// The place of a real path: the folder that holds it, and its name there.
    ///
    /// # Errors
    /// When the folder isn't there, or can't be reached without a symbolic link.
    pub(crate) fn place(&self, path: &str) -> io::Result<Place> {
        let (folder, name) = match path.rsplit_once('/') {
            Some((folder, name)) if !name.is_empty() => (folder, name),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path} lies in no folder"))),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat2(&self.root, relative(folder), flags, Mode::empty(), PLAIN)?;
        Ok(Place { folder, name: CString::new(name)?, path: path.to_owned() })
    }

    /// Whether only root can put another file at a real path.
    pub(crate) fn is_roots_alone(&self, path: &str) -> bool {
        let is_roots = |found: rustix::fs::Statx| found.stx_uid == 0 && found.stx_mode & 0o022 == 0;
        self.is_sandbox
            || Path::new(path)
                .ancestors()
                .skip(1)
                .all(|folder| folder.to_str().and_then(|folder| self.look_up(folder)).is_some_and(is_roots))
    }

    /// The mount that a real path lies on, asked of the kernel. Nothing where it can't tell, or would have to wait for
    /// somebody: the table knows.
    pub(crate) fn covering(&self, path: &str) -> Option<MountTable> {
        let namespace = match &self.namespace {
            Namespace::Own => None,
            Namespace::Other(namespace) => {
                Some((*self.namespace_id.get_or_init(|| sys::mount_namespace_id(namespace.as_fd()).ok()))?)
            }
            Namespace::Closed(_) => return None,
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let found = openat2(&self.root, relative(path), flags, Mode::empty(), PLAIN | ResolveFlags::CACHED).ok()?;
        let id = unique_id(found.as_fd(), c"", AtFlags::EMPTY_PATH).ok()??;
        let table = statmount::mount(id, namespace).ok()?;
        let covers = |target: &[u8]| {
            let rest = path.as_bytes().strip_prefix(target);
            target == b"/" || rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        let is_it = table.iter().next().is_some_and(|mount| covers(&mount.target()));
        is_it.then_some(table)
    }

    fn look_up(&self, path: &str) -> Option<rustix::fs::Statx> {
        let found = self.find(path)?;
        let mask = StatxFlags::MODE | StatxFlags::TYPE | StatxFlags::UID;
        statx(&found, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, mask).ok()
    }

    fn find(&self, path: &str) -> Option<OwnedFd> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, relative(path), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how).ok()
    }
}

/// Where mount(8) looks for helpers, see its manual page.
const HELPER_FOLDERS: [&str; 4] = ["/sbin", "/usr/sbin", "/bin", "/usr/bin"];

/// The text of `/proc/filesystems`.
fn kernel_types() -> String {
    let mut text = String::with_capacity(4 << 10);
    let read = std::fs::File::open("/proc/filesystems").and_then(|mut file| file.read_to_string(&mut text));
    if let Err(error) = read {
        tracing::debug!("the kernel's file system types aren't known: {error}");
    }
    text
}

/// A type in the text of `/proc/filesystems`.
fn type_in(text: &str, fstype: &str) -> Option<KernelType> {
    text.lines().find_map(|line| {
        let (flag, name) = line.split_once('\t')?;
        (name == fstype).then_some(KernelType { needs_device: flag != "nodev" })
    })
}

/// A name in a folder of the host's.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) folder: OwnedFd,
    pub(crate) name: CString,
    /// The whole path, to be shown.
    pub(crate) path: String,
}

impl Place {
    /// What is there.
    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.folder, self.name.as_c_str(), flags, Mode::empty())?)
    }

    /// Which mount is there.
    pub(crate) fn identity(&self) -> io::Result<Identity> {
        Identity::at(self.folder.as_fd(), &self.name, AtFlags::empty())
    }
}

/// Below a root, and by no link: real paths.
const PLAIN: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_SYMLINKS);

fn open_path(path: &Path, flags: OFlags) -> Result<OwnedFd, HostError> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| HostError::new("open", &path.display().to_string(), error.into()))
}

fn same_inode(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool, HostError> {
    let stat = |fd| rustix::fs::fstat(fd).map_err(|e| HostError::new("fstat", "a namespace", e.into()));
    let (one, other) = (stat(one)?, stat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}
