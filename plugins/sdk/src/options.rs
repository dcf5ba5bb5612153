//! Options of a request.

use crate::MountOption;

/// Which of two contradicting options counts, such as `ro` and `rw`: the last one.
pub fn last_of<'w>(options: &[MountOption], one: &'w str, other: &'w str) -> Option<&'w str> {
    options.iter().rev().find_map(|option| match option.name.as_str() {
        name if name == one => Some(one),
        name if name == other => Some(other),
        _ => None,
    })
}
