//! A root in which the kernel finds by name only what was judged. An image may name further devices by itself, as one of f2fs
//! does: the kernel looks these up from the root of the thread that makes the file system.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsmount, fsopen, mount_change, open_tree, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use super::mount_api::{attach, propagate};
use crate::model::request::{Propagation, PropagationType};

/// What is seen in such a root, each at its path of the host.
pub(super) struct ClosedRoot(Vec<Seen>);

struct Seen {
    path: String,
    copy: OwnedFd,
    is_directory: bool,
}

impl ClosedRoot {
    /// The paths, with what was pinned for them. Directories are told apart.
    pub(super) fn of<'p>(judged: impl IntoIterator<Item = (&'p str, BorrowedFd<'p>, bool)>) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let mut all: Vec<Seen> = Vec::new();
        for (path, pin, is_directory) in judged {
            if all.iter().any(|seen| seen.path == path) {
                continue;
            }
            let copy = open_tree(pin, "", flags)?;
            // A copy of a shared mount is its peer: what is mounted on it would be seen on the host as well.
            propagate(copy.as_fd(), Propagation { kind: PropagationType::Private, recursive: false })?;
            all.push(Seen { path: path.to_owned(), copy, is_directory });
        }
        Ok(Self(all))
    }

    /// Does something in a thread that has this root.
    pub(super) fn run<T: Send>(self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, move || {
                let root = self.enter()?;
                let done = work();
                // What is in it goes with it.
                drop(root);
                Ok(done)
            })?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn enter(&self) -> io::Result<OwnedFd> {
        unshare(CloneFlags::CLONE_FS)?;
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let root = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        match self.fill(&root) {
            Ok(()) => {
                fchdir(&root)?;
                chroot(".")?;
            }
            Err(_) => self.enter_namespace(&root)?,
        }
        chdir("/")?;
        Ok(root)
    }

    /// Before Linux 6.15 nothing can be mounted in a mount that isn't in a namespace. One of its own ends with the thread.
    fn enter_namespace(&self, root: &OwnedFd) -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        // Nothing of this reaches the host.
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        let old = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        attach(root.as_fd(), old.as_fd())?;
        self.fill(root)?;
        fchdir(root)?;
        // Copies of the host's mounts would keep file systems busy that others unmount. See pivot_root(2) for the dots.
        match pivot_root(".", ".") {
            Ok(()) => Ok(unmount(".", UnmountFlags::DETACH)?),
            // The root of an initramfs stays.
            Err(_) => Ok(chroot(".")?),
        }
    }

    fn fill(&self, root: &OwnedFd) -> io::Result<()> {
        // All places first: none is made in what was attached.
        let places = self.0.iter().map(|seen| seen.make_place(root)).collect::<io::Result<Vec<_>>>()?;
        for (seen, place) in self.0.iter().zip(places) {
            attach(seen.copy.as_fd(), place.as_fd())?;
        }
        Ok(())
    }
}

impl Seen {
    /// Makes a file or a directory at the path.
    fn make_place(&self, root: &OwnedFd) -> io::Result<OwnedFd> {
        let path = Path::new(self.path.trim_start_matches('/'));
        let mut folder = String::new();
        let parents = path.parent().into_iter().flat_map(Path::components);
        for name in parents.filter_map(|name| name.as_os_str().to_str()) {
            folder = format!("{folder}{name}/");
            make_directory(root, &folder)?;
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        if self.is_directory {
            make_directory(root, path)?;
        } else {
            openat(root, path, OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::RUSR)?;
        }
        Ok(openat(root, path, flags, Mode::empty())?)
    }
}

fn make_directory(root: &OwnedFd, path: impl rustix::path::Arg) -> io::Result<()> {
    match mkdirat(root, path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
