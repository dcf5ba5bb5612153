//! Single mounts asked of the kernel by their 64-bit ids, which are never used again: statmount(2) and listmount(2).

use std::io;

use super::escape::{ESCAPED_IN_NAMES, ESCAPED_IN_PATHS, raw_to_text, to_text};
use super::mount::{MountText, parts};
use super::node_paths::NodePaths;
use super::topology::{Node, Relations};
use crate::model::location::Device;
use crate::model::mount_flags::{READ_ONLY, mountinfo_words};
use crate::sys;

/// `SB_…` of `include/linux/fs.h`, in the order and words of mountinfo.
const SUPER_WORDS: [(u64, &str); 3] = [(0x10, "sync"), (0x80, "dirsync"), (1 << 25, "lazytime")];
/// `MS_…` of mount(2), which stand for propagation here.
const SHARED: u64 = 1 << 20;
const SLAVE: u64 = 1 << 19;
const UNBINDABLE: u64 = 1 << 17;
/// See `include/uapi/linux/magic.h`.
const BTRFS_SUPER_MAGIC: u64 = 0x9123_683e;
/// See `include/uapi/linux/mount.h`.
const MNT_ATTR_IDMAP: u64 = 0x0010_0000;
/// All mounts of a namespace.
const LSMT_ROOT: u64 = u64::MAX;

/// What is asked for, `STATMOUNT_…` of `include/uapi/linux/mount.h`: all that a line of mountinfo has.
const SB_BASIC: u64 = 0x1;
const MNT_BASIC: u64 = 0x2;
const PROPAGATE_FROM: u64 = 0x4;
const MNT_ROOT: u64 = 0x8;
const MNT_POINT: u64 = 0x10;
const FS_TYPE: u64 = 0x20;
const MNT_OPTS: u64 = 0x80;
const FS_SUBTYPE: u64 = 0x100;
const SB_SOURCE: u64 = 0x200;
/// The source is missing if the kernel is older than Linux 6.13 or the mount has none. Then mountinfo is read instead.
const NEEDED: u64 = SB_BASIC | MNT_BASIC | MNT_ROOT | MNT_POINT | FS_TYPE | SB_SOURCE;
const ASKED: u64 = NEEDED | PROPAGATE_FROM | MNT_OPTS | FS_SUBTYPE;

/// Where the strings of a `struct statmount` begin.
const STRINGS: usize = 512;
/// How many 64-bit words the first buffer has: enough for nearly every mount. A larger one follows where it isn't.
const FIRST_BUFFER: usize = 512;
const LARGEST_BUFFER: usize = 1 << 20;

/// The kernel's answer about one mount: a filled `struct statmount` with the strings behind it.
pub(crate) struct MountRecord {
    bytes: Vec<u8>,
}

/// Asks for the mount with this id; in another mount namespace, by the id of that namespace.
///
/// # Errors
/// `NotFound` where there is no such mount, or no longer. `Unsupported` where the kernel can't tell all of it: statmount(2)
/// came with Linux 6.8, the source with 6.13.
pub(crate) fn mount(id: u64, namespace: Option<u64>) -> io::Result<MountRecord> {
    let record = ask(id, namespace, ASKED, FIRST_BUFFER)?;
    if record.has(NEEDED) { Ok(record) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// The id in mountinfo of the mount with this 64-bit id.
///
/// # Errors
/// `NotFound` and `Unsupported` as [`mount`] has them.
pub(crate) fn mountinfo_id(id: u64) -> io::Result<u64> {
    Ok(ask(id, None, MNT_BASIC, STRINGS / 8)?.id())
}

/// The numbers of the mount with this 64-bit id. One that is gone by now has none.
///
/// # Errors
/// `Unsupported` as [`mount`] has it.
pub(crate) fn numbers(id: u64, namespace: Option<u64>) -> io::Result<Option<(Node, Relations)>> {
    // As far as the last of these fields.
    let mut words = [0; Offset::PropagateFrom as usize / 8 + 1];
    match sys::statmount(id, namespace, SB_BASIC | MNT_BASIC | PROPAGATE_FROM, &mut words).map_err(unsupported) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        asked => asked?,
    }
    let long = |offset: Offset| words[offset as usize / 8];
    let short = |offset: Offset| {
        let bytes = long(offset).to_ne_bytes();
        let half = bytes.split_at(4);
        let half = if (offset as usize).is_multiple_of(8) { half.0 } else { half.1 };
        half.try_into().map_or(0, u32::from_ne_bytes)
    };
    let kind = long(Offset::MntPropagation);
    let group = |bit: u64, offset| if kind & bit == 0 { 0 } else { long(offset) };
    let node = Node {
        id: short(Offset::MntIdOld).into(),
        device: Device { major: short(Offset::SbDevMajor), minor: short(Offset::SbDevMinor) },
        is_btrfs: long(Offset::SbMagic) == BTRFS_SUPER_MAGIC,
    };
    let relations = Relations {
        parent: short(Offset::MntParentIdOld).into(),
        group: group(SHARED, Offset::MntPeerGroup),
        master: group(SLAVE, Offset::MntMaster),
        from: group(SLAVE, Offset::PropagateFrom),
    };
    Ok(Some((node, relations)))
}

/// The mountinfo id, the file system and the paths of the mount with this 64-bit id.
///
/// # Errors
/// `NotFound` and `Unsupported` as [`mount`] has them. Linux 6.8 knows all of this.
pub(crate) fn paths(id: u64, namespace: Option<u64>) -> io::Result<(u64, Device, NodePaths)> {
    let record = ask(id, namespace, SB_BASIC | MNT_BASIC | MNT_ROOT | MNT_POINT, STRINGS / 8 + 64)?;
    let path = |offset| raw_to_text(record.string(offset), ESCAPED_IN_PATHS);
    Ok((record.id(), record.device(), NodePaths { root: path(Offset::MntRoot), target: path(Offset::MntPoint) }))
}

/// The number, the type, the source and the flags of the mount with this 64-bit id.
///
/// # Errors
/// `NotFound` and `Unsupported` as [`mount`] has them.
pub(crate) fn file_system(id: u64) -> io::Result<MountRecord> {
    let needed = SB_BASIC | MNT_BASIC | FS_TYPE | SB_SOURCE;
    let record = ask(id, None, needed, STRINGS / 8 + 32)?;
    if record.has(needed) { Ok(record) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// The 64-bit ids of all mounts of a namespace, or of this process's own.
///
/// # Errors
/// `Unsupported` where the kernel has no listmount(2), which came with Linux 6.8; of another namespace 6.11.
pub(crate) fn all(namespace: Option<u64>) -> io::Result<Vec<u64>> {
    list(LSMT_ROOT, namespace, 0)
}

/// The 64-bit ids of all mounts of this process's namespace that were made after the one with this id.
///
/// # Errors
/// As [`all`].
pub(crate) fn newer(id: u64) -> io::Result<Vec<u64>> {
    list(LSMT_ROOT, None, id)
}

/// The largest 64-bit id of a mount of this process's namespace.
///
/// # Errors
/// As [`all`], and where listmount(2) can't begin with the youngest, as before Linux 6.11.
pub(crate) fn newest() -> io::Result<u64> {
    let mut page = [0];
    match sys::listmount_reverse(LSMT_ROOT, &mut page).map_err(unsupported)? {
        0 => Err(io::ErrorKind::NotFound.into()),
        _ => Ok(page[0]),
    }
}

/// The 64-bit ids of all mounts below one, in the order in which they were made.
///
/// # Errors
/// `NotFound` where there is no such mount. `Unsupported` where the kernel has no listmount(2), which came with Linux 6.8.
pub(crate) fn below(id: u64) -> io::Result<Vec<u64>> {
    list(id, None, 0)
}

fn list(id: u64, namespace: Option<u64>, after: u64) -> io::Result<Vec<u64>> {
    let mut ids = Vec::new();
    let mut page = [0; 512];
    loop {
        let last = ids.last().copied().unwrap_or(after);
        let count = sys::listmount(id, namespace, last, &mut page).map_err(unsupported)?;
        ids.extend(&page[..count]);
        if count < page.len() {
            return Ok(ids);
        }
    }
}

fn ask(id: u64, namespace: Option<u64>, parts: u64, words: usize) -> io::Result<MountRecord> {
    let mut buffer = vec![0u64; words];
    loop {
        match sys::statmount(id, namespace, parts, &mut buffer) {
            Ok(()) => return Ok(MountRecord::of(&buffer)),
            Err(error) if error.raw_os_error() == Some(nix::libc::EOVERFLOW) && buffer.len() < LARGEST_BUFFER => {
                buffer.resize(buffer.len() * 4, 0);
            }
            Err(error) => return Err(unsupported(error)),
        }
    }
}

fn unsupported(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        // A kernel without the call, or one that doesn't know a namespace's id in it. A seccomp filter that is older than
        // the call answers EPERM.
        Some(nix::libc::ENOSYS | nix::libc::EINVAL | nix::libc::EPERM) => io::ErrorKind::Unsupported.into(),
        _ => error,
    }
}

/// Where the fields of a `struct statmount` are, see `include/uapi/linux/mount.h`.
#[derive(Clone, Copy)]
enum Offset {
    MntOpts = 4,
    Mask = 8,
    SbDevMajor = 16,
    SbDevMinor = 20,
    SbMagic = 24,
    SbFlags = 32,
    FsType = 36,
    MntIdOld = 56,
    MntParentIdOld = 60,
    MntAttr = 64,
    MntPropagation = 72,
    MntPeerGroup = 80,
    MntMaster = 88,
    PropagateFrom = 96,
    MntRoot = 104,
    MntPoint = 108,
    FsSubtype = 120,
    SbSource = 124,
}

impl MountRecord {
    fn of(words: &[u64]) -> Self {
        // At its beginning stands how long it is.
        let len = words
            .first()
            .map_or(0, |word| word.to_ne_bytes().first_chunk().map_or(0, |half| u32::from_ne_bytes(*half)));
        let used = words.get(..(len as usize).div_ceil(8)).unwrap_or(words);
        let mut bytes = Vec::with_capacity(used.len() * 8);
        used.iter().for_each(|word| bytes.extend_from_slice(&word.to_ne_bytes()));
        Self { bytes }
    }

    /// The type of the file system, without its subtype.
    pub(crate) fn fstype(&self) -> String {
        raw_to_text(self.string(Offset::FsType), ESCAPED_IN_NAMES)
    }

    /// The id in mountinfo.
    pub(crate) fn id(&self) -> u64 {
        self.u32(Offset::MntIdOld).into()
    }

    /// What the file system was mounted from.
    pub(crate) fn source(&self) -> String {
        raw_to_text(self.string(Offset::SbSource), ESCAPED_IN_NAMES)
    }

    /// Whether the mount shows other owners than the files have.
    pub(crate) fn is_mapped(&self) -> bool {
        self.u64(Offset::MntAttr) & MNT_ATTR_IDMAP != 0
    }

    /// The file system's number.
    pub(crate) fn device(&self) -> Device {
        Device { major: self.u32(Offset::SbDevMajor), minor: self.u32(Offset::SbDevMinor) }
    }

    /// The mount point as the kernel has it, without escapes.
    pub(crate) fn target(&self) -> &[u8] {
        self.string(Offset::MntPoint)
    }

    /// What a line of mountinfo says of the mount.
    pub(crate) fn to_text(&self) -> MountText {
        let path = |offset| raw_to_text(self.string(offset), ESCAPED_IN_PATHS);
        let name = |offset| raw_to_text(self.string(offset), ESCAPED_IN_NAMES);
        let mut fstype = self.fstype();
        if self.has(FS_SUBTYPE) {
            fstype.push('.');
            fstype.push_str(&name(Offset::FsSubtype));
        }
        MountText {
            id: self.id(),
            parent: self.u32(Offset::MntParentIdOld).into(),
            major: self.u32(Offset::SbDevMajor),
            minor: self.u32(Offset::SbDevMinor),
            root: path(Offset::MntRoot),
            target: path(Offset::MntPoint),
            options: mountinfo_words(self.u64(Offset::MntAttr)).map(str::to_owned).collect(),
            optional_fields: self.optional_fields(),
            fstype,
            source: name(Offset::SbSource),
            super_options: self.super_options(),
        }
    }

    fn optional_fields(&self) -> Vec<String> {
        let kind = self.u64(Offset::MntPropagation);
        let mut fields = Vec::new();
        if kind & SHARED != 0 {
            fields.push(format!("shared:{}", self.u64(Offset::MntPeerGroup)));
        }
        if kind & SLAVE != 0 {
            let (master, from) = (self.u64(Offset::MntMaster), self.u64(Offset::PropagateFrom));
            fields.push(format!("master:{master}"));
            if self.has(PROPAGATE_FROM) && from != 0 && from != master {
                fields.push(format!("propagate_from:{from}"));
            }
        }
        if kind & UNBINDABLE != 0 {
            fields.push("unbindable".to_owned());
        }
        fields
    }

    fn super_options(&self) -> Vec<String> {
        let flags = u64::from(self.u32(Offset::SbFlags));
        let mut options = vec![if flags & READ_ONLY == 0 { "rw" } else { "ro" }.to_owned()];
        options.extend(SUPER_WORDS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, word)| (*word).to_owned()));
        // These are the file system's own words, with the kernel's escapes, as mountinfo has them.
        let own = if self.has(MNT_OPTS) { self.string(Offset::MntOpts) } else { b"" };
        options.extend(parts(own, b',').map(to_text));
        options
    }

    fn u32(&self, offset: Offset) -> u32 {
        let at = offset as usize;
        self.bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
    }

    fn u64(&self, offset: Offset) -> u64 {
        let at = offset as usize;
        self.bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
    }

    fn has(&self, parts: u64) -> bool {
        self.u64(Offset::Mask) & parts == parts
    }

    /// The string whose offset stands in this field.
    fn string(&self, offset: Offset) -> &[u8] {
        let rest = self.bytes.get(STRINGS + self.u32(offset) as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_is_not_there_is_not_found() {
        match mount(u64::MAX >> 1, None) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            result => assert_eq!(result.err().expect("no such mount").kind(), io::ErrorKind::NotFound),
        }
    }
}
