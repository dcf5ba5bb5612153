//! The host's mounts, and what earlier runs have learned about them.
//!
//! The 64-bit id of a mount is never used again before the machine starts anew, and what it shows stays the same file system; see
//! statmount(2). So where a host has many mounts, the file system of each is asked for once and kept in a private folder, with what
//! names this start of the machine: the boot id of proc(5). What can change is asked for when a question needs it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, openat};

use super::owner::{check_private, may_make};
use super::whole_file::replace_for_now;
use crate::model::location::Device;
use crate::mount_table::statmount;
use crate::mount_table::topology::{Node, Relations};

/// A mount of the host.
pub(super) struct ListedMount {
    /// Its 64-bit id.
    pub(super) id: u64,
    pub(super) node: Node,
    /// Where it was asked for them just now.
    pub(super) relations: Option<Relations>,
}

/// From so many mounts on, it takes longer to ask for all of them than to read what is known.
const MANY: usize = 64;
/// What is known is written again where more than one of so many was new.
const NEW_ONE_OF: usize = 8;

/// What is known of the mounts of a host.
#[derive(Debug, Default)]
pub(super) struct KnownMounts {
    /// The private folder, if there is one.
    folder: Option<OwnedFd>,
    /// Those that were there when they were last listed, by their 64-bit ids.
    listed: Mutex<Vec<(u64, Node)>>,
}

impl KnownMounts {
    /// What the files in a folder know.
    pub(super) fn of(folder: Option<OwnedFd>) -> Self {
        Self { folder, listed: Mutex::default() }
    }

    /// All mounts of a namespace, or of this process's own, in the order in which they were made.
    ///
    /// # Errors
    /// `Unsupported` where the kernel has no listmount(2), or none of another namespace.
    pub(super) fn list(&self, namespace: Option<u64>) -> io::Result<Vec<ListedMount>> {
        let ids = statmount::all(namespace)?;
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.folder.as_ref().filter(|_| listed.is_empty() && ids.len() >= MANY);
        let record = folder.and_then(|folder| Record::open(folder.as_fd()));
        let known = record.as_ref().map_or_else(|| std::mem::take(&mut *listed), Record::read);
        let mut known = known.into_iter().peekable();
        let mut mounts = Vec::with_capacity(ids.len());
        let mut new = 0;
        let newest = ids.last().copied();
        for id in ids {
            while known.next_if(|(known, _)| *known < id).is_some() {}
            // The newest is always asked for: where the kernel can't tell about mounts, mountinfo is read instead.
            if let Some((_, node)) = known.next_if(|(known, _)| *known == id && Some(id) != newest) {
                mounts.push(ListedMount { id, node, relations: None });
            } else if let Some((node, relations)) = statmount::numbers(id, namespace)? {
                mounts.push(ListedMount { id, node, relations: Some(relations) });
                new += 1;
            }
        }
        listed.extend(mounts.iter().map(|mount| (mount.id, mount.node)));
        if let Some(record) = record.filter(|_| new > mounts.len() / NEW_ONE_OF) {
            record.write(&listed);
        }
        Ok(mounts)
    }
}

/// The file of what is known.
struct Record<'f> {
    folder: BorrowedFd<'f>,
    /// Its first bytes: of which form it is, and of which start of the machine.
    header: Vec<u8>,
}

const FILE: &str = "mounts";
/// The form of the file, with a number that changes with it.
const FORM: &[u8] = b"mountgate mounts 2\n";
/// The bytes of a boot id: a UUID and the end of the line.
const BOOT_ID: usize = 37;
/// The bytes of one mount: five numbers.
const ENTRY: usize = 40;

impl<'f> Record<'f> {
    /// Nothing where it can't be told whether the machine has started anew.
    fn open(folder: BorrowedFd<'f>) -> Option<Self> {
        let header = [FORM, &boot_id().ok()?].concat();
        Some(Self { folder, header })
    }

    /// The known mounts by their 64-bit ids. A file that anybody else could write counts for nothing.
    fn read(&self) -> Vec<(u64, Node)> {
        let read = || -> io::Result<Vec<u8>> {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file = openat(self.folder, FILE, flags, Mode::empty())?;
            check_private(&file, FileType::RegularFile)?;
            let mut bytes = Vec::new();
            File::from(file).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().unwrap_or_default();
        let entries = bytes.strip_prefix(self.header.as_slice()).unwrap_or_default();
        entries.as_chunks().0.iter().filter_map(from_bytes).collect()
    }

    fn write(&self, mounts: &[(u64, Node)]) {
        let mut bytes = self.header.clone();
        mounts.iter().for_each(|(id, node)| bytes.extend(to_bytes(*id, *node)));
        let written = may_make().and_then(|()| replace_for_now(self.folder, FILE, Mode::RUSR | Mode::WUSR, &bytes));
        if let Err(error) = written {
            tracing::debug!("what is known of the mounts couldn't be kept: {error}");
        }
    }
}

fn to_bytes(id: u64, node: Node) -> Vec<u8> {
    let Device { major, minor } = node.device;
    [id, node.id, major.into(), minor.into(), node.is_btrfs.into()].map(u64::to_ne_bytes).concat()
}

/// Nothing for what was never written.
fn from_bytes(bytes: &[u8; ENTRY]) -> Option<(u64, Node)> {
    let (words, _) = bytes.as_chunks();
    let [id, number, major, minor, is_btrfs] = <[[u8; 8]; 5]>::try_from(words).ok()?.map(u64::from_ne_bytes);
    let device = Device { major: major.try_into().ok()?, minor: minor.try_into().ok()? };
    Some((id, Node { id: number, device, is_btrfs: is_btrfs != 0 }))
}

/// What names this start of the machine.
fn boot_id() -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open("/proc/sys/kernel/random/boot_id", flags, Mode::empty())?;
    // A container may have another file there.
    if fstatfs(&file)?.f_type != PROC_SUPER_MAGIC {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut id = Vec::new();
    File::from(file).read_to_end(&mut id)?;
    if id.len() == BOOT_ID { Ok(id) } else { Err(io::ErrorKind::InvalidData.into()) }
}
