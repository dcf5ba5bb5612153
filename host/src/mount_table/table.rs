//! A table of mounts: read once, kept as the kernel's own bytes, asked many questions.
//!
//! The text stays one buffer, with the places of the fields in it. Escapes are undone when a field is read. So reading a
//! table of ten thousand mounts costs little more than the kernel needs to print it.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::Path;
use std::sync::OnceLock;

use super::bad_line::BadLine;
use super::escape::escape_non_utf8;
use super::index::Index;
use super::mount::{Mount, Mounts};
use super::parse::{self, Fields};

/// A table of mounts.
#[derive(Debug)]
pub struct MountTable {
    text: Vec<u8>,
    entries: Vec<Fields>,
    bad_lines: Vec<BadLine>,
    index: OnceLock<Index>,
}

impl MountTable {
    /// Reads a table from a file such as `/proc/1/mountinfo`.
    ///
    /// Since Linux 5.8 one pass over it is consistent, so it's read once, in large pieces.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        Self::read_from(std::fs::File::open(path)?)
    }

    /// Reads a table from an open file.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) fn read_from(mut file: std::fs::File) -> io::Result<Self> {
        let mut text = vec![0; 64 << 10];
        let mut filled = 0;
        loop {
            match file.read(&mut text[filled..])? {
                0 => break,
                n => filled += n,
            }
            if text.len() - filled < 16 << 10 {
                text.resize(text.len() * 2, 0);
            }
        }
        text.truncate(filled);
        Self::parse(text)
    }

    /// Parses the text of mountinfo or of mounts, see proc(5).
    ///
    /// # Errors
    /// When it's 4 GiB or more.
    pub fn parse(text: Vec<u8>) -> io::Result<Self> {
        if u32::try_from(text.len()).is_err() {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a mount table of 4 GiB or more"));
        }
        let (entries, bad_lines) = parse::lines(&text);
        Ok(Self { text, entries, bad_lines, index: OnceLock::new() })
    }

    /// This table without the mounts with these mountinfo ids.
    #[must_use]
    pub(crate) fn without(mut self, hidden: &HashSet<u64>) -> Self {
        self.entries.retain(|fields| !hidden.contains(&fields.id));
        Self { index: OnceLock::new(), ..self }
    }

    /// The text that it was read from, with what isn't UTF-8 in octal escapes.
    pub(crate) fn to_mountinfo(&self) -> String {
        escape_non_utf8(&self.text)
    }

    /// The mounts in the kernel's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Mount<'_>> {
        self.mounts().iter()
    }

    /// How many mounts there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The lines that couldn't be read.
    pub fn bad_lines(&self) -> &[BadLine] {
        &self.bad_lines
    }

    /// At most `limit` mounts from the `offset`th on.
    pub fn page(&self, offset: usize, limit: usize) -> impl Iterator<Item = Mount<'_>> {
        let start = offset.min(self.len());
        let end = start.saturating_add(limit).min(self.len());
        (start..end).map(|i| self.nth(i))
    }

    /// The mounts at exactly this mount point, the visible one last.
    pub fn at<'s>(&'s self, target: &[u8]) -> impl ExactSizeIterator<Item = Mount<'s>> + use<'s> {
        self.places(self.index().at(target))
    }

    /// The mount that a path lies on, as the kernel's path walk would find it: a mount hidden below another isn't it.
    pub fn covering(&self, path: &[u8]) -> Option<Mount<'_>> {
        self.index().covering(self.mounts(), path).map(|i| self.nth(i))
    }

    /// The visible mount whose mount point is exactly this path; none means that it's no mount point.
    pub fn mount_point(&self, path: &[u8]) -> Option<Mount<'_>> {
        self.covering(path).filter(|mount| *mount.target() == *path)
    }

    /// The mounts strictly below a path, in byte order of their mount points.
    pub fn below<'s>(&'s self, path: &[u8]) -> impl ExactSizeIterator<Item = Mount<'s>> + use<'s> {
        let range = self.index().below(self.mounts(), path);
        self.places(range)
    }

    /// The mounts with exactly this source.
    pub fn by_source<'s>(&'s self, source: &[u8]) -> impl ExactSizeIterator<Item = Mount<'s>> + use<'s> {
        self.places(self.index().by_source(self.mounts(), source))
    }

    /// The mounts of the file system on a device.
    pub fn by_device<'s>(&'s self, major: u32, minor: u32) -> impl ExactSizeIterator<Item = Mount<'s>> + use<'s> {
        self.places(self.index().by_device(self.mounts(), major, minor))
    }

    /// The mount with this mountinfo id.
    pub fn by_id(&self, id: u64) -> Option<Mount<'_>> {
        self.index().by_id(id).map(|i| self.nth(i))
    }

    /// All mounts that are mounted on a mount or on one of those, in the table's order.
    pub(crate) fn descendants(&self, id: u64) -> impl Iterator<Item = Mount<'_>> {
        // The kernel prints parents before their children, but for mounts that were moved.
        let mut within = HashSet::from([id]);
        loop {
            let before = within.len();
            let children = self.iter().filter(|mount| within.contains(&mount.parent())).map(|mount| mount.id());
            let more: Vec<u64> = children.collect();
            within.extend(more);
            if within.len() == before {
                break;
            }
        }
        self.iter().filter(move |mount| mount.id() != id && within.contains(&mount.id()))
    }

    fn nth(&self, i: usize) -> Mount<'_> {
        self.mounts().nth(i)
    }

    fn mounts(&self) -> Mounts<'_> {
        Mounts { text: &self.text, fields: &self.entries }
    }

    fn places<'s>(&'s self, places: &'s [u32]) -> impl ExactSizeIterator<Item = Mount<'s>> + use<'s> {
        places.iter().map(|i| self.nth(*i as usize))
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::of(self.mounts()))
    }
}
