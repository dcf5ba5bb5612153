//! Denies a mount over an existing mount point, or above one, too many mounts below a path or from one source, and a second writable
//! mount of a block device.

use mountgate_sdk::{
    Code, Device, FileKind, Folders, Kind, Location, Mount, Mounts, NamedFolders, Operation, Place, Policy, Problem,
    ResolvedPath, Review, Verdict, Via, deny, is_on_host, is_within, lies_in,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// The settings.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Settings {
    /// Whether a mount may cover an existing mount point.
    pub allow_stacking: bool,
    /// Whether no mount may cover a folder above an existing mount point.
    pub deny_hiding: bool,
    /// How many mounts may be below a path.
    pub below: Vec<Below>,
    /// How many mounts one disk, image or export may have when it's mounted once more. A bind is never denied by this, but counts later.
    pub max_per_source: Option<u64>,
    /// Whether a block device may be mounted writable more than once.
    pub allow_second_writer: bool,
}

/// A limit on the mounts below a path.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct Below {
    pub path: String,
    pub max: u64,
}

const TARGET_IS_MOUNT_POINT: Code = Code::new("target-is-mount-point");
const TOO_MANY_BELOW: Code = Code::new("too-many-below");
const TOO_MANY_OF_SOURCE: Code = Code::new("too-many-of-source");
const SECOND_WRITER: Code = Code::new("second-writer");

/// The plugin.
pub struct MountLimits;

impl Policy for MountLimits {
    const NAME: &'static str = "mount-limits";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KIND: Kind = Kind::Validating;
    const HELP: &'static str = "denies mounts that are too many or in each other's way";
    const CODES: &'static [Code] = &[TARGET_IS_MOUNT_POINT, TOO_MANY_BELOW, TOO_MANY_OF_SOURCE, SECOND_WRITER];
    type Settings = Settings;

    fn codes(settings: &Settings) -> Vec<Code> {
        let codes = [
            (TARGET_IS_MOUNT_POINT, !settings.allow_stacking || settings.deny_hiding),
            (TOO_MANY_BELOW, !settings.below.is_empty()),
            (TOO_MANY_OF_SOURCE, settings.max_per_source.is_some()),
            (SECOND_WRITER, !settings.allow_second_writer),
        ];
        codes.into_iter().filter_map(|(code, is_possible)| is_possible.then_some(code)).collect()
    }

    fn problems(settings: &Settings) -> Vec<Problem> {
        let relative = settings.below.iter().enumerate().filter(|(_, below)| !is_on_host(&below.path));
        relative
            .map(|(i, _)| Problem { path: format!("below[{i}].path"), message: "it isn't an absolute path".to_owned() })
            .collect()
    }

    fn evaluate(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Result<Verdict, String> {
        if let Some(verdict) = second_writer(settings, review, mounts) {
            return Ok(verdict);
        }
        let (Operation::Mount | Operation::Bind(_) | Operation::Move) = review.request.operation else {
            return Ok(Verdict::Allow);
        };
        let new = |place: &&Place| matches!(place.via, Via::Target | Via::Peer | Via::Slave);
        for place in review.places.iter().filter(new) {
            let path = &place.path;
            if !settings.allow_stacking && mounts.covering(path).is_some_and(|mount| mount.target == *path) {
                return Ok(deny(&TARGET_IS_MOUNT_POINT, "target", format!("something is already mounted on {path}")));
            }
            // Asked for only where it matters: the answer costs a reading of the whole table.
            if settings.deny_hiding
                && let Some(hidden) = hidden_by(review, path, mounts)
            {
                return Ok(deny(&TARGET_IS_MOUNT_POINT, "target", format!("{} would be hidden", hidden.target)));
            }
        }
        if let Some(verdict) = too_many_below(settings, review, mounts)? {
            return Ok(verdict);
        }
        Ok(too_many_of_source(settings, review, mounts).unwrap_or(Verdict::Allow))
    }
}

/// A mount that a mount at this path would hide. What is moved doesn't stay there.
fn hidden_by(review: &Review, path: &str, mounts: &impl Mounts) -> Option<Mount> {
    let moved = review.source.as_ref().filter(|_| review.request.operation == Operation::Move);
    let stays = |mount: &Mount| moved.is_none_or(|moved| !is_within(&mount.target, &moved.path));
    mounts.below(path, MANY).into_iter().find(stays)
}

fn too_many_below(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Result<Option<Verdict>, String> {
    if settings.below.is_empty() {
        return Ok(None);
    }
    let limited: Vec<String> = settings.below.iter().map(|below| below.path.clone()).collect();
    let (folders, names) = (Folders::locate(&limited, mounts)?, NamedFolders::follow(&limited, mounts)?);
    // Above such a folder, a mount would hide what is counted there.
    let new = review.places.iter().filter(|place| matches!(place.via, Via::Target | Via::Peer | Via::Slave));
    if let Some((place, folder)) = new.filter_map(|place| Some((place, names.below(&place.path)?))).next() {
        let reason = format!("{} holds {folder}, in which mounts are counted", place.path);
        return Ok(Some(deny(&TOO_MANY_BELOW, "target", reason)));
    }
    // Every mount that comes along is carried to the peers as well.
    let brought = review.places.iter().filter(|place| place.via == Via::BroughtAlong).count() as u64;
    let paths: Vec<&str> = review.places.iter().map(|place| place.path.as_str()).collect();
    let ways = mounts.along(&paths);
    for ((below, location), name) in settings.below.iter().zip(folders.locations()).zip(names.real_paths()) {
        // The place itself isn't below it.
        let is_below = |place: &Place, way: &Vec<Location>| {
            let is_named = place.path != *name && is_within(&place.path, name);
            is_named || way.iter().any(|step| lies_in(step, location)) && way.first() != Some(location)
        };
        let new = review.places.iter().zip(&ways).filter(|(place, way)| is_below(place, way));
        let count_of = |place: &Place| if let Via::Peer | Via::Slave = place.via { 1 + brought } else { 1 };
        let new: u64 = new.map(|(place, _)| count_of(place)).sum();
        if new == 0 {
            continue;
        }
        // What is mounted on the folder, or above it, may hide what was there, which still counts.
        let is_covered = || mounts.covering(name).is_some_and(|mount| mount.target != "/");
        let named = if is_covered() { mounts.count_below(name) } else { 0 };
        let count = mounts.count_in(location).max(named);
        if count.saturating_add(new) > below.max {
            let reason = format!("there are {count} mounts below {}, and at most {} may be", below.path, below.max);
            return Ok(Some(deny(&TOO_MANY_BELOW, "target", reason)));
        }
    }
    Ok(None)
}

fn too_many_of_source(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Option<Verdict> {
    let (Operation::Mount, Some(max)) = (&review.request.operation, settings.max_per_source) else { return None };
    let found = review.source.as_ref();
    let source = found.map(|found| &found.path).or(review.request.source.as_ref())?;
    let of_device = |device| mounts.by_device(device, MANY).len() as u64;
    let images = found.filter(|found| found.kind == FileKind::Regular);
    // The file systems that are mounted from it through loop devices.
    let roots = images.iter().flat_map(|found| &found.storage).filter(|location| location.path == "/");
    let of_image: u64 = roots.map(|root| of_device(root.device)).sum();
    let count = match found.filter(|found| found.kind == FileKind::BlockDevice) {
        // Under whatever name: by the number of the file system.
        Some(found) => file_system(found).map_or(0, of_device),
        // A source without a slash is only a name. Two tmpfs mounts with the same name aren't related.
        None if source.contains('/') => {
            // A helper writes down the name that it was given, and a folder has one for each mount that shows it.
            let location = found.and_then(|found| found.location.as_ref());
            let names = location.map(|location| mounts.names(location, u32::MAX)).unwrap_or_default();
            let others = names.iter().filter(|name| *name != source).map(|name| mounts.count_by_source(name));
            mounts.count_by_source(source) + others.sum::<u64>() + of_image
        }
        None => return None,
    };
    let reason = || format!("{source} is mounted {count} times, and at most {max} may be");
    // A page that is full may not be all.
    (count >= max || count >= u64::from(MANY)).then(|| deny(&TOO_MANY_OF_SOURCE, "source", reason()))
}

/// The most mounts of a file system that are looked at.
const MANY: u32 = 1000;

/// The number of the file system on a block device, where that is mounted.
fn file_system(found: &ResolvedPath) -> Option<Device> {
    found.location.as_ref().map(|location| location.device)
}

/// A mount of a file system that is writable already, or a remount that makes one writable that is mounted twice. What counts
/// is the file system: a single mount of it that is read-only can be made writable later.
fn second_writer(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Option<Verdict> {
    if settings.allow_second_writer {
        return None;
    }
    let target = &review.target.path;
    match review.request.operation {
        Operation::Mount => {
            let found = review.source.as_ref().filter(|found| found.kind == FileKind::BlockDevice)?;
            let all = mounts.by_device(file_system(found)?, MANY);
            let is_writable = |mount: &&Mount| !mount.super_options.iter().any(|option| option == "ro");
            let writer = &all.iter().find(is_writable)?.target;
            let reason = format!("the file system on {} is already writable, mounted on {writer}", found.path);
            Some(deny(&SECOND_WRITER, "source", reason))
        }
        Operation::Remount(false) => {
            let asked = review.request.options.iter().rev().map(|option| option.name.as_str());
            asked.into_iter().find(|name| matches!(*name, "ro" | "rw")).filter(|name| *name == "rw")?;
            let mount = mounts.covering(target)?;
            let is_on_disk = mount.device.major != 0 || matches!(mount.fstype.as_str(), "btrfs" | "bcachefs");
            let count = mounts.by_device(mount.device, MANY).len();
            let reason =
                || format!("the file system on {target} is mounted {count} times, and would be writable in each");
            (is_on_disk && count > 1).then(|| deny(&SECOND_WRITER, "options.rw", reason()))
        }
        _ => None,
    }
}

mountgate_sdk::export!(MountLimits);

#[cfg(test)]
mod tests;
