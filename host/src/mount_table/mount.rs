//! One mount of a table.

use std::borrow::Cow;

use serde::Serialize;

use super::escape::{to_text, unescape};
use super::node_paths::NodePaths;
use super::parse::{Fields, Span};

/// One mount: a line of mountinfo, see proc(5). Of a table in the format of mounts the numbers are 0.
#[derive(Debug, Clone, Copy)]
pub struct Mount<'t> {
    text: &'t [u8],
    fields: &'t Fields,
}

/// The mounts of a table, in the kernel's order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mounts<'t> {
    pub(super) text: &'t [u8],
    pub(super) fields: &'t [Fields],
}

impl<'t> Mounts<'t> {
    pub(super) fn nth(self, i: usize) -> Mount<'t> {
        Mount { text: self.text, fields: &self.fields[i] }
    }

    pub(super) fn len(self) -> usize {
        self.fields.len()
    }

    pub(super) fn iter(self) -> impl ExactSizeIterator<Item = Mount<'t>> {
        self.fields.iter().map(move |fields| Mount { text: self.text, fields })
    }
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

    fn field(&self, span: Span) -> Cow<'t, [u8]> {
        unescape(span.of(self.text))
    }

    /// Split first, unescape then: an escaped comma belongs to its option.
    fn list(&self, span: Span, separator: u8) -> impl Iterator<Item = Cow<'t, [u8]>> + use<'t> {
        parts(span.of(self.text), separator).map(unescape)
    }

    /// Its paths as text.
    pub(crate) fn paths(&self) -> NodePaths {
        let escaped = |span: Span| to_text(span.of(self.text));
        NodePaths { root: escaped(self.fields.root), target: escaped(self.fields.target) }
    }

    /// All of it as text, for plugins and scripts.
    pub fn to_text(&self) -> MountText {
        let escaped = |span: Span| to_text(span.of(self.text));
        let list = |span: Span, separator: u8| parts(span.of(self.text), separator).map(to_text).collect();
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

/// The parts of a list. A separator between double quotes belongs to its part, as in SELinux's `context="a:b,c"`. A quote that
/// isn't closed is a character like others.
pub(super) fn parts(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let is_balanced = text.iter().filter(|byte| **byte == b'"').count().is_multiple_of(2);
    let mut quoted = false;
    let split = text.split(move |byte| {
        quoted ^= is_balanced && *byte == b'"';
        *byte == separator && !quoted
    });
    split.filter(|part| !part.is_empty())
}

/// A mount whose fields are text: unescaped where that is UTF-8, and where it isn't, still in the kernel's octal
/// escapes, with the odd bytes escaped the same way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
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
