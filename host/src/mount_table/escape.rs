//! The kernel's octal escapes in mount tables, and what stands in for bytes that aren't UTF-8.
//!
//! The kernel (`fs/proc_namespace.c`) escapes space, tab, newline and backslash as three octal digits, in sources and
//! types `#` as well, and nothing else: every other byte, valid UTF-8 or not, stands for itself.

use std::borrow::Cow;

use super::bytes::find;

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

/// A field in the kernel's escapes as text.
pub(super) fn to_text(raw: &[u8]) -> String {
    match String::from_utf8(unescape(raw).into_owned()) {
        Ok(text) => text,
        Err(_) => escape_non_utf8(raw),
    }
}

/// A path as the table's text has it, from the kernel's bytes.
pub(crate) fn path_to_text(raw: &[u8]) -> String {
    raw_to_text(raw, ESCAPED_IN_PATHS)
}

/// Turns unescaped bytes into text: the same text that [`to_text`] makes from the escaped bytes.
pub(super) fn raw_to_text(raw: &[u8], escaped: &[u8]) -> String {
    match std::str::from_utf8(raw) {
        Ok(text) => text.to_owned(),
        Err(_) => escape_non_utf8(&escape(raw, escaped)),
    }
}

/// Bytes as text, with what isn't UTF-8 in octal escapes.
pub(super) fn escape_non_utf8(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len() + 8);
    for chunk in raw.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\{byte:03o}"));
        }
    }
    text
}
