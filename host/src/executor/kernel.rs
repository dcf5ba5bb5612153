//! The operations of a plan on descriptors: a mount is made or copied out of sight, gets its final flags, and is shown in one
//! step. See fsopen(2), fsmount(2), open_tree(2), mount_setattr(2), move_mount(2).

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, open_tree,
};
use rustix::process::{Resource, Rlimit, fchdir, getrlimit, setrlimit};

use super::carried::{self, Before};
use super::closed_root::ClosedRoot;
use super::execution::Execution;
use super::failure::StepError;
use super::lookup::{self, Below, FoundMount};
use super::mount_api::{
    self, explained, not_a_mount_point, not_made, not_moved, not_shown, propagate, propagation_bit, propagation_of,
    wait_until_free, with_cause_and_log, with_context_log,
};
use super::mount_source::Source;
use super::undo::Undo;
use super::verify;
use super::{id_map, layers, loop_device, singleton};
use crate::host::identity::Identity;
use crate::host::place::Place;
use crate::model::ends::FileKind;
use crate::model::location::Device;
use crate::model::options::MountOption;
use crate::model::own_options::IdMap;
use crate::model::request::{Propagation, PropagationType, UnmountMode};
use crate::model::untrusted::for_people;
use crate::mount_table::escape::path_to_text;
use crate::plan::attributes::Attributes;
use crate::plan::call::call;
use crate::sys::{MountAttr, fsconfig_create_exclusive, mount_setattr};

/// A mount of a file system, shown at the target.
pub(super) fn mount(
    execution: &Execution<'_>,
    fstype: &str,
    source: &Source,
    parameters: &[MountOption],
    attributes: Attributes,
    (id_map, propagation): (Option<&IdMap>, Option<Propagation>),
    undos: &mut Vec<Undo>,
) -> Result<OwnedFd, StepError> {
    let name = source.name();
    singleton::check_type(execution, fstype)?;
    // A journal or a log may be on a device of its own.
    let in_options = execution.plan.option_paths().iter().map(|path| &path.found.found);
    let written = execution.plan.found_source().into_iter().chain(in_options);
    for device in written.filter(|found| found.kind == FileKind::BlockDevice).filter_map(|found| found.device) {
        loop_device::check_alone(execution, device, || call("fsopen", &[fstype]))?;
    }
    let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| {
        let unknown = || {
            format!(
                "the host's kernel doesn't know the file system type {fstype}: load its module (modprobe {fstype}) or install it"
            )
        };
        StepError::new(call("fsopen", &[fstype]), explained(errno, (errno == Errno::NODEV).then(unknown)))
    })?;
    fsconfig_set_string(&context, "source", name).map_err(|errno| {
        let is_long = name.len() > mount_api::MAX_VALUE;
        let cause =
            is_long.then(|| format!("it's longer than the {} bytes that fsconfig(2) takes", mount_api::MAX_VALUE));
        with_cause_and_log(&context, call("fsconfig", &["source", name]), errno, cause)
    })?;
    let is_exclusive = must_be_new(execution, fstype, parameters).map_err(|reason| {
        StepError::new(call("fsconfig", &["FSCONFIG_CMD_CREATE", fstype, name]), (reason, Errno::BUSY))
    })?;
    // To make it would already change what another one works with.
    layers::check_alone(execution, || call("fsconfig", &["FSCONFIG_CMD_CREATE", fstype, name]))?;
    let create = || create(&context, is_exclusive).map_err(|errno| not_created(&context, fstype, name, errno));
    match source.pinned(execution)? {
        // What is in a device or in an image may name others.
        Some(pin) => {
            let line = || call("fsconfig", &["source", name]);
            let in_options = execution.plan.option_paths().iter().map(|path| &path.found).filter_map(|found| {
                Some((found.found.path.as_str(), found.pin.as_ref()?.as_fd(), found.found.kind == FileKind::Directory))
            });
            let closed = ClosedRoot::of(in_options.chain([(name, pin, false)]));
            let not_closed = |error: io::Error| {
                StepError::new(
                    line(),
                    format!("no root can be made in which the kernel finds only what was judged: {error}"),
                )
            };
            let closed = closed.map_err(not_closed)?;
            let watch = execution.watch;
            let made = closed.run(|| {
                // If the kernel doesn't answer, it's this thread that waits.
                watch.begin();
                mount_api::configure(&context, parameters)?;
                create()
            });
            watch.begin();
            made.map_err(not_closed)??;
        }
        None => {
            layers::configure(execution, fstype, &context, parameters)?;
            create()?;
        }
    }
    let flags = MountAttrFlags::from_bits_retain(u32::try_from(attributes.set).unwrap_or(u32::MAX));
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
        .map_err(|errno| with_context_log(&context, call("fsmount", &[&attributes.to_string()]), errno))?;
    verify::device(execution, fstype, source, &mount)?;
    id_map.map_or(Ok(()), |map| id_map::apply(&mount, false, map))?;
    let last_look = |mount: &OwnedFd| singleton::check_mount(execution, fstype, mount);
    let mount = show(execution, mount, false, last_look, undos)?;
    set_named_propagation(execution, mount, propagation, undos)
}

/// Whether a file system must not be mounted yet: it would be shared, with the options that it has, and where others are asked for, that would
/// be a lie.
///
/// # Errors
/// Why it would be, where it's mounted.
fn must_be_new(execution: &Execution<'_>, fstype: &str, parameters: &[MountOption]) -> Result<bool, String> {
    // What of the file system is shown is no option of the whole.
    let is_of_all = |option: &&MountOption| !matches!(option.name.as_str(), "ro" | "subvol" | "subvolid");
    let is_asked =
        |option: &&MountOption| execution.plan.request().options.iter().any(|asked| asked.name == option.name);
    let mut asked = parameters.iter().filter(is_of_all).filter(is_asked).peekable();
    match mounted_with(execution) {
        Some(options) => {
            // The kernel may tell more of a value than was asked for, as in `compress=zstd:3`.
            let is_shown = |option: &MountOption| {
                let rest = |has: &String| has.strip_prefix(&option.to_string()).map(str::to_owned);
                options
                    .iter()
                    .filter_map(rest)
                    .any(|rest| rest.is_empty() || option.value.is_some() && rest.starts_with(':'))
            };
            match asked.find(|option| !is_shown(option)) {
                None => Ok(false),
                Some(option) => Err(format!(
                    "it's mounted already, as ({}), and would be shared without {}: ask for the same, or bind it",
                    for_people(&options.join(",")),
                    for_people(&option.masked().to_string())
                )),
            }
        }
        None => Ok(asked.peek().is_some() && execution.host.file_systems().is_mounted_from_device(fstype)),
    }
}

/// Makes the file system.
fn create(context: &OwnedFd, is_exclusive: bool) -> rustix::io::Result<()> {
    if !is_exclusive {
        return fsconfig_create(context);
    }
    match fsconfig_create_exclusive(context.as_fd()) {
        Ok(()) => Ok(()),
        Err(error) => match Errno::from_io_error(&error).unwrap_or(Errno::IO) {
            // A kernel before Linux 6.6.
            Errno::OPNOTSUPP | Errno::NOSYS => fsconfig_create(context),
            errno => Err(errno),
        },
    }
}

fn not_created(context: &OwnedFd, fstype: &str, name: &str, errno: Errno) -> StepError {
    let line = call("fsconfig", &["FSCONFIG_CMD_CREATE", fstype, name]);
    with_cause_and_log(context, line, errno, not_made(fstype, errno))
}

/// The options of the file system on the device that is to be mounted, if it's mounted.
fn mounted_with(execution: &Execution<'_>) -> Option<Vec<String>> {
    let found = execution.plan.found_source().filter(|found| found.kind == FileKind::BlockDevice)?;
    let device = found.location.as_ref()?.device;
    let table = lookup::table(execution).ok()?;
    table.by_device(device.major, device.minor).next().map(|mount| mount.to_text().super_options)
}

/// A copy of what the source is, shown at the target.
pub(super) fn bind(
    execution: &Execution<'_>,
    recursive: bool,
    asked: Propagation,
    attributes: Attributes,
    id_map: Option<&IdMap>,
    undos: &mut Vec<Undo>,
) -> Result<OwnedFd, StepError> {
    let path = execution.plan.found_source().map_or("", |found| &found.path);
    let flag = if recursive { "AT_RECURSIVE" } else { "" };
    let mut flags = OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    let tree = open_tree(execution.source()?, "", flags).map_err(|errno| {
        let cause = (errno == Errno::INVAL).then(|| {
            "it may be unbindable, or have mounts below it that mustn't be uncovered (mount_namespaces(7))".to_owned()
        });
        StepError::new(call("open_tree", &[path, "OPEN_TREE_CLONE", flag]), explained(errno, cause))
    })?;
    let change = |attributes: Attributes, recursive: bool, to: Option<PropagationType>| {
        if attributes.is_empty() && to.is_none() {
            return Ok(());
        }
        let words = [flag, &attributes.to_string(), to.map_or("", PropagationType::name)];
        let attr = MountAttr { propagation: to.map_or(0, propagation_bit), ..attributes.into() };
        mount_setattr(tree.as_fd(), recursive, &attr)
            .map_err(|error| StepError::new(call("mount_setattr", &words), error))
    };
    // What is unbindable can't be put on a shared mount.
    let named = execution.plan.named_propagation().filter(|named| named.kind != PropagationType::Shared);
    let asked = match asked.kind {
        PropagationType::Unbindable => Propagation { kind: PropagationType::Private, ..asked },
        _ => asked,
    };
    // A copy of a shared mount is its peer: what is mounted on the one is on the other too. As a slave it hears, and doesn't
    // tell. A copy of a mount without peers stays without.
    let slave = PropagationType::Slave;
    if recursive {
        // The mounts below the top only lose rights: what gives rights was asked for the top alone.
        let below = if asked.recursive { asked.kind } else { slave };
        if asked.recursive || asked.kind != PropagationType::Shared {
            change(attributes.tightening(), true, Some(below))?;
            change(attributes.loosening(), false, (below != asked.kind).then_some(asked.kind))?;
        } else {
            let reason = "with rbind, only rshared can be asked for: the copies below would hear and not tell";
            return Err(StepError::new(call("mount_setattr", &[flag, "shared"]), reason));
        }
    } else {
        change(attributes, false, Some(asked.kind))?;
    }
    id_map.map_or(Ok(()), |map| id_map::apply(&tree, recursive, map))?;
    let tree = show(execution, tree, recursive, |_| Ok(()), undos)?;
    set_named_propagation(execution, tree, named, undos)
}

/// Gives a mount that is shown the propagation that the request names: what is put on a shared mount is shared.
fn set_named_propagation(
    execution: &Execution<'_>,
    mount: OwnedFd,
    named: Option<Propagation>,
    undos: &mut Vec<Undo>,
) -> Result<OwnedFd, StepError> {
    let Some(named) = named else { return Ok(mount) };
    match propagate(mount.as_fd(), named) {
        Ok(()) => Ok(mount),
        Err(error) => {
            undos.push(Undo::Detach(mount));
            Err(StepError::new(call("mount_setattr", &[execution.plan.target(), named.kind.name()]), error))
        }
    }
}

/// Puts a mount that isn't shown yet on the target, after a last look at it, and sees where the kernel has carried it.
fn show(
    execution: &Execution<'_>,
    mount: OwnedFd,
    is_tree: bool,
    last_look: impl FnOnce(&OwnedFd) -> Result<(), StepError>,
    undos: &mut Vec<Undo>,
) -> Result<OwnedFd, StepError> {
    let line = || call("move_mount", &[execution.plan.target()]);
    let failed = |error: io::Error| StepError::new(line(), error);
    let target = execution.target()?;
    let own = Identity::of(mount.as_fd()).map_err(failed)?;
    wait_until_free(target);
    execution.commit(line)?;
    last_look(&mount)?;
    let before = if is_tree { Before::now(execution, target) } else { Before::showing(execution, &own) };
    let before = before.map_err(failed)?;
    let shown = execution.attach(execution.give_back(), mount.as_fd(), target);
    shown.map_err(|errno| StepError::new(line(), not_shown(errno)))?;
    match carried::check(execution, &before, own.id, line) {
        Ok(()) => Ok(mount),
        Err(error) => {
            undos.push(Undo::Detach(mount));
            Err(error)
        }
    }
}

/// The mount whose root the target is. The kernel reports another target too, but not if the change is empty.
fn mount_point(execution: &Execution<'_>, line: impl Fn() -> String) -> Result<FoundMount, StepError> {
    let found = lookup::at(execution, execution.target()?).map_err(|error| StepError::new(line(), error))?;
    match found.identity.is_mount_root {
        true => Ok(found),
        false => {
            let reason = format!("{} isn't a mount point", execution.plan.target());
            Err(StepError::new(line(), (reason, Errno::INVAL)).with_code("not-mounted"))
        }
    }
}

/// Changes the flags of the mount at the target.
pub(super) fn set_attributes(
    execution: &Execution<'_>,
    attributes: Attributes,
    undos: &mut Vec<Undo>,
) -> Result<(), StepError> {
    let line = || call("mount_setattr", &[execution.plan.target(), &attributes.to_string()]);
    let target = execution.target()?;
    let before = mount_point(execution, line)?;
    execution.commit(line)?;
    mount_setattr(target, false, &attributes.into())
        .map_err(|error| StepError::new(line(), not_a_mount_point(error)))?;
    let bits = Attributes::bits_of(&before.mount.options);
    undos.push(Undo::SetAttributes(attributes.back_to(bits)));
    verify::attributes(execution, attributes, line)
}

/// Changes the file system behind the mount at the target.
pub(super) fn reconfigure(
    execution: &Execution<'_>,
    parameters: &[MountOption],
    undos: &mut Vec<Undo>,
) -> Result<(), StepError> {
    let target = execution.target()?;
    let line = || call("fspick", &[execution.plan.target()]);
    let before = mount_point(execution, line)?;
    layers::check_names(execution, parameters)?;
    if parameters
        .iter()
        .rev()
        .find(|option| matches!(option.name.as_str(), "ro" | "rw"))
        .is_some_and(|option| option.name == "rw")
    {
        let device = Device { major: before.mount.major, minor: before.mount.minor };
        loop_device::check_alone(execution, device, line)?;
    }
    execution.commit_to_wait(line)?;
    mount_api::reconfigure(target, parameters, line)?;
    undos.push(Undo::Reconfigure { parameters: parameters.to_vec(), before: before.mount.super_options });
    verify::super_options(execution, parameters)
}

/// Moves the mount at the source to the target.
pub(super) fn move_mount(execution: &Execution<'_>, undos: &mut Vec<Undo>) -> Result<(), StepError> {
    let path = execution.plan.found_source().map_or("", |found| &found.path);
    let line = || call("move_mount", &[path, execution.plan.target()]);
    let source = execution.source()?;
    let failed = |error: io::Error| StepError::new(line(), error);
    let target = execution.target()?;
    let moved = Identity::of(source).map_err(failed)?;
    if !moved.is_mount_root {
        return Err(StepError::new(line(), format!("{path} isn't a mount point")).with_code("not-mounted"));
    }
    let from = execution.host.place(path).map_err(failed)?;
    wait_until_free(target);
    execution.commit(line)?;
    let before = Before::now(execution, target).map_err(failed)?;
    let attached = execution.attach(execution.give_back(), source, target);
    attached.map_err(|errno| StepError::new(line(), not_moved(errno)))?;
    undos.push(Undo::MoveBack(from));
    carried::check(execution, &before, moved.id, line)?;
    verify::moved(execution, line)
}

/// Changes how mount events travel between the mount at the target and its peers.
pub(super) fn set_propagation(
    execution: &Execution<'_>,
    to: Propagation,
    undos: &mut Vec<Undo>,
) -> Result<(), StepError> {
    let flag = if to.recursive { "AT_RECURSIVE" } else { "" };
    let line = || call("mount_setattr", &[execution.plan.target(), flag, to.kind.name()]);
    let target = execution.target()?;
    let before = mount_point(execution, line)?;
    let below = match to.recursive {
        true => lookup::mounts_below(execution, &before.identity).map_err(|error| StepError::new(line(), error))?,
        false => Vec::new(),
    };
    execution.commit(line)?;
    propagate(target, to).map_err(|error| StepError::new(line(), not_a_mount_point(error)))?;
    undos.push(Undo::SetPropagation { recursive: to.recursive, before: before.mount.optional_fields });
    verify::propagation(execution, to, &below, line)
}

/// Takes the mount at the target away, and with `recursive` those below it first, the deepest first.
pub(super) fn unmount(execution: &Execution<'_>, mode: UnmountMode, undos: &mut Vec<Undo>) -> Result<(), StepError> {
    let path = execution.plan.target();
    let failed = |path: &str, error: io::Error| StepError::new(call("umount2", &[path]), error);
    let top = execution.to_unmount.ok_or_else(|| StepError::new(call("umount2", &[path]), "no target is held"))?;
    if !top.is_mount_root {
        return Err(
            StepError::new(call("umount2", &[path]), format!("{path} isn't a mount point")).with_code("not-mounted")
        );
    }
    let mut leaving = Vec::new();
    // A lazy umount takes everything below along, all at once.
    if mode.recursive && !mode.lazy {
        leaving = lookup::mounts_below(execution, &top).map_err(|error| failed(path, error))?;
        raise_descriptor_limit();
    }
    leaving = youngest_leaves_first(leaving, top.id);
    let target = Below { path: execution.plan.target_bytes().to_owned(), identity: top, parent: 0 };
    leaving.push(target);
    // What is taken away one after the other can be put back as long as a copy is kept.
    let is_copied = mode.recursive && !mode.lazy;
    let mut copies: Vec<Option<Copied>> = Vec::with_capacity(leaving.len());
    for mount in &leaving {
        let copy = if is_copied { copy(execution, mount) } else { Ok(None) };
        copies.push(copy.map_err(|error| failed(&String::from_utf8_lossy(&mount.path), error))?);
    }
    execution.commit_to_wait(|| call("umount2", &[path]))?;
    for (mount, copy) in leaving.iter().zip(copies) {
        let shown = String::from_utf8_lossy(&mount.path);
        // A mount that another one hid is seen only now.
        let copy = match copy {
            None if is_copied => self::copy(execution, mount).map_err(|error| failed(&shown, error))?,
            copy => copy,
        };
        if let Some(stop) = execution.watch.must_end().filter(|_| !undos.is_empty()) {
            return Err(StepError::new(call("umount2", &[&shown]), stop.to_string()));
        }
        unmount_one(execution, mount, copy, mode, undos).map_err(|error| failed(&shown, error))?;
        execution.watch.has_changed_something();
    }
    Ok(())
}

/// Children before their parents, and of those on one mount the youngest first: it may hide the others.
fn youngest_leaves_first(mounts: Vec<Below>, top: u64) -> Vec<Below> {
    let mut children: HashMap<u64, Vec<Below>> = HashMap::new();
    for mount in mounts {
        children.entry(mount.parent).or_default().push(mount);
    }
    let mut ordered = Vec::new();
    // From the top down, the oldest first; turned round, it's the other way.
    let mut todo = children.remove(&top).unwrap_or_default();
    todo.reverse();
    while let Some(mount) = todo.pop() {
        let mut below = children.remove(&mount.identity.id).unwrap_or_default();
        ordered.push(mount);
        below.reverse();
        todo.append(&mut below);
    }
    ordered.reverse();
    ordered
}

/// How often a mount is looked for again whose folder has got another name meanwhile, and how often where its path is the same.
const MAX_RENAMES: usize = 100;
const MAX_SAME: usize = 10;

/// Where a mount is, by its path of now; nothing if it's gone. Another mount may lie there.
fn place_of(execution: &Execution<'_>, mount: &Below) -> io::Result<Option<(Place, Vec<u8>)>> {
    let mut path = mount.path.clone();
    let mut same = 0;
    for _ in 0..MAX_RENAMES {
        let there = execution.host.place(&path).and_then(|place| Ok((place.identity()?, place)));
        let missing = match there {
            Ok((there, place)) if there.is_same_mount(&mount.identity) => return Ok(Some((place, path))),
            found => found,
        };
        // Before Linux 6.8 its id may be that of another mount by now, which nobody has approved.
        let now = match mount.identity.unique_id {
            Some(id) => lookup::path_of(execution, id)?,
            None => lookup::find(execution, &mount.identity)?.map(|_| path.clone()),
        };
        // It may have left with one of its peers.
        let Some(now) = now else { return Ok(None) };
        let is_same = now == path;
        same += usize::from(is_same);
        match missing {
            Ok((_, place)) if is_same => return Ok(Some((place, path))),
            Err(error) if is_same && error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(error) if same >= MAX_SAME => return Err(error),
            _ => path = now,
        }
    }
    Err(io::Error::other("somebody renames folders above it all the time"))
}

/// A copy of a mount to put back, or that it can't be copied.
enum Copied {
    Mount(OwnedFd, PropagationType),
    /// An unbindable mount can't be copied.
    Unbindable,
}

/// Copies a mount that is going to be taken away. None of one that another mount hides.
fn copy(execution: &Execution<'_>, mount: &Below) -> io::Result<Option<Copied>> {
    let Ok(Some((place, _))) = place_of(execution, mount) else { return Ok(None) };
    if !place.identity().is_ok_and(|identity| identity.is_same_mount(&mount.identity)) {
        return Ok(None);
    }
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    match open_tree(&place.folder, place.name.as_c_str(), clone) {
        Ok(copy) => {
            let found = lookup::find(execution, &mount.identity)?;
            let kind = found.map_or(PropagationType::Shared, |found| propagation_of(&found.optional_fields));
            Ok(Some(Copied::Mount(copy, kind)))
        }
        Err(errno) => {
            let found = lookup::find(execution, &mount.identity)?;
            let is_unbindable =
                found.is_some_and(|found| found.optional_fields.iter().any(|field| field == "unbindable"));
            if is_unbindable {
                return Ok(Some(Copied::Unbindable));
            }
            let reason = match errno {
                Errno::MFILE | Errno::NFILE => "too many mounts to keep a copy of each: raise `ulimit -n`".to_owned(),
                errno => errno.to_string(),
            };
            Err(io::Error::new(io::Error::from(errno).kind(), format!("it can't be copied, to be put back: {reason}")))
        }
    }
}

/// Each copy takes a descriptor. The limit that this process starts with is often far below what it may have.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // What can't be raised stays: then a copy fails, and nothing was unmounted.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Unmounts by the name in the folder that holds the mount point: a descriptor of the mount itself would keep it
/// busy.
fn unmount_one(
    execution: &Execution<'_>,
    mount: &Below,
    copy: Option<Copied>,
    mode: UnmountMode,
    undos: &mut Vec<Undo>,
) -> io::Result<()> {
    let identity = &mount.identity;
    let Some((place, path)) = place_of(execution, mount)? else { return Ok(()) };
    if !place.identity()?.is_same_mount(identity) {
        return Err(io::Error::other("the mount there isn't the one that was approved"));
    }
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, mode.lazy);
    flags.set(UnmountFlags::FORCE, mode.force);
    fchdir(&place.folder)?;
    let result = rustix::mount::unmount(place.name.as_c_str(), flags);
    fchdir(execution.host.root())?;
    result?;
    undos.extend(copy.map(|copy| {
        let kept = if let Copied::Mount(copy, kind) = copy { Some((copy, kind)) } else { None };
        Undo::Attach { mount: kept, path: mount.path.clone() }
    }));
    match lookup::find(execution, identity)? {
        // Before Linux 6.8 the id may be another mount's by now.
        Some(found) if found.target == path_to_text(&path) => Err(io::Error::other("it's still mounted")),
        _ => Ok(()),
    }
}
