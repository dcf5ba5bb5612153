//! The host's mounts: read once, kept as the kernel's own bytes, asked many questions.
//!
//! The text stays as one buffer with the fields' places in it; escapes are undone when a field is read, so that
//! reading a table of ten thousand mounts costs little more than the kernel's printing it.

mod index;
mod parse;
mod snapshot;
pub(crate) mod statmount;
mod tree;

use std::borrow::Cow;
use std::io::{self, Read};
use std::path::Path;
use std::sync::OnceLock;

use serde::Serialize;

use index::Index;
pub(crate) use parse::unescape;
use parse::{Fields, Span};
pub use snapshot::Snapshot;
pub use tree::print_tree;

/// A table of mounts.
#[derive(Debug)]
pub struct MountTable {
    text: Vec<u8>,
    entries: Vec<Fields>,
    bad_lines: Vec<BadLine>,
    index: OnceLock<Index>,
}

/// A line that isn't one of mountinfo or mounts. The rest of the table is there nevertheless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// What it says, with what isn't UTF-8 in octal escapes.
    pub text: String,
    /// What is wrong with it.
    pub error: String,
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

    /// The same for an open file.
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

    /// The mounts in the kernel's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Mount<'_>> {
        self.entries.iter().map(|fields| Mount { table: self, fields })
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
        self.index().covering(self, path).map(|i| self.nth(i))
    }

    /// The visible mount whose mount point is exactly this path; none means that it's no mount point.
    pub fn mount_point(&self, path: &[u8]) -> Option<Mount<'_>> {
        self.covering(path).filter(|mount| *mount.target() == *path)
    }

    /// The mounts strictly below a path, in byte order of their mount points.
    pub fn below<'s>(&'s self, path: &[u8]) -> impl ExactSizeIterator<Item = Mount<'s>> + use<'s> {
        let range = self.index().below(self, path);
        self.places(range)
    }

    /// The mounts with exactly this source.
    pub fn by_source<'s>(&'s self, source: &[u8]) -> impl ExactSizeIterator<Item = Mount<'s>> + use<'s> {
        self.places(self.index().by_source(self, source))
    }

    /// The mounts of the file system on a device.
    pub fn by_device<'s>(&'s self, major: u32, minor: u32) -> impl ExactSizeIterator<Item = Mount<'s>> + use<'s> {
        self.places(self.index().by_device(self, major, minor))
    }

    /// The mount with this mountinfo id.
    pub fn by_id(&self, id: u64) -> Option<Mount<'_>> {
        self.index().by_id(id).map(|i| self.nth(i))
    }

    /// All mounts that are mounted on a mount or on one of those, in the table's order.
    pub(crate) fn descendants(&self, id: u64) -> impl Iterator<Item = Mount<'_>> {
        // The kernel prints parents before their children, but for mounts that were moved.
        let mut within = std::collections::HashSet::from([id]);
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
        Mount { table: self, fields: &self.entries[i] }
    }

    fn places<'s>(&'s self, places: &'s [u32]) -> impl ExactSizeIterator<Item = Mount<'s>> + use<'s> {
        places.iter().map(|i| self.nth(*i as usize))
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::of(self))
    }
}

/// One mount: a line of mountinfo, see proc(5). Of a table in the format of mounts the numbers are 0.
#[derive(Debug, Clone, Copy)]
pub struct Mount<'t> {
    table: &'t MountTable,
    fields: &'t Fields,
}

impl<'t> Mount<'t> {
    /// Mount id; the kernel uses it again after the mount is gone.
    pub fn id(&self) -> u64 {
        self.fields.id
    }

    /// The id of the mount that it's mounted on.
    pub fn parent(&self) -> u64 {
        self.fields.parent
    }

    /// Major number of the file system's device.
    pub fn major(&self) -> u32 {
        self.fields.major
    }

    /// Minor number of the file system's device.
    pub fn minor(&self) -> u32 {
        self.fields.minor
    }

    /// The folder of the file system that is mounted; `//deleted` at its end is the kernel's word for a deleted one.
    pub fn root(&self) -> Cow<'t, [u8]> {
        self.field(self.fields.root)
    }

    /// The mount point.
    pub fn target(&self) -> Cow<'t, [u8]> {
        self.field(self.fields.target)
    }

    /// The file system type with its subtype.
    pub fn fstype(&self) -> Cow<'t, [u8]> {
        self.field(self.fields.fstype)
    }

    /// The source, which may be empty.
    pub fn source(&self) -> Cow<'t, [u8]> {
        self.field(self.fields.source)
    }

    /// Per-mount options in order.
    pub fn options(&self) -> impl Iterator<Item = Cow<'t, [u8]>> + use<'t> {
        self.list(self.fields.options, b',')
    }

    /// Optional fields such as `shared:2`.
    pub fn optional_fields(&self) -> impl Iterator<Item = Cow<'t, [u8]>> + use<'t> {
        self.list(self.fields.optional_fields, b' ')
    }

    /// The file system's own options in order.
    pub fn super_options(&self) -> impl Iterator<Item = Cow<'t, [u8]>> + use<'t> {
        self.list(self.fields.super_options, b',')
    }

    /// Whether a per-mount option or one of the file system is there.
    pub fn has_option(&self, name: &str) -> bool {
        self.options().chain(self.super_options()).any(|option| *option == *name.as_bytes())
    }

    /// Whether its mount point is this path or below it.
    pub fn is_within(&self, path: &[u8]) -> bool {
        let target = self.target();
        path == b"/" || target.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    fn field(&self, span: Span) -> Cow<'t, [u8]> {
        unescape(span.of(&self.table.text))
    }

    /// Split first, unescape then: an escaped comma belongs to its option.
    fn list(&self, span: Span, separator: u8) -> impl Iterator<Item = Cow<'t, [u8]>> + use<'t> {
        let text = span.of(&self.table.text);
        text.split(move |byte| *byte == separator).filter(|part| !part.is_empty()).map(unescape)
    }

    /// All of it as text, for plugins and scripts.
    pub fn to_text(&self) -> MountText {
        let escaped = |span: Span| to_text(span.of(&self.table.text));
        let list = |span: Span, separator: u8| {
            let parts = span.of(&self.table.text).split(move |byte| *byte == separator);
            parts.filter(|part| !part.is_empty()).map(to_text).collect()
        };
        let fields = self.fields;
        MountText {
            id: fields.id,
            parent: fields.parent,
            major: fields.major,
            minor: fields.minor,
            root: escaped(fields.root),
            target: escaped(fields.target),
            options: list(fields.options, b','),
            optional_fields: list(fields.optional_fields, b' '),
            fstype: escaped(fields.fstype),
            source: escaped(fields.source),
            super_options: list(fields.super_options, b','),
        }
    }
}

/// A mount whose fields are text: unescaped where that is UTF-8, and where it isn't, still in the kernel's octal
/// escapes, with the odd bytes escaped the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "named as the accessors of Mount")]
pub struct MountText {
    pub id: u64,
    pub parent: u64,
    pub major: u32,
    pub minor: u32,
    pub root: String,
    pub target: String,
    pub options: Vec<String>,
    pub optional_fields: Vec<String>,
    pub fstype: String,
    pub source: String,
    pub super_options: Vec<String>,
}

/// A field in the kernel's escapes as text.
pub(crate) fn to_text(raw: &[u8]) -> String {
    match String::from_utf8(unescape(raw).into_owned()) {
        Ok(text) => text,
        Err(_) => escape_non_utf8(raw),
    }
}

/// Bytes as text, with what isn't UTF-8 in octal escapes.
fn escape_non_utf8(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len() + 8);
    for chunk in raw.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\{byte:03o}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> MountTable {
        MountTable::parse(text.as_bytes().to_vec()).expect("small")
    }

    const HOST: &str = "\
20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
21 20 0:5 / /proc rw,nosuid - proc proc rw
22 20 0:30 / /mnt rw - tmpfs tmpfs rw
23 22 0:31 / /mnt/a rw - tmpfs one rw
24 22 0:32 / /mnt/a.b rw - tmpfs two rw
25 23 0:33 / /mnt/a rw - tmpfs three rw
26 20 0:34 / /srv/x rw - tmpfs one rw
27 20 0:35 / /srv rw - tmpfs over rw
";

    #[test]
    fn the_visible_mount_of_a_stack_comes_last() {
        let table = table(HOST);
        let ids: Vec<u64> = table.at(b"/mnt/a").map(|m| m.id()).collect();
        assert_eq!(ids, [23, 25]);
        assert_eq!(table.covering(b"/mnt/a/deep/er").map(|m| m.id()), Some(25));
        assert_eq!(table.covering(b"/mnt/ab").map(|m| m.id()), Some(22));
    }

    #[test]
    fn a_hidden_mount_covers_nothing() {
        let table = table(HOST);
        assert_eq!(table.covering(b"/srv/x/y").map(|m| m.id()), Some(27));
        assert!(table.mount_point(b"/srv/x").is_none());
        assert_eq!(table.mount_point(b"/srv").map(|m| m.id()), Some(27));
    }

    #[test]
    fn without_ids_the_longest_mount_point_covers() {
        let table = table("/dev/sda1 / ext4 rw 0 0\ntmpfs /mnt tmpfs rw 0 0\n");
        assert_eq!(table.covering(b"/mnt/a").map(|m| m.source().into_owned()), Some(b"tmpfs".to_vec()));
        assert!(table.mount_point(b"/mnt").is_some() && table.mount_point(b"/mnt/a").is_none());
    }

    #[test]
    fn below_goes_by_path_component() {
        let table = table(HOST);
        let ids = |path: &[u8]| table.below(path).map(|m| m.id()).collect::<Vec<_>>();
        assert_eq!(ids(b"/mnt"), [23, 25, 24]);
        assert_eq!(ids(b"/mnt/a"), [] as [u64; 0]);
        assert_eq!(table.below(b"/").len(), 7);
    }

    #[test]
    fn sources_devices_and_ids_are_found() {
        let table = table(HOST);
        assert_eq!(table.by_source(b"one").map(|m| m.id()).collect::<Vec<_>>(), [23, 26]);
        assert_eq!(table.by_device(0, 32).map(|m| m.id()).collect::<Vec<_>>(), [24]);
        assert!(table.by_id(99).is_none());
    }

    #[test]
    fn descendants_are_found_by_their_parents() {
        let table = table(HOST);
        assert_eq!(table.descendants(22).map(|m| m.id()).collect::<Vec<_>>(), [23, 24, 25]);
        assert_eq!(table.descendants(25).count(), 0);
    }
}
