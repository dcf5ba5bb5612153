//! The symbolic links on a path, as this process sees it.

use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// The real path of a file, and the symbolic links which lead there.
///
/// # Errors
/// When it isn't there.
pub(crate) fn follow(path: &Path) -> io::Result<(PathBuf, Vec<PathBuf>)> {
    let (end, links) = on_the_way(path)?;
    // Without a link there is nothing to follow but `..`.
    let is_plain = links.is_empty() && !end.components().any(|part| part == Component::ParentDir);
    let real = if is_plain { end } else { end.canonicalize()? };
    Ok((real, links))
}

/// The folders that a path leads into and out of again, by `..`: something else there would change where it leads.
fn left_again(path: &Path) -> Vec<PathBuf> {
    let mut left = Vec::new();
    let mut folder = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            left.push(folder.clone());
            folder.pop();
        } else {
            folder.push(part);
        }
    }
    left
}

/// Where a path leads, and the symbolic links and the folders left again by `..` on the way. The end needn't be there.
pub(super) fn on_the_way(path: &Path) -> io::Result<(PathBuf, Vec<PathBuf>)> {
    let mut links = Vec::new();
    let mut path = std::path::absolute(path)?;
    // Most paths are there and lead through no link, which the kernel can tell in one call.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if openat2(CWD, &path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).is_ok() {
        return Ok((path, links));
    }
    for _ in 0..MAX_LINKS {
        let mut prefixes: Vec<&Path> = path.ancestors().collect();
        prefixes.reverse();
        let link = prefixes.into_iter().find_map(|prefix| Some((prefix, std::fs::read_link(prefix).ok()?)));
        let Some((prefix, link)) = link else { break };
        let folder = prefix.parent().unwrap_or(Path::new("/"));
        links.push(prefix.to_owned());
        path = folder.join(link).join(path.strip_prefix(prefix).unwrap_or(Path::new("")));
        links.extend(left_again(&path));
    }
    Ok((path, links))
}
