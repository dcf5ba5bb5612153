//! The table as a tree for people.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};

use super::mount::Mount;
use super::table::MountTable;
use crate::model::paths::is_within;
use crate::model::untrusted::for_people;
use crate::model::untrusted::is_hidden;

/// Prints the mounts as a tree, each below the one it's mounted on. With a path, only those at it and below.
///
/// # Errors
/// When the output can't be written.
pub fn print_tree(table: &MountTable, path: Option<&[u8]>, out: &mut impl Write) -> io::Result<()> {
    let mut children: BTreeMap<u64, Vec<Mount<'_>>> = BTreeMap::new();
    let mut tops = Vec::new();
    let below = |mount: &Mount<'_>| path.is_none_or(|path| is_within(mount.target(), path));
    let shown: HashSet<u64> = table.iter().filter(below).map(|mount| mount.id()).collect();
    for mount in table.iter().filter(below) {
        if mount.parent() != mount.id() && shown.contains(&mount.parent()) {
            children.entry(mount.parent()).or_default().push(mount);
        } else {
            tops.push(mount);
        }
    }
    let mut seen = HashSet::new();
    let mut stack: Vec<(Mount<'_>, String, bool, bool)> =
        tops.into_iter().rev().map(|mount| (mount, String::new(), true, true)).collect();
    while let Some((mount, indent, last, top)) = stack.pop() {
        let branch = match (top, last) {
            (true, _) => "",
            (false, true) => "└─",
            (false, false) => "├─",
        };
        let text = mount.to_text();
        let mut source = if text.source.is_empty() { "\"\"".to_owned() } else { in_octal(&text.source) };
        // Of a bind, what part of the file system it shows.
        if !matches!(text.root.as_str(), "" | "/") {
            source += &format!("[{}]", in_octal(&text.root));
        }
        let is_read_only = |options: &[String]| options.iter().any(|option| option == "ro");
        let note = match is_read_only(&text.super_options) && !is_read_only(&text.options) {
            true => "  (the file system is read-only)",
            false => "",
        };
        writeln!(
            out,
            "{indent}{branch}{}  {}  {}  {}{note}",
            in_octal(&text.target),
            source,
            for_people(&text.fstype),
            for_people(&text.options.join(",")),
        )?;
        // Without ids (the format of mounts) there is no tree; and ids in a file may go in circles.
        if mount.id() == 0 || !seen.insert(mount.id()) {
            continue;
        }
        let deeper = match (top, last) {
            (true, _) => indent,
            (false, true) => format!("{indent}  "),
            (false, false) => format!("{indent}│ "),
        };
        if let Some(below) = children.remove(&mount.id()) {
            for (i, child) in below.into_iter().rev().enumerate() {
                stack.push((child, deeper.clone(), i == 0, false));
            }
        }
    }
    Ok(())
}

/// A text with what isn't seen in octal escapes, as proc(5) has them and as umount takes them.
pub(crate) fn in_octal(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_hidden(c) {
            true => shown.extend(c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("\\{byte:03o}"))),
            false => shown.push(c),
        }
    }
    shown
}
