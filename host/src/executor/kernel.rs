//! The kernel's mount API on descriptors: a mount is made or copied where nobody sees it, gets its final flags, and is
//! shown in one step. See fsopen(2), fsmount(2), open_tree(2), mount_setattr(2), move_mount(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick, move_mount,
    open_tree, unmount,
};
use rustix::process::fchdir;

use super::undo::Undo;
use super::{Site, StepError};
use crate::identity::Identity;
use crate::mount_table::statmount;
use crate::options::MountOption;
use crate::plan::{Attributes, call, parameter};
use crate::request::{Propagation, PropagationType, UnmountMode};
use crate::sys::{MountAttr, mount_setattr};

impl Site<'_> {
    /// A mount of a file system, shown at the target.
    pub(super) fn mount(
        &self,
        fstype: &str,
        source: &str,
        parameters: &[MountOption],
        attributes: Attributes,
    ) -> Result<OwnedFd, StepError> {
        let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| {
            let words = match errno {
                Errno::NODEV => format!("the host's kernel doesn't know the file system type {fstype}"),
                errno => errno.to_string(),
            };
            StepError::new(call("fsopen", &[fstype]), words)
        })?;
        fsconfig_set_string(&context, "source", source)
            .map_err(|errno| told(&context, call("fsconfig", &["source", source]), errno))?;
        configure(&context, parameters)?;
        fsconfig_create(&context)
            .map_err(|errno| told(&context, call("fsconfig", &["FSCONFIG_CMD_CREATE", fstype, source]), errno))?;
        let flags = MountAttrFlags::from_bits_retain(u32::try_from(attributes.set).unwrap_or(u32::MAX));
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
            .map_err(|errno| told(&context, call("fsmount", &[&attributes.to_string()]), errno))?;
        self.check_device(fstype, source, &mount)?;
        self.show(&mount)?;
        Ok(mount)
    }

    /// A copy of what the source is, shown at the target.
    pub(super) fn bind(&self, recursive: bool, attributes: Attributes) -> Result<OwnedFd, StepError> {
        let path = self.plan.found_source().map_or("", |found| &found.path);
        let flag = if recursive { "AT_RECURSIVE" } else { "" };
        let mut flags =
            OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_EMPTY_PATH;
        flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
        let tree = open_tree(self.source()?, "", flags)
            .map_err(|errno| StepError::new(call("open_tree", &[path, "OPEN_TREE_CLONE", flag]), errno))?;
        // Below the top only what takes rights away is set: what is laxer there was meant for what was named.
        let change = |attributes: Attributes, recursive: bool| {
            let attr = MountAttr { set: attributes.set, clear: attributes.clear, ..MountAttr::default() };
            match attributes.is_empty() {
                true => Ok(()),
                false => mount_setattr(tree.as_fd(), recursive, &attr)
                    .map_err(|error| StepError::new(call("mount_setattr", &[flag, &attributes.to_string()]), error)),
            }
        };
        if recursive {
            change(attributes.tightening(), true)?;
            change(attributes.loosening(), false)?;
        } else {
            change(attributes, false)?;
        }
        self.show(&tree)?;
        Ok(tree)
    }

    /// Puts a mount that nobody sees yet where the target is.
    fn show(&self, mount: &OwnedFd) -> Result<(), StepError> {
        let line = || call("move_mount", &[self.plan.target()]);
        self.commit(line)?;
        attach(mount.as_fd(), self.target()?).map_err(|errno| StepError::new(line(), errno))
    }

    pub(super) fn set_attributes(&self, attributes: Attributes, undos: &mut Vec<Undo>) -> Result<(), StepError> {
        let line = || call("mount_setattr", &[self.plan.target(), &attributes.to_string()]);
        let target = self.target()?;
        let before = self.look_at(target).map_err(|error| StepError::new(line(), error))?;
        // The kernel would say so, but not of a change that changes nothing.
        if !before.identity.is_mount_root {
            let path = self.plan.target();
            return Err(StepError::new(line(), format!("{path} isn't a mount point")));
        }
        self.commit(line)?;
        let attr = MountAttr { set: attributes.set, clear: attributes.clear, ..MountAttr::default() };
        mount_setattr(target, false, &attr).map_err(|error| StepError::new(line(), not_a_mount_point(error)))?;
        let bits = Attributes::bits_of(before.mount.options.iter().map(|word| word.as_bytes().into()));
        undos.push(Undo::SetAttributes(attributes.back_to(bits)));
        self.verify_attributes(attributes, line)
    }

    pub(super) fn reconfigure(&self, parameters: &[MountOption], undos: &mut Vec<Undo>) -> Result<(), StepError> {
        let target = self.target()?;
        let line = || call("fspick", &[self.plan.target()]);
        let before = self.look_at(target).map_err(|error| StepError::new(line(), error))?;
        self.commit(line)?;
        reconfigure(target, parameters, line)?;
        undos.push(Undo::Reconfigure { parameters: parameters.to_vec(), before: before.mount.super_options });
        self.verify_super(parameters)
    }

    /// Moves the mount that the source is to the target.
    pub(super) fn move_mount(&self, undos: &mut Vec<Undo>) -> Result<(), StepError> {
        let path = self.plan.found_source().map_or("", |found| &found.path);
        let line = || call("move_mount", &[path, self.plan.target()]);
        let source = self.source()?;
        let from = self.host.place(path).map_err(|errno| StepError::new(line(), errno))?;
        self.commit(line)?;
        attach(source, self.target()?).map_err(|errno| StepError::new(line(), not_a_mount_point(errno.into())))?;
        undos.push(Undo::MoveBack(from));
        self.verify_moved(line)
    }

    pub(super) fn set_propagation(&self, to: Propagation, undos: &mut Vec<Undo>) -> Result<(), StepError> {
        let flag = if to.recursive { "AT_RECURSIVE" } else { "" };
        let line = || call("mount_setattr", &[self.plan.target(), flag, to.kind.name()]);
        let target = self.target()?;
        let before = self.look_at(target).map_err(|error| StepError::new(line(), error))?;
        self.commit(line)?;
        propagate(target, to).map_err(|error| StepError::new(line(), not_a_mount_point(error)))?;
        undos.push(Undo::SetPropagation { recursive: to.recursive, before: before.mount.optional_fields });
        self.verify_propagation(to, line)
    }

    /// Takes the mount at the target away, and with `recursive` those below it first, the deepest first.
    pub(super) fn unmount(&self, mode: UnmountMode, undos: &mut Vec<Undo>) -> Result<(), StepError> {
        let path = self.plan.target();
        let failed = |path: &str, error: std::io::Error| StepError::new(call("umount2", &[path]), error);
        let top = self.approved.ok_or_else(|| StepError::new(call("umount2", &[path]), "no target is held"))?;
        if !top.is_mount_root {
            return Err(StepError::new(call("umount2", &[path]), format!("{path} isn't a mount point")));
        }
        let mut places = vec![(path.to_owned(), top)];
        // A lazy umount takes everything below along, all at once.
        if mode.recursive && !mode.lazy {
            places.extend(self.mounts_below(&top).map_err(|error| failed(path, error))?);
            // A mount that was moved can be older than the one that it's below: deeper ones come later, and of those at
            // one place the youngest.
            places.sort_by_key(|(path, _)| path.len());
        }
        self.commit(|| call("umount2", &[path]))?;
        for (path, identity) in places.into_iter().rev() {
            self.unmount_one(&path, &identity, mode, undos).map_err(|error| failed(&path, error))?;
        }
        Ok(())
    }

    /// Unmounts by the name in the folder that holds the mount point: a descriptor of the mount itself would keep it
    /// busy.
    fn unmount_one(
        &self,
        path: &str,
        identity: &Identity,
        mode: UnmountMode,
        undos: &mut Vec<Undo>,
    ) -> std::io::Result<()> {
        let place = self.host.place(path)?;
        if !place.identity()?.is_same_mount(identity) {
            return Err(std::io::Error::other("another mount is there by now than was approved"));
        }
        // What is taken away one after the other can be put back as long as a copy is kept.
        let clone =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        let is_copied = mode.recursive && !mode.lazy;
        let copy = is_copied.then(|| open_tree(&place.folder, place.name.as_c_str(), clone));
        let mut flags = UnmountFlags::NOFOLLOW;
        flags.set(UnmountFlags::DETACH, mode.lazy);
        flags.set(UnmountFlags::FORCE, mode.force);
        fchdir(&place.folder)?;
        let result = unmount(place.name.as_c_str(), flags);
        fchdir(self.host.root())?;
        result?;
        // An unbindable mount can't be copied, and so not put back.
        undos.extend(copy.map(|copy| Undo::Attach { mount: copy.ok(), path: path.to_owned() }));
        match self.find(identity)? {
            // Before Linux 6.8 the id may be another mount's by now.
            Some(found) if found.target == path => Err(std::io::Error::other("it's still mounted")),
            _ => Ok(()),
        }
    }

    /// All mounts below one, in the order in which they were made, with their mount points.
    pub(super) fn mounts_below(&self, top: &Identity) -> std::io::Result<Vec<(String, Identity)>> {
        if let Some(id) = top.unique_id {
            match statmount::below(id, None) {
                Ok(ids) => return ids.into_iter().map(|id| self.by_unique_id(id)).collect(),
                Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {}
                Err(error) => return Err(error),
            }
        }
        let table = self.table()?;
        let below = table.descendants(top.id);
        Ok(below.map(|mount| (mount.to_text().target, Identity::of_mount(None, mount.id()))).collect())
    }

    pub(super) fn source(&self) -> Result<BorrowedFd<'_>, StepError> {
        self.source.as_ref().map(AsFd::as_fd).ok_or_else(|| StepError::new("openat2".to_owned(), "no source is held"))
    }

    pub(super) fn target(&self) -> Result<BorrowedFd<'_>, StepError> {
        self.target.as_ref().map(AsFd::as_fd).ok_or_else(|| StepError::new("openat2".to_owned(), "no target is held"))
    }
}

/// Puts a mount on what a descriptor stands for.
pub(super) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// Changes the file system behind a mount.
pub(super) fn reconfigure(
    target: BorrowedFd<'_>,
    parameters: &[MountOption],
    line: impl Fn() -> String,
) -> Result<(), StepError> {
    let context = fspick(target, "", FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH)
        .map_err(|errno| StepError::new(line(), not_a_mount_point(errno.into())))?;
    configure(&context, parameters)?;
    fsconfig_reconfigure(&context)
        .map_err(|errno| told(&context, call("fsconfig", &["FSCONFIG_CMD_RECONFIGURE"]), errno))
}

pub(super) fn propagate(target: BorrowedFd<'_>, to: Propagation) -> std::io::Result<()> {
    // `MS_…` of mount(2), which mount_setattr(2) takes here.
    let propagation = match to.kind {
        PropagationType::Shared => 1 << 20,
        PropagationType::Slave => 1 << 19,
        PropagationType::Private => 1 << 18,
        PropagationType::Unbindable => 1 << 17,
    };
    mount_setattr(target, to.recursive, &MountAttr { propagation, ..MountAttr::default() })
}

/// See `fs/fsopen.c` of the kernel.
const MAX_VALUE: usize = 255;

fn configure(context: &OwnedFd, parameters: &[MountOption]) -> Result<(), StepError> {
    for option in parameters {
        if option.value.as_ref().is_some_and(|value| value.len() > MAX_VALUE) {
            let reason = format!("its value is longer than the {MAX_VALUE} bytes that fsconfig(2) takes");
            return Err(StepError::new(parameter(option), reason));
        }
        match &option.value {
            Some(value) => fsconfig_set_string(context, option.name.as_str(), value.as_str()),
            None => fsconfig_set_flag(context, option.name.as_str()),
        }
        .map_err(|errno| told(context, parameter(option), errno))?;
    }
    Ok(())
}

/// A failed call on a context, with what the context says about it.
fn told(context: &OwnedFd, call: String, errno: Errno) -> StepError {
    let mut words = errno.to_string();
    let mut buffer = [0; 1024];
    // One read a message, until there are no more.
    while let Ok(n @ 1..) = rustix::io::read(context, &mut buffer) {
        // Behind `e ` for an error, `w ` for a warning, `i ` for information.
        let message = super::process::words(buffer.get(2..n).unwrap_or_default());
        words.push_str("; ");
        words.push_str(&message);
    }
    StepError::new(call, words)
}

/// `EINVAL` is what the kernel says of a path that isn't the root of a mount.
fn not_a_mount_point(error: std::io::Error) -> String {
    match error.raw_os_error() {
        Some(nix::libc::EINVAL) => format!("{error}; is it a mount point of the host's?"),
        _ => error.to_string(),
    }
}
