//! Looks at what is mounted after a step, by the mount's own id, and compares it with what was approved: that a call
//! returned without an error proves nothing.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::mount::{OpenTreeFlags, open_tree};

use super::undo::Undo;
use super::{Site, StepError};
use crate::identity::Identity;
use crate::mount_table::{MountTable, MountText, statmount};
use crate::options::MountOption;
use crate::plan::{Attributes, HelperMount, call};
use crate::request::{Propagation, PropagationType};
use crate::resolve::FileKind;

/// A mount as the host's kernel shows it.
pub(super) struct Seen {
    pub(super) identity: Identity,
    pub(super) mount: MountText,
}

impl Site<'_> {
    pub(super) fn table(&self) -> io::Result<MountTable> {
        self.host.mount_table().map_err(io::Error::other)
    }

    /// The mount that a descriptor lies on.
    pub(super) fn look_at(&self, fd: BorrowedFd<'_>) -> io::Result<Seen> {
        let identity = Identity::of(fd)?;
        match self.find(&identity)? {
            Some(mount) => Ok(Seen { identity, mount }),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the mount isn't in the host's table")),
        }
    }

    /// The mount by its own id, or by that of mountinfo where the kernel is older.
    pub(super) fn find(&self, identity: &Identity) -> io::Result<Option<MountText>> {
        if let Some(id) = identity.unique_id {
            match statmount::mount(id, None) {
                Ok(table) => return Ok(table.iter().next().map(|mount| mount.to_text())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.table()?.by_id(identity.id).map(|mount| mount.to_text()))
    }

    /// A mount by its 64-bit id, with its mount point.
    pub(super) fn by_unique_id(&self, id: u64) -> io::Result<(String, Identity)> {
        let table = match statmount::mount(id, None) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return self.by_unique_id_in_table(id),
            table => table?,
        };
        let mount = table.iter().next().ok_or(io::ErrorKind::NotFound)?;
        Ok((mount.to_text().target, Identity::of_mount(Some(id), mount.id())))
    }

    /// For a kernel that tells ids and not all the rest (before Linux 6.13), or a mount without a source.
    fn by_unique_id_in_table(&self, id: u64) -> io::Result<(String, Identity)> {
        let old = statmount::old_id(id)?;
        let table = self.table()?;
        let mount = table.by_id(old).ok_or(io::ErrorKind::NotFound)?;
        Ok((mount.to_text().target, Identity::of_mount(Some(id), old)))
    }

    /// A new mount of a file system: its type, source, root, flags and place. It's left to the undos whatever it is.
    pub(super) fn verify_mount(
        &self,
        fstype: &str,
        source: &str,
        attributes: Attributes,
        undos: &mut Vec<Undo>,
        mount: OwnedFd,
    ) -> Result<Option<u64>, StepError> {
        let seen = self.seen_new(undos, mount)?;
        let found = &seen.mount;
        let mut differs = Differences::default();
        differs.compare("type", &found.fstype, fstype);
        let is_device = self.plan.found_source().is_some_and(|found| found.kind == FileKind::BlockDevice);
        // The device was compared before the mount was shown; its name is what the file system makes of it.
        if !is_device {
            differs.compare("source", &found.source, source);
        }
        // A subvolume is a root of its own.
        if fstype != "btrfs" {
            differs.compare("root", &found.root, "/");
        }
        differs.compare("place", &found.target, self.plan.target());
        differs.parent(found, &self.target_identity()?);
        differs.flags(found, attributes);
        differs.done()?;
        Ok(seen.identity.unique_id)
    }

    fn target_identity(&self) -> Result<Identity, StepError> {
        Identity::of(self.target()?).map_err(|error| StepError::new(call("statx", &[self.plan.target()]), error))
    }

    /// The mounts that are there before a program runs.
    pub(super) fn before(&self) -> io::Result<Before> {
        // Ids only grow: that of a mount that is made now is larger than all there are.
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let target = self.target().map_err(|error| io::Error::other(error.reason))?;
        let newest = open_tree(target, "", flags).map(|copy| Identity::of(copy.as_fd()));
        match newest {
            Ok(Ok(Identity { unique_id: Some(id), .. })) => Ok(Before::Newest(id)),
            _ => Ok(Before::Table(self.table()?.iter().map(|mount| mount.id()).collect())),
        }
    }

    /// A copy of the source: its root, flags and place, and with `recursive` the flags of all below it.
    pub(super) fn verify_bind(
        &self,
        recursive: bool,
        attributes: Attributes,
        undos: &mut Vec<Undo>,
        mount: OwnedFd,
    ) -> Result<Option<u64>, StepError> {
        let seen = self.seen_new(undos, mount)?;
        let failed = |error: io::Error| StepError::new("verify".to_owned(), error);
        let mut differs = Differences::default();
        let source = Identity::of(self.source()?).map_err(failed)?;
        if !seen.identity.is_same_file(&source) {
            differs.add(format!("its root {} isn't the source", seen.mount.root));
        }
        differs.compare("place", &seen.mount.target, self.plan.target());
        differs.parent(&seen.mount, &self.target_identity()?);
        differs.flags(&seen.mount, attributes);
        if recursive && !attributes.tightening().is_empty() {
            for (_, identity) in self.mounts_below(&seen.identity).map_err(failed)? {
                if let Some(below) = self.find(&identity).map_err(failed)? {
                    differs.flags(&below, attributes.tightening());
                }
            }
        }
        differs.done()?;
        Ok(seen.identity.unique_id)
    }

    /// What a helper mounted: a mount that wasn't there, on the very mount that was pinned, of the type, with the flags.
    pub(super) fn verify_helper(
        &self,
        wanted: &HelperMount,
        attributes: Attributes,
        before: &Before,
        undos: &mut Vec<Undo>,
    ) -> Result<Option<u64>, StepError> {
        let failed = |error: io::Error| StepError::new("verify".to_owned(), error);
        let pinned = Identity::of(self.target()?).map_err(failed)?;
        let there = self.host.place(&wanted.target).and_then(|place| place.open()).map_err(failed)?;
        let identity = Identity::of(there.as_fd()).map_err(failed)?;
        // Nothing but a mount that is newer than the program's run may be taken away for it.
        if identity.is_same_mount(&pinned) || before.has(&identity) {
            return Err(StepError::new("verify".to_owned(), format!("nothing new is mounted on {}", wanted.target)));
        }
        let seen = self.seen_new(undos, there)?;
        let mut differs = Differences::default();
        let found = &seen.mount;
        // A helper may know better: mount.nfs makes nfs4, and FUSE types end up as what the daemon calls itself.
        let is_fuse = wanted.helper && found.fstype.starts_with("fuse");
        if !is_fuse && !found.fstype.starts_with(&wanted.fstype) {
            differs.compare("type", &found.fstype, &wanted.fstype);
        }
        differs.parent(found, &pinned);
        differs.compare("place", &found.target, &wanted.target);
        differs.flags(found, attributes.tightening());
        differs.done()?;
        Ok(seen.identity.unique_id)
    }

    /// Looks a new mount up, and has it taken away if anything is wrong with it.
    fn seen_new(&self, undos: &mut Vec<Undo>, mount: OwnedFd) -> Result<Seen, StepError> {
        let seen = self.look_at(mount.as_fd());
        undos.push(Undo::Detach(mount));
        seen.map_err(|error| StepError::new(call("statmount", &[self.plan.target()]), error))
    }

    pub(super) fn verify_attributes(&self, attributes: Attributes, line: impl Fn() -> String) -> Result<(), StepError> {
        let seen = self.look_at(self.target()?).map_err(|error| StepError::new(line(), error))?;
        let mut differs = Differences::default();
        differs.flags(&seen.mount, attributes);
        differs.done()
    }

    pub(super) fn verify_super(&self, parameters: &[MountOption]) -> Result<(), StepError> {
        let seen = self.look_at(self.target()?).map_err(|error| StepError::new("statmount".to_owned(), error))?;
        let mut differs = Differences::default();
        let wanted = parameters.iter().rev().find(|option| matches!(option.name.as_str(), "ro" | "rw"));
        if let (Some(wanted), Some(found)) = (wanted, seen.mount.super_options.first()) {
            differs.compare("file system", found, &wanted.name);
        }
        differs.done()
    }

    pub(super) fn verify_moved(&self, line: impl Fn() -> String) -> Result<(), StepError> {
        let seen = self.look_at(self.source()?).map_err(|error| StepError::new(line(), error))?;
        let mut differs = Differences::default();
        differs.compare("place", &seen.mount.target, self.plan.target());
        differs.parent(&seen.mount, &self.target_identity()?);
        differs.done()
    }

    pub(super) fn verify_propagation(&self, to: Propagation, line: impl Fn() -> String) -> Result<(), StepError> {
        let seen = self.look_at(self.target()?).map_err(|error| StepError::new(line(), error))?;
        let found = propagation_of(&seen.mount.optional_fields);
        let mut differs = Differences::default();
        // A mount without peers has no master to become, and stays as it was.
        let is_lone = matches!(found, PropagationType::Private | PropagationType::Unbindable);
        let is_lone_slave = to.kind == PropagationType::Slave && is_lone;
        if !is_lone_slave {
            differs.compare("propagation", found.name(), to.kind.name());
        }
        differs.done()
    }

    /// Whether a mount that nobody sees yet is of the device that was pinned: the kernel looked for it by its name.
    pub(super) fn check_device(&self, fstype: &str, source: &str, mount: &OwnedFd) -> Result<(), StepError> {
        let failed = |reason: String| StepError::new(call("fsconfig", &["source", source]), reason);
        let Some(found) = self.plan.found_source().filter(|found| found.kind == FileKind::BlockDevice) else {
            // What was no device when it was approved mustn't be one by now.
            return match self.host.is_mounted_from_a_device(fstype) {
                true => Err(failed("it was no block device when it was approved".to_owned())),
                false => Ok(()),
            };
        };
        let mounted = Identity::of(mount.as_fd()).map_err(|error| failed(error.to_string()))?.device;
        let is_same = match mounted.major {
            // A file system with a number of its own, as btrfs: then nobody may be able to swap the name.
            0 => self.host.is_roots_alone(&found.path),
            _ => Some(mounted) == found.device,
        };
        match is_same {
            true => Ok(()),
            false => Err(failed("another device was there by then than was approved, or could have been".to_owned())),
        }
    }
}

/// What was mounted before a program ran.
pub(super) enum Before {
    /// No mount that was there has a larger 64-bit id.
    Newest(u64),
    /// The ids in mountinfo, where the kernel has no such ids.
    Table(HashSet<u64>),
}

impl Before {
    fn has(&self, identity: &Identity) -> bool {
        match (self, identity.unique_id) {
            (Self::Newest(newest), Some(id)) => id <= *newest,
            (Self::Newest(_), None) => true,
            (Self::Table(ids), _) => ids.contains(&identity.id),
        }
    }
}

/// What the optional fields of mountinfo say.
pub(super) fn propagation_of(fields: &[String]) -> PropagationType {
    let has = |prefix: &str| fields.iter().any(|field| field.starts_with(prefix));
    if has("unbindable") {
        PropagationType::Unbindable
    } else if has("shared:") {
        PropagationType::Shared
    } else if has("master:") {
        PropagationType::Slave
    } else {
        PropagationType::Private
    }
}

/// What differs between what is mounted and what was approved.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn add(&mut self, difference: String) {
        self.0.push(difference);
    }

    fn compare(&mut self, what: &str, found: &str, approved: &str) {
        if found != approved {
            self.add(format!("its {what} is {} where {} was approved", found.escape_debug(), approved.escape_debug()));
        }
    }

    /// A mount that lies on another one than its target did is where somebody else mounted meanwhile.
    fn parent(&mut self, found: &MountText, target: &Identity) {
        if found.parent != target.id {
            self.add("it isn't on the mount that was approved".to_owned());
        }
    }

    fn flags(&mut self, found: &MountText, approved: Attributes) {
        let bits = Attributes::bits_of(found.options.iter().map(|word| word.as_bytes().into()));
        if !approved.hold_for(bits) {
            let (target, options) = (&found.target, found.options.join(","));
            self.add(format!("{} has the flags {options} where {approved} was approved", target.escape_debug()));
        }
    }

    fn done(self) -> Result<(), StepError> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(StepError::new(
                "verify".to_owned(),
                format!("what is mounted isn't what was approved: {}", self.0.join("; ")),
            )),
        }
    }
}
