//! Compares what is mounted after a step with what was approved, by the mount's own id. That a call returned without an
//! error proves nothing.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::carried::{self, Before};
use super::execution::Execution;
use super::failure::StepError;
use super::lookup::{self, Below, FoundMount};
use super::mount_api::propagation_of;
use super::mount_source::Source;
use super::undo::Undo;
use crate::host::identity::Identity;
use crate::model::ends::FileKind;
use crate::model::location::{Device, Location};
use crate::model::options::MountOption;
use crate::model::request::{Propagation, PropagationType};
use crate::model::untrusted::for_people;
use crate::mount_table::mount::MountText;
use crate::plan::attributes::Attributes;
use crate::plan::call::call;
use crate::plan::helper_mount::HelperMount;

/// A new mount of a file system: its type, source, root, flags and place. An undo for it is added even if it differs.
pub(super) fn mount(
    execution: &Execution<'_>,
    fstype: &str,
    source: &str,
    (attributes, is_mapped): (Attributes, bool),
    undos: &mut Vec<Undo>,
    mount: OwnedFd,
) -> Result<Option<u64>, StepError> {
    let FoundMount { identity, mount: found } = find_new(execution, undos, mount)?;
    let mut differs = Differences::default();
    differs.compare("type", &found.fstype, fstype);
    let is_named = execution
        .plan
        .found_source()
        .is_none_or(|found| !matches!(found.kind, FileKind::BlockDevice | FileKind::Regular));
    // A device was compared before the mount was shown. The file system chooses the name that is shown for it.
    // Some types take no source, whatever they are given.
    if is_named && found.source != "none" {
        differs.compare("source", &found.source, source);
    }
    // A subvolume is a root of its own.
    if fstype != "btrfs" {
        differs.compare("root", &found.root, "/");
    }
    differs.compare("mount point", &found.target, execution.plan.target());
    differs.parent(&found, &target_identity(execution)?);
    differs.flags(&found, attributes);
    differs.owners(&found, is_mapped);
    if let Some(named) = execution.plan.named_propagation() {
        differs.propagation(&found, named.kind);
    }
    differs.done()?;
    Ok(identity.unique_id)
}

fn target_identity(execution: &Execution<'_>) -> Result<Identity, StepError> {
    Identity::of(execution.target()?).map_err(|error| StepError::new(call("statx", &[execution.plan.target()]), error))
}

/// A copy of the source: its root, flags and mount point, that it's no peer, and with `recursive` the flags of all below.
pub(super) fn bind(
    execution: &Execution<'_>,
    recursive: bool,
    asked: Propagation,
    (attributes, is_mapped): (Attributes, bool),
    undos: &mut Vec<Undo>,
    mount: OwnedFd,
) -> Result<Option<u64>, StepError> {
    let found = find_new(execution, undos, mount)?;
    let failed = |error: io::Error| StepError::new(verify(), error);
    let mut differs = Differences::default();
    let source = Identity::of(execution.source()?).map_err(failed)?;
    if !found.identity.is_same_file(&source) {
        differs.add(format!("its root {} isn't the source", found.mount.root));
    }
    differs.compare("mount point", &found.mount.target, execution.plan.target());
    differs.parent(&found.mount, &target_identity(execution)?);
    differs.flags(&found.mount, attributes);
    differs.owners(&found.mount, is_mapped);
    if let Some(named) = execution.plan.named_propagation() {
        differs.propagation(&found.mount, named.kind);
    }
    let source_mount = lookup::at(execution, execution.source()?).map_err(failed)?;
    let may_tell = asked.kind == PropagationType::Shared;
    if !may_tell {
        differs.peer(&found.mount, &peer_groups([&source_mount.mount]));
    }
    if recursive {
        let copies = below(execution, &found.identity).map_err(failed)?;
        let mut new: HashSet<u64> = copies.iter().map(|copy| copy.id).collect();
        new.insert(found.mount.id);
        // Where the target lies within the source, the copies lie below the source as well.
        let originals = below(execution, &source_mount.identity).map_err(failed)?;
        let groups = peer_groups(originals.iter().filter(|mount| !new.contains(&mount.id)));
        let judged = execution.plan.brought_along();
        for copy in &copies {
            // What is mounted in a folder may have changed since that was judged.
            let device = Device { major: copy.major, minor: copy.minor };
            let shown = Location { device, path: copy.root.clone() };
            if judged.as_ref().is_some_and(|judged| !judged.contains(&shown)) {
                let what = format!("{} came along, which wasn't mounted there", for_people(&copy.target));
                return Err(StepError::outdated(verify(), what));
            }
            differs.flags(copy, attributes.tightening());
            if let Some(named) = execution.plan.named_propagation().filter(|named| named.recursive) {
                differs.propagation(copy, named.kind);
            }
            if !may_tell {
                differs.peer(copy, &groups);
            }
        }
    }
    differs.done()?;
    Ok(found.identity.unique_id)
}

fn verify() -> String {
    "verify".to_owned()
}

/// All mounts below one, as they are.
fn below(execution: &Execution<'_>, top: &Identity) -> io::Result<Vec<MountText>> {
    let mounts = lookup::mounts_below(execution, top)?;
    let found = mounts.iter().map(|below| lookup::find(execution, &below.identity));
    Ok(found.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The peer groups of mounts, as mountinfo names them.
fn peer_groups<'m>(mounts: impl IntoIterator<Item = &'m MountText>) -> HashSet<&'m str> {
    let fields = mounts.into_iter().flat_map(|mount| &mount.optional_fields);
    fields.map(String::as_str).filter(|field| field.starts_with("shared:")).collect()
}

/// What a helper mounted: a mount that wasn't there, on the very mount that was pinned, of the type, with the flags.
pub(super) fn helper(
    execution: &Execution<'_>,
    wanted: &HelperMount,
    attributes: Attributes,
    before: &Before,
    undos: &mut Vec<Undo>,
) -> Result<Option<u64>, StepError> {
    let failed = |error: io::Error| StepError::new(verify(), error);
    let pinned = Identity::of(execution.target()?).map_err(failed)?;
    let there = execution.host.place(&wanted.target).and_then(|place| place.open()).map_err(failed)?;
    let identity = Identity::of(there.as_fd()).map_err(failed)?;
    // An undo may only unmount a mount that was made after the program was started.
    if identity.is_same_mount(&pinned) || before.has(&identity) {
        return Err(StepError::new(verify(), format!("nothing new is mounted on {}", wanted.target)));
    }
    let FoundMount { identity, mount: found } = find_new(execution, undos, there)?;
    let below = new_below(execution, &found, &pinned, before).map_err(failed)?;
    let Some(below) = below.filter(|_| found.target == wanted.target) else {
        // It isn't the helper's: it stays.
        undos.pop();
        return Err(StepError::new(verify(), format!("something else is mounted over {} by now", wanted.target)));
    };
    if !below.is_empty() {
        // They come to light when the one above them is gone.
        undos.insert(undos.len() - 1, Undo::DetachBelow(below));
    }
    let mut differs = Differences::default();
    // A helper may know better: mount.nfs makes nfs4, and FUSE types end up as what the daemon calls itself.
    let is_fuse = wanted.helper && found.fstype.starts_with("fuse");
    if !is_fuse && !found.fstype.starts_with(&wanted.makes) {
        differs.compare("type", &found.fstype, &wanted.makes);
        if wanted.helper {
            differs.add(format!(
                "if mount.{} may do that, write \"{}={}\" in [host] helpers",
                wanted.fstype, wanted.fstype, found.fstype
            ));
        }
    }
    differs.parent(&found, &pinned);
    differs.compare("mount point", &found.target, &wanted.target);
    differs.flags(&found, attributes.tightening());
    differs.done()?;
    carried::check(execution, before, found.id, verify)?;
    Ok(identity.unique_id)
}

/// The mountinfo ids of the new mounts between a mount and the pinned one, all on the same target, from the top. Nothing where it's mounted
/// on something else.
fn new_below(
    execution: &Execution<'_>,
    top: &MountText,
    pinned: &Identity,
    before: &Before,
) -> io::Result<Option<Vec<u64>>> {
    let mut below = Vec::new();
    if top.parent == pinned.id {
        return Ok(Some(below));
    }
    let (new, table) = (before.new_mounts(execution)?, lookup::table(execution)?);
    let mut next = top.parent;
    while next != pinned.id {
        let mount = table.by_id(next).map(|mount| mount.to_text());
        let Some(mount) = mount.filter(|mount| new.contains(&mount.id) && mount.target == top.target) else {
            return Ok(None);
        };
        if below.len() > table.len() {
            return Ok(None);
        }
        below.push(mount.id);
        next = mount.parent;
    }
    Ok(Some(below))
}

/// Looks a new mount up, and has it taken away if anything is wrong with it.
fn find_new(execution: &Execution<'_>, undos: &mut Vec<Undo>, mount: OwnedFd) -> Result<FoundMount, StepError> {
    let found = lookup::at(execution, mount.as_fd());
    undos.push(Undo::Detach(mount));
    found.map_err(|error| StepError::new(call("statmount", &[execution.plan.target()]), error))
}

pub(super) fn attributes(
    execution: &Execution<'_>,
    attributes: Attributes,
    line: impl Fn() -> String,
) -> Result<(), StepError> {
    let found = lookup::at(execution, execution.target()?).map_err(|error| StepError::new(line(), error))?;
    let mut differs = Differences::default();
    differs.flags(&found.mount, attributes);
    differs.done()
}

pub(super) fn super_options(execution: &Execution<'_>, parameters: &[MountOption]) -> Result<(), StepError> {
    let found =
        lookup::at(execution, execution.target()?).map_err(|error| StepError::new("statmount".to_owned(), error))?;
    let mut differs = Differences::default();
    let wanted = parameters.iter().rev().find(|option| matches!(option.name.as_str(), "ro" | "rw"));
    if let (Some(wanted), Some(found)) = (wanted, found.mount.super_options.first()) {
        differs.compare("file system", found, &wanted.name);
    }
    differs.done()
}

pub(super) fn moved(execution: &Execution<'_>, line: impl Fn() -> String) -> Result<(), StepError> {
    let found = lookup::at(execution, execution.source()?).map_err(|error| StepError::new(line(), error))?;
    let mut differs = Differences::default();
    differs.compare("mount point", &found.mount.target, execution.plan.target());
    differs.parent(&found.mount, &target_identity(execution)?);
    differs.done()
}

pub(super) fn propagation(
    execution: &Execution<'_>,
    to: Propagation,
    below: &[Below],
    line: impl Fn() -> String,
) -> Result<(), StepError> {
    let found = lookup::at(execution, execution.target()?).map_err(|error| StepError::new(line(), error))?;
    let mut differs = Differences::default();
    differs.propagation(&found.mount, to.kind);
    // Those that others have mounted meanwhile weren't meant.
    for mount in below {
        let found = lookup::find(execution, &mount.identity).map_err(|error| StepError::new(line(), error))?;
        found.iter().for_each(|mount| differs.propagation(mount, to.kind));
    }
    differs.done()
}

/// Compares the device of a mount that isn't shown yet with the device that was pinned: the kernel found it by its name.
pub(super) fn device(
    execution: &Execution<'_>,
    fstype: &str,
    source: &Source,
    mount: &OwnedFd,
) -> Result<(), StepError> {
    let failed = |reason: String| StepError::new(call("fsconfig", &["source", source.name()]), reason);
    let found = execution.plan.found_source();
    let (path, approved) = match (source, found) {
        (Source::Loop(device), _) => (None, Some(device.number)),
        (Source::Name(_), Some(found)) if found.kind == FileKind::BlockDevice => (Some(&found.path), found.device),
        // The kernel was given the file itself.
        (Source::Name(_), Some(found)) if found.kind == FileKind::Regular => return Ok(()),
        // The source was no device when it was approved, and it must not be one now.
        _ => {
            return match execution.host.file_systems().is_mounted_from_device(fstype) {
                true => Err(failed("it was no block device when it was approved".to_owned())),
                false => Ok(()),
            };
        }
    };
    let mounted = Identity::of(mount.as_fd()).map_err(|error| failed(error.to_string()))?.device;
    let is_same = match mounted.major {
        // The file system has a number of its own, as btrfs has. Then only root may be able to swap the name.
        0 => path.is_none_or(|path| execution.host.only_root_can_replace(path)),
        _ => Some(mounted) == approved,
    };
    match is_same {
        true => Ok(()),
        false => Err(failed(
            "another device was there than the approved one, or nothing proves that it's the same".to_owned(),
        )),
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
            self.add(format!("its {what} is {} where {} was approved", for_people(found), for_people(approved)));
        }
    }

    /// The new mount must lie on the mount that its target lay on. Otherwise something was mounted there meanwhile.
    fn parent(&mut self, found: &MountText, target: &Identity) {
        if found.parent != target.id {
            self.add("it isn't on the mount that was approved".to_owned());
        }
    }

    fn flags(&mut self, found: &MountText, approved: Attributes) {
        let bits = Attributes::bits_of(&found.options);
        if !approved.hold_for(bits) {
            let (target, options) = (&found.target, found.options.join(","));
            self.add(format!("{} has the flags {options} where {approved} was approved", for_people(target)));
        }
    }

    fn propagation(&mut self, found: &MountText, approved: PropagationType) {
        let kind = propagation_of(&found.optional_fields);
        // A mount without peers has no master to become, and stays as it was.
        let is_lone = matches!(kind, PropagationType::Private | PropagationType::Unbindable);
        if !(approved == PropagationType::Slave && is_lone) {
            self.compare("propagation", kind.name(), approved.name());
        }
    }

    /// The kernel shows that owners are mapped, and not how.
    fn owners(&mut self, found: &MountText, is_mapped: bool) {
        if is_mapped && !found.options.iter().any(|option| option == "idmapped") {
            self.add(format!("the owners on {} aren't mapped", for_people(&found.target)));
        }
    }

    /// A copy that is a peer of an original would tell it what is mounted on the copy.
    fn peer(&mut self, copy: &MountText, groups: &HashSet<&str>) {
        if let Some(group) = copy.optional_fields.iter().find(|field| groups.contains(field.as_str())) {
            self.add(format!("{} is a peer of its source ({group})", for_people(&copy.target)));
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
