//! Single mounts asked of the kernel by their 64-bit ids, which are never used again: statmount(2) and listmount(2).
//!
//! The answer is put into a line of mountinfo, so that one reader serves both ways of asking.

use std::io;

use super::MountTable;
use super::parse::{ESCAPED_IN_NAMES, ESCAPED_IN_PATHS, escape};
use crate::sys;

/// The mount attributes of mount_setattr(2) in the order and words of mountinfo. A mount that has none of the three
/// kinds of atime is `relatime`.
const WORDS: [(u64, &str); 7] = [
    (0x2, "nosuid"),
    (0x4, "nodev"),
    (0x8, "noexec"),
    (0x10, "noatime"),
    (0x80, "nodiratime"),
    (RELATIME, "relatime"),
    (0x20_0000, "nosymfollow"),
];
const READ_ONLY: u64 = 0x1;
const ATIME: u64 = 0x70;
/// Not a bit of the kernel's, where `relatime` is the absence of others.
const RELATIME: u64 = 1 << 63;
/// `SB_RDONLY` and its neighbours of `include/linux/fs.h`, in the order and words of mountinfo.
const SUPER_WORDS: [(u64, &str); 3] = [(0x10, "sync"), (0x80, "dirsync"), (1 << 25, "lazytime")];
const SHARED: u64 = 1 << 20;
const UNBINDABLE: u64 = 1 << 17;
const SLAVE: u64 = 1 << 19;

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
/// Without a source the kernel is older than Linux 6.13, or there is none: mountinfo knows.
const NEEDED: u64 = SB_BASIC | MNT_BASIC | MNT_ROOT | MNT_POINT | FS_TYPE | SB_SOURCE;
const ASKED: u64 = NEEDED | PROPAGATE_FROM | MNT_OPTS | FS_SUBTYPE;

/// Where the strings of a `struct statmount` begin.
const STRINGS: usize = 512;
/// Enough for the longest line that is likely; more is asked for where it isn't.
const WORDS_AT_FIRST: usize = 512;

/// The one mount with this id, as a table of it alone. In another mount namespace by that one's id.
///
/// # Errors
/// `NotFound` where there is no such mount (any more), `Unsupported` where the kernel can't tell all of it: statmount(2)
/// came with Linux 6.8, sources with 6.13.
pub(crate) fn mount(id: u64, namespace: Option<u64>) -> io::Result<MountTable> {
    let mut buffer = vec![0u64; WORDS_AT_FIRST];
    loop {
        match sys::statmount(id, namespace, ASKED, &mut buffer) {
            Ok(()) => break,
            Err(error) if error.raw_os_error() == Some(nix::libc::EOVERFLOW) && buffer.len() < 1 << 20 => {
                buffer.resize(buffer.len() * 4, 0);
            }
            Err(error) => return Err(unsupported(error)),
        }
    }
    let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let answer = Answer { bytes: &bytes };
    match answer.line() {
        Some(line) => MountTable::parse(line),
        None => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The id in mountinfo of the mount with this 64-bit id.
///
/// # Errors
/// As above.
pub(crate) fn old_id(id: u64) -> io::Result<u64> {
    let mut buffer = [0; STRINGS / 8];
    sys::statmount(id, None, MNT_BASIC, &mut buffer).map_err(unsupported)?;
    let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    Ok(Answer { bytes: &bytes }.u32(Field::MntIdOld).into())
}

/// The ids of all mounts below one, in the order in which they were made.
///
/// # Errors
/// As above.
pub(crate) fn below(id: u64, namespace: Option<u64>) -> io::Result<Vec<u64>> {
    let mut ids = Vec::new();
    let mut page = [0; 512];
    loop {
        let last = ids.last().copied().unwrap_or(0);
        let count = sys::listmount(id, namespace, last, &mut page).map_err(unsupported)?;
        ids.extend(&page[..count]);
        if count < page.len() {
            return Ok(ids);
        }
    }
}

fn unsupported(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        // A kernel without the call, or one that doesn't know a namespace's id in it; EPERM is what a seccomp filter
        // made before the call says.
        Some(nix::libc::ENOSYS | nix::libc::EINVAL | nix::libc::EPERM) => io::ErrorKind::Unsupported.into(),
        _ => error,
    }
}

/// A filled `struct statmount`.
struct Answer<'b> {
    bytes: &'b [u8],
}

/// Where the fields of a `struct statmount` are, see `include/uapi/linux/mount.h`.
#[derive(Clone, Copy)]
enum Field {
    MntOpts = 4,
    Mask = 8,
    SbDevMajor = 16,
    SbDevMinor = 20,
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

impl Answer<'_> {
    fn u32(&self, field: Field) -> u32 {
        let at = field as usize;
        self.bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
    }

    fn u64(&self, field: Field) -> u64 {
        let at = field as usize;
        self.bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
    }

    fn has(&self, parts: u64) -> bool {
        self.u64(Field::Mask) & parts == parts
    }

    /// The string whose offset stands in this field.
    fn string(&self, field: Field) -> &[u8] {
        let rest = self.bytes.get(STRINGS + self.u32(field) as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The line of mountinfo, where the kernel told all that is in it.
    fn line(&self) -> Option<Vec<u8>> {
        if !self.has(NEEDED) {
            return None;
        }
        let number = |field| self.u32(field).to_string().into_bytes();
        let mut fstype = escape(self.string(Field::FsType), ESCAPED_IN_NAMES);
        if self.has(FS_SUBTYPE) {
            fstype.push(b'.');
            fstype.extend(escape(self.string(Field::FsSubtype), ESCAPED_IN_NAMES));
        }
        let source = escape(self.string(Field::SbSource), ESCAPED_IN_NAMES);
        let words = [
            number(Field::MntIdOld),
            number(Field::MntParentIdOld),
            [number(Field::SbDevMajor), number(Field::SbDevMinor)].join(&b':'),
            escape(self.string(Field::MntRoot), ESCAPED_IN_PATHS),
            escape(self.string(Field::MntPoint), ESCAPED_IN_PATHS),
            attribute_words(self.u64(Field::MntAttr)).into_bytes(),
        ];
        let mut line = words.join(&b' ');
        line.extend(self.propagation().into_bytes());
        line.extend(b" - ");
        line.extend([fstype, source, self.super_options()].join(&b' '));
        Some(line)
    }

    fn propagation(&self) -> String {
        let kind = self.u64(Field::MntPropagation);
        let mut text = String::new();
        if kind & SHARED != 0 {
            text.push_str(&format!(" shared:{}", self.u64(Field::MntPeerGroup)));
        }
        if kind & SLAVE != 0 {
            let (master, from) = (self.u64(Field::MntMaster), self.u64(Field::PropagateFrom));
            text.push_str(&format!(" master:{master}"));
            if self.has(PROPAGATE_FROM) && from != 0 && from != master {
                text.push_str(&format!(" propagate_from:{from}"));
            }
        }
        if kind & UNBINDABLE != 0 {
            text.push_str(" unbindable");
        }
        text
    }

    fn super_options(&self) -> Vec<u8> {
        let flags = u64::from(self.u32(Field::SbFlags));
        let mut text = if flags & READ_ONLY == 0 { "rw" } else { "ro" }.to_owned();
        for (_, word) in SUPER_WORDS.iter().filter(|(bit, _)| flags & bit != 0) {
            text.push(',');
            text.push_str(word);
        }
        let mut text = text.into_bytes();
        let own = if self.has(MNT_OPTS) { self.string(Field::MntOpts) } else { b"" };
        if !own.is_empty() {
            text.push(b',');
            text.extend(own);
        }
        text
    }
}

/// The per-mount options of mountinfo for the bits of mount_setattr(2).
fn attribute_words(bits: u64) -> String {
    let bits = if bits & ATIME == 0 { bits | RELATIME } else { bits };
    let mut text = if bits & READ_ONLY == 0 { "rw" } else { "ro" }.to_owned();
    for (_, word) in WORDS.iter().filter(|(bit, _)| bits & bit != 0) {
        text.push(',');
        text.push_str(word);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use rustix::fs::{AtFlags, CWD};

    use super::*;
    use crate::identity::unique_id;

    #[test]
    fn one_mount_reads_as_its_line_of_mountinfo() {
        let table = MountTable::read(std::path::Path::new("/proc/self/mountinfo")).expect("a table");
        let visible = |mount: &super::super::Mount<'_>| {
            table.mount_point(&mount.target()).is_some_and(|top| top.id() == mount.id())
        };
        for listed in table.iter().filter(visible) {
            let path = CString::new(listed.target().into_owned()).expect("no NUL");
            let Ok(Some(id)) = unique_id(CWD, &path, AtFlags::empty()) else { continue };
            let asked = match mount(id, None) {
                Ok(asked) => asked,
                Err(error) if error.kind() == io::ErrorKind::Unsupported => continue,
                Err(error) => panic!("{error}"),
            };
            assert_eq!(asked.iter().next().map(|m| m.to_text()), Some(listed.to_text()));
        }
    }

    #[test]
    fn a_mount_that_is_not_there_is_not_found() {
        match mount(u64::MAX >> 1, None) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            result => assert_eq!(result.expect_err("no such mount").kind(), io::ErrorKind::NotFound),
        }
    }
}
