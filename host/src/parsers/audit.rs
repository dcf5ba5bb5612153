//! An audit file.

use serde_json::Value;

use crate::audit::entry::hash;
use crate::audit::read::read;
use crate::mount_table::table::MountTable;

/// An audit file: as it is, and with the digests that the log would have written. In a file that is read, no line can be changed,
/// taken out or put in before the last one.
///
/// # Panics
/// Where that doesn't hold.
pub(super) fn audit(data: &[u8]) {
    let _ = read(data);
    let mut text = Vec::new();
    let mut before: Option<String> = None;
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(mut entry) = serde_json::from_slice::<Value>(line) else { continue };
        let Some(fields) = entry.as_object_mut() else { continue };
        fields.insert("previous".to_owned(), before.take().map_or(Value::Null, Value::String));
        let line = entry.to_string();
        before = Some(hash(line.as_bytes()));
        text.extend(line.as_bytes());
        text.push(b'\n');
    }
    let Ok(entries) = read(&text) else { return };
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(entries.len(), lines.len());
    for entry in &entries {
        // The next step of a replay.
        let _ = MountTable::parse(entry.mounts.clone().into_bytes());
    }
    if lines.len() < 2 {
        return;
    }
    assert!(read(&lines[..lines.len() - 1].concat()).is_ok(), "the start of a file is one");
    let (first, rest) = lines.split_at(1);
    let mut changed = first[0].to_vec();
    changed.insert(1, b' ');
    assert!(read(&[&changed, rest.concat().as_slice()].concat()).is_err(), "a line was changed");
    assert!(read(&[first[0], first[0], rest.concat().as_slice()].concat()).is_err(), "a line was put in");
    if let Some(after) = rest.get(1..).filter(|after| !after.is_empty()) {
        assert!(read(&[first[0], after.concat().as_slice()].concat()).is_err(), "a line was taken out");
    }
}
