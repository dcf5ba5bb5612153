//! Finds out where a path of the operator's or of a policy's leads, also one that isn't there. `resolve.rs` follows the paths of
//! a request, which must be there.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, openat, readlinkat, statx};
use rustix::io::Errno;

use super::identity::Identity;
use super::open::open_below;
use super::resolve::{MAX_SYMLINKS, is_magic};
use super::root::HostRoot;
use crate::model::paths::{components, lexical};

/// As far as a path leads.
pub(super) struct End {
    /// What is there.
    pub(super) there: OwnedFd,
    /// The real path of that.
    pub(super) path: String,
    /// The rest of the path, which isn't there.
    pub(super) missing: String,
}

/// Follows a path and its links as far as they lead. A path through a magic link of proc(5) leads nowhere.
pub(super) fn walk(host: &HostRoot, path: &str) -> Option<End> {
    if !path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let plain = lexical(path);
    if let Ok(there) = open_below(host.root(), &plain, OFlags::PATH, ResolveFlags::NO_SYMLINKS) {
        return Some(End { there, path: plain, missing: String::new() });
    }
    // The kernel follows links in one call, and knows the real path of what it found.
    if let Ok(there) = open_below(host.root(), &plain, OFlags::PATH, ResolveFlags::empty())
        && let Some(path) = real_path(host, there.as_fd())
    {
        return Some(End { there, path, missing: String::new() });
    }
    step_by_step(host, &plain).map(|(end, _)| end)
}

/// The real paths of the links on the way of a path, and of the folders that a link leads into and out of by `..`. None where that leads nowhere.
pub(super) fn links(host: &HostRoot, path: &str) -> Option<Vec<String>> {
    step_by_step(host, &lexical(path)).map(|(_, links)| links)
}

/// Follows a path, one name after the other. Returns the real paths of the links as well.
fn step_by_step(host: &HostRoot, plain: &str) -> Option<(End, Vec<String>)> {
    let root = host.root().try_clone_to_owned().ok()?;
    let mut trail: Vec<(String, OwnedFd)> = Vec::new();
    let mut missing: Vec<String> = Vec::new();
    let mut todo: Vec<String> = components(plain).rev().map(str::to_owned).collect();
    let mut links = Vec::new();
    while let Some(name) = todo.pop() {
        if name == ".." {
            if missing.pop().is_none() {
                // A mount on this folder would change what the path leads to.
                links.push(text_of(&trail));
                trail.pop();
            }
            continue;
        }
        if !missing.is_empty() {
            missing.push(name);
            continue;
        }
        let here = trail.last().map_or(root.as_fd(), |(_, fd)| fd.as_fd());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let there = match openat(here, name.as_str(), flags, Mode::empty()) {
            Ok(there) => there,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                missing.push(name);
                continue;
            }
            Err(_) => return None,
        };
        let stat = statx(&there, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE).ok();
        let is_link = stat.is_some_and(|stat| FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Symlink);
        if !is_link {
            trail.push((name, there));
            continue;
        }
        links.push(text_of(&trail) + "/" + &name);
        if is_magic(here, &name, &there).unwrap_or(true) {
            return None;
        }
        let text = readlinkat(&there, "", Vec::new()).ok()?.into_string().ok()?;
        if links.len() > MAX_SYMLINKS {
            return None;
        }
        if text.starts_with('/') {
            trail.clear();
        }
        todo.extend(components(&text).rev().map(str::to_owned));
    }
    let path = text_of(&trail);
    let there = trail.pop().map_or(root, |(_, fd)| fd);
    Some((End { there, path: lexical(&path), missing: missing.join("/") }, links))
}

fn text_of(trail: &[(String, OwnedFd)]) -> String {
    trail.iter().fold(String::new(), |path, (name, _)| path + "/" + name)
}

/// The real path of something, as `/proc/self/fd` has it; see proc(5). It's taken if it leads there from the host's root.
fn real_path(host: &HostRoot, there: BorrowedFd<'_>) -> Option<String> {
    let name = readlinkat(rustix::fs::CWD, format!("/proc/self/fd/{}", there.as_raw_fd()), Vec::new()).ok()?;
    let path = name.into_string().ok().filter(|path| path.starts_with('/'))?;
    let again = open_below(host.root(), &path, OFlags::PATH, ResolveFlags::NO_SYMLINKS).ok()?;
    let (one, other) = (Identity::of(there).ok()?, Identity::of(again.as_fd()).ok()?);
    (one.is_same_file(&other) && one.is_same_mount(&other)).then_some(path)
}
