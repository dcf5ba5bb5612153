//! The formats of `/proc/PID/mountinfo` and `/proc/PID/mounts`, see proc(5), byte for byte.
//!
//! The kernel (`fs/proc_namespace.c`) escapes space, tab, newline and backslash as three octal digits, in sources and
//! types `#` as well, and nothing else: every other byte, valid UTF-8 or not, stands for itself.

use std::borrow::Cow;

use super::{BadLine, escape_non_utf8};

/// A piece of the table's text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    pub(super) fn of(self, text: &[u8]) -> &[u8] {
        let start = self.start as usize;
        &text[start..start + self.len as usize]
    }
}

/// The fields of one line, still escaped.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) id: u64,
    pub(super) parent: u64,
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) root: Span,
    pub(super) target: Span,
    pub(super) options: Span,
    pub(super) optional_fields: Span,
    pub(super) fstype: Span,
    pub(super) source: Span,
    pub(super) super_options: Span,
}

/// Parses every line. Whether the text is mountinfo or mounts is seen line by line.
pub(super) fn lines(text: &[u8]) -> (Vec<Fields>, Vec<BadLine>) {
    let mut entries = Vec::with_capacity(text.len() / 96);
    let mut bad_lines = Vec::new();
    let mut start = 0;
    let mut number = 0;
    while start < text.len() {
        let rest = &text[start..];
        let len = find(rest, b'\n').unwrap_or(rest.len());
        number += 1;
        let mut line = Line { text: &rest[..len], start, at: 0 };
        if len > 0 {
            match line.mountinfo().or_else(|error| line.mounts().ok_or(error)) {
                Ok(fields) => entries.push(fields),
                Err(error) => {
                    bad_lines.push(BadLine { line: number, text: escape_non_utf8(line.text), error: error.to_owned() })
                }
            }
        }
        start += len + 1;
    }
    (entries, bad_lines)
}

/// The first place of a byte, eight bytes at a time.
fn find(text: &[u8], byte: u8) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let pattern = LOW * u64::from(byte);
    let (words, tail) = text.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let differs = u64::from_le_bytes(*word) ^ pattern;
        let zeros = differs.wrapping_sub(LOW) & !differs & HIGH;
        if zeros != 0 {
            return Some(i * 8 + (zeros.trailing_zeros() / 8) as usize);
        }
    }
    let done = words.len() * 8;
    tail.iter().position(|b| *b == byte).map(|i| done + i)
}

/// A line being read.
struct Line<'t> {
    text: &'t [u8],
    /// Where it starts in the table.
    start: usize,
    at: usize,
}

impl Line<'_> {
    /// `36 35 98:0 /root /target rw,noatime shared:1 - ext3 /dev/root rw`
    fn mountinfo(&mut self) -> Result<Fields, &'static str> {
        self.at = 0;
        let id = self.number(b' ').ok_or("no mount id at its start")?;
        let parent = self.number(b' ').ok_or("no parent id behind the mount id")?;
        let major = self.number(b':').and_then(|n| u32::try_from(n).ok()).ok_or("no device number")?;
        let minor = self.number(b' ').and_then(|n| u32::try_from(n).ok()).ok_or("no device number")?;
        let root = self.word().ok_or("it ends before the root")?;
        let target = self.word().ok_or("it ends before the mount point")?;
        let options = self.word().ok_or("it ends before the options")?;
        let optional_start = self.at;
        let optional_end = loop {
            let before = self.at;
            let word = self.word().ok_or("no ` - ` before the file system type")?;
            if word.of_line(self) == b"-" {
                break before;
            }
        };
        let fstype = self.word().ok_or("it ends before the source")?;
        let source = self.word().ok_or("it ends before the file system's options")?;
        Ok(Fields {
            id,
            parent,
            major,
            minor,
            root: root.place,
            target: target.place,
            options: options.place,
            optional_fields: self.span(optional_start, optional_end.saturating_sub(1).max(optional_start)),
            fstype: fstype.place,
            source: source.place,
            // A file system may print a bare space here: what is left is all its own.
            super_options: self.span(self.at, self.text.len()),
        })
    }

    /// `/dev/root /target ext3 rw,noatime 0 0`
    fn mounts(&mut self) -> Option<Fields> {
        self.at = 0;
        let (source, target, fstype, options) = (self.word()?, self.word()?, self.word()?, self.word()?);
        let absolute = target.of_line(self).first() == Some(&b'/');
        let (freq, passno) = self.text[self.at..].split_at_checked(1)?;
        let numbers = freq == b"0" && passno.first() == Some(&b' ') && passno[1..].iter().all(u8::is_ascii_digit);
        (absolute && numbers).then(|| Fields {
            source: source.place,
            target: target.place,
            fstype: fstype.place,
            options: options.place,
            ..Fields::default()
        })
    }

    fn number(&mut self, end: u8) -> Option<u64> {
        let mut number: u64 = 0;
        let first = self.at;
        loop {
            let byte = *self.text.get(self.at)?;
            self.at += 1;
            match byte {
                b'0'..=b'9' => number = number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?,
                _ if byte == end && self.at > first + 1 => return Some(number),
                _ => return None,
            }
        }
    }

    /// What stands before the next space, which may be nothing.
    fn word(&mut self) -> Option<Word> {
        let from = self.at;
        let len = find(&self.text[from..], b' ')?;
        self.at = from + len + 1;
        Some(Word { place: self.span(from, from + len), from, to: from + len })
    }

    #[expect(clippy::cast_possible_truncation, reason = "the table is smaller than 4 GiB")]
    fn span(&self, from: usize, to: usize) -> Span {
        Span { start: (self.start + from) as u32, len: (to - from) as u32 }
    }
}

struct Word {
    place: Span,
    from: usize,
    to: usize,
}

impl Word {
    fn of_line<'t>(&self, line: &Line<'t>) -> &'t [u8] {
        &line.text[self.from..self.to]
    }
}

/// What the kernel escapes in roots and mount points.
pub(super) const ESCAPED_IN_PATHS: &[u8] = b" \t\n\\";
/// What the kernel escapes in types and sources.
pub(super) const ESCAPED_IN_NAMES: &[u8] = b" \t\n\\#";

/// Escapes bytes as the kernel does.
pub(super) fn escape(bytes: &[u8], escaped: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match escaped.contains(byte) {
            true => text.extend(format!("\\{byte:03o}").as_bytes()),
            false => text.push(*byte),
        }
    }
    text
}

/// Undoes the kernel's octal escapes, once.
pub(crate) fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    if find(raw, b'\\').is_none() {
        return Cow::Borrowed(raw);
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(*first);
        if *first == b'\\'
            && let [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] = tail
        {
            bytes.pop();
            bytes.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
            rest = after;
        }
    }
    Cow::Owned(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::MountTable;
    use super::*;

    fn only(line: &[u8]) -> MountTable {
        let table = MountTable::parse(line.to_vec()).expect("small");
        assert_eq!(table.len(), 1, "{:?}", table.bad_lines());
        table
    }

    #[test]
    fn escapes_are_undone_once() {
        assert_eq!(*unescape(br"a\040b\134040\011\012"), *b"a b\\040\t\n");
        assert_eq!(*unescape(br"\134043"), *br"\043");
        assert_eq!(*unescape(br"\9\08\400\"), *br"\9\08\400\");
    }

    #[test]
    fn an_empty_source_is_two_spaces() {
        let table = only(b"1 0 0:1 / /a rw - tmpfs  rw\n");
        let mount = table.iter().next().expect("one");
        assert_eq!(*mount.source(), *b"");
        assert_eq!(mount.super_options().collect::<Vec<_>>(), [&b"rw"[..]]);
    }

    #[test]
    fn optional_fields_are_kept_in_order() {
        let table = only(b"1 0 0:1 / /a rw shared:1 master:2 propagate_from:3 - tmpfs t rw\n");
        let fields: Vec<_> = table.iter().next().expect("one").optional_fields().map(Cow::into_owned).collect();
        assert_eq!(fields, [&b"shared:1"[..], b"master:2", b"propagate_from:3"]);
    }

    #[test]
    fn an_escaped_comma_belongs_to_its_option() {
        let table = only(br"1 0 0:1 / /a rw - overlay o rw,lowerdir=/a\054b:/c\134d,index=off");
        let options: Vec<_> = table.iter().next().expect("one").super_options().map(Cow::into_owned).collect();
        assert_eq!(options, [&b"rw"[..], b"lowerdir=/a,b:/c\\d", b"index=off"]);
    }

    #[test]
    fn bytes_that_only_look_like_separators_are_names() {
        let table = only(b"1 0 0:1 / /a\r\x0b\x0c\xc2\xa0\xff rw - tmpfs t\r rw\n");
        let mount = table.iter().next().expect("one");
        assert_eq!(*mount.target(), *b"/a\r\x0b\x0c\xc2\xa0\xff");
        assert_eq!(mount.to_text().target, "/a\r\u{b}\u{c}\u{a0}\\377");
    }

    #[test]
    fn one_bad_line_blinds_nobody() {
        let table = MountTable::parse(
            b"1 0 0:1 / /a rw - tmpfs t rw\n2 x 0:1 / /b rw - tmpfs t rw\n3 0 0:1 / /c rw - tmpfs t rw".to_vec(),
        )
        .expect("small");
        assert_eq!(table.len(), 2);
        assert_eq!(table.bad_lines()[0].line, 2);
    }

    #[test]
    fn the_format_of_mounts_is_read_too() {
        let table = only(br"/dev/sda1 /a\040b ext4 rw,noatime 0 0");
        let mount = table.iter().next().expect("one");
        assert_eq!(*mount.target(), *b"/a b");
        assert_eq!(*mount.source(), *b"/dev/sda1");
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(text in prop::collection::vec(any::<u8>(), 0..256)) {
            let table = MountTable::parse(text).expect("small");
            for mount in table.iter() {
                let _ = mount.to_text();
                let _ = table.covering(&mount.target());
                let _ = table.at(&mount.target()).count();
            }
        }

        #[test]
        fn what_the_kernel_escapes_is_read_back(
            target in prop::collection::vec(1u8..=255, 1..24),
            source in prop::collection::vec(1u8..=255, 0..24),
        ) {
            let mut line = b"1 0 0:1 / /".to_vec();
            line.extend(escape(&target, ESCAPED_IN_PATHS));
            line.extend(b" rw - tmpfs ");
            line.extend(escape(&source, ESCAPED_IN_NAMES));
            line.extend(b" rw\n");
            let table = only(&line);
            let mount = table.iter().next().expect("one");
            prop_assert_eq!(&mount.target()[1..], &target[..]);
            prop_assert_eq!(&*mount.source(), &source[..]);
        }

        #[test]
        fn the_wide_search_agrees_with_the_plain_one(text in prop::collection::vec(0u8..4, 0..40), byte in 0u8..4) {
            prop_assert_eq!(find(&text, byte), text.iter().position(|b| *b == byte));
        }
    }
}
