//! Makes reviews for tests.

use crate::{FileKind, MountOption, Operation, Request, Requester, ResolvedPath, Review};

/// A review of a new mount. A source that begins with `/` is a block device.
pub fn mount(fstype: &str, source: &str, target: &str) -> Review {
    let found = source.starts_with('/').then(|| resolved(source, FileKind::BlockDevice));
    review(Operation::Mount, Some(fstype), source, found, target)
}

/// A review of a bind of one directory to another.
pub fn bind(source: &str, target: &str) -> Review {
    review(Operation::Bind(false), None, source, Some(resolved(source, FileKind::Directory)), target)
}

/// This review with one more option.
pub fn with_option(mut review: Review, name: &str, value: Option<&str>) -> Review {
    review.request.options.push(MountOption { name: name.to_owned(), value: value.map(str::to_owned) });
    review
}

fn review(
    operation: Operation,
    fstype: Option<&str>,
    source: &str,
    found: Option<ResolvedPath>,
    target: &str,
) -> Review {
    let request = Request {
        operation,
        source: Some(source.to_owned()),
        target: target.to_owned(),
        fstype: fstype.map(str::to_owned),
        options: Vec::new(),
    };
    Review {
        original: request.clone(),
        request,
        edits: Vec::new(),
        source: found,
        target: resolved(target, FileKind::Directory),
        requester: Requester { uid: 0, gid: 0, pid: 1, labels: Vec::new() },
    }
}

fn resolved(path: &str, kind: FileKind) -> ResolvedPath {
    ResolvedPath { path: path.to_owned(), kind, device: None, symlinks: Vec::new(), covering_mount: None }
}
