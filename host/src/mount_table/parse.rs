//! The formats of `/proc/PID/mountinfo` and `/proc/PID/mounts`, see proc(5), byte for byte.

use super::bad_line::BadLine;
use super::bytes::find;
use super::escape::escape_non_utf8;

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
    let mut bad = Vec::new();
    let mut start = 0;
    let mut number = 0;
    while start < text.len() {
        let rest = &text[start..];
        let len = find(rest, b'\n').unwrap_or(rest.len());
        number += 1;
        let mut line = Line { text: &rest[..len], start, at: 0 };
        if len > 0 {
            match line.mountinfo().or_else(|of_mountinfo| line.mounts().map_err(|of_mounts| (of_mountinfo, of_mounts)))
            {
                Ok(fields) => entries.push(fields),
                Err(errors) => bad.push((number, escape_non_utf8(line.text), errors)),
            }
        }
        start += len + 1;
    }
    // A bad line is told about in the words of the format that the others have.
    let is_mounts = match entries.first() {
        Some(first) => first.id == 0,
        None => !text.first().is_some_and(u8::is_ascii_digit),
    };
    let bad_lines = bad.into_iter().map(|(line, text, (of_mountinfo, of_mounts))| BadLine {
        line,
        text,
        error: if is_mounts { of_mounts } else { of_mountinfo }.to_owned(),
    });
    let bad_lines = bad_lines.collect();
    (entries, bad_lines)
}

/// A line being read.
struct Line<'t> {
    text: &'t [u8],
    /// The offset of the line in the table.
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
        if target.of_line(self).first() != Some(&b'/') {
            return Err("the mount point isn't an absolute path");
        }
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

    /// `/dev/root /target ext3 rw,noatime 0 0`, as the kernel writes it; and as mtab and fstab have it, with any numbers at the
    /// end or none, and with tabs and more than one space between the fields, see fstab(5).
    fn mounts(&mut self) -> Result<Fields, &'static str> {
        self.at = 0;
        let source = self.column().ok_or("it ends before the mount point")?;
        let target = self.column().ok_or("it ends before the file system type")?;
        let fstype = self.column().ok_or("it ends before the options")?;
        let options = self.column().ok_or("it ends before the options")?;
        if target.of_line(self).first() != Some(&b'/') && target.of_line(self) != b"none" {
            return Err("the mount point isn't an absolute path");
        }
        let rest = self.text.get(self.at..).unwrap_or_default();
        let mut numbers = rest.split(|byte| is_blank(*byte)).filter(|word| !word.is_empty());
        let are_numbers = numbers.by_ref().take(2).all(|word| word.iter().all(u8::is_ascii_digit));
        if !are_numbers || numbers.next().is_some() {
            return Err("something else than two numbers at its end");
        }
        Ok(Fields {
            source: source.place,
            target: target.place,
            fstype: fstype.place,
            options: options.place,
            ..Fields::default()
        })
    }

    /// What stands before the next blank, and skips the blanks behind it. The source may be empty before a single space, as the
    /// kernel writes it.
    fn column(&mut self) -> Option<Word> {
        let from = self.at;
        let rest = self.text.get(from..)?;
        let len = rest.iter().position(|byte| is_blank(*byte)).unwrap_or(rest.len());
        if len == 0 && from > 0 {
            return None;
        }
        let blanks = rest[len..].iter().take_while(|byte| is_blank(**byte)).count();
        self.at = from + len + if len == 0 { 1 } else { blanks };
        Some(Word { place: self.span(from, from + len), from, to: from + len })
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

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
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
