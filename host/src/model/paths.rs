//! Paths as text. What a path leads to on the host is known only after it was resolved.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The components of a path without empty ones and `.`.
pub(crate) fn components(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|name| !matches!(*name, "" | "."))
}

/// A path without empty components and `.`.
pub(crate) fn lexical(path: &str) -> String {
    let joined = components(path).fold(String::new(), |path, name| path + "/" + name);
    if joined.is_empty() { "/".to_owned() } else { joined }
}

/// Whether a path can only name a directory, as `a/` and `a/.` do.
pub(crate) fn names_directory(path: &str) -> bool {
    path.ends_with('/') || path == "." || path.ends_with("/.")
}

/// A path relative to a root, as openat2(2) takes it.
pub(crate) fn relative(path: &(impl AsRef<OsStr> + ?Sized)) -> &OsStr {
    let bytes = path.as_ref().as_bytes();
    let start = bytes.iter().take_while(|byte| **byte == b'/').count();
    OsStr::from_bytes(if start == bytes.len() { b"." } else { &bytes[start..] })
}

/// Whether a path is a folder or lies below it. Whole components are compared: `/a` holds `/a/b` and not `/ab`.
pub(crate) fn is_within(path: impl AsRef<[u8]>, folder: impl AsRef<[u8]>) -> bool {
    let mut folder = folder.as_ref();
    while let Some(rest) = folder.strip_suffix(b"/") {
        folder = rest;
    }
    path.as_ref().strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Whether the source of a new mount is a path. `//server/share` isn't one.
pub(crate) fn is_source_path(source: &str) -> bool {
    source.starts_with('/') && !source.starts_with("//")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_by_component() {
        assert!(is_within("/a/b", "/a"));
        assert!(is_within("/a", "/a/"));
        assert!(is_within("/ab", "/"));
        assert!(is_within("/", "/"));
        assert!(!is_within("/ab", "/a"));
        assert!(!is_within("/", "/a"));
    }

    #[test]
    fn a_lexical_path_has_no_empty_components() {
        assert_eq!(lexical("//a/./b/"), "/a/b");
        assert_eq!(lexical("/"), "/");
    }
}
