//! Makes reviews for tests. Their paths are all on the one file system of an empty [`crate::MountList`].

use crate::{
    Device, FileKind, Location, MountList, MountOption, Mounts, Operation, OptionPath, Place, Request, Requester,
    ResolvedPath, Review, Via, is_on_host,
};

/// A review of a new mount. A source that begins with `/` is a block device.
pub fn mount(fstype: &str, source: &str, target: &str) -> Review {
    let found = is_on_host(source).then(|| resolved(source, FileKind::BlockDevice));
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

/// This review with one more option that names paths, as `lowerdir=/a:/b` does.
pub fn with_option_paths(review: Review, name: &str, paths: &[&str]) -> Review {
    let mut review = with_option(review, name, Some(&paths.join(":")));
    let found = |path: &&str| OptionPath { option: name.to_owned(), found: resolved(path, FileKind::Directory) };
    review.option_paths.extend(paths.iter().map(found));
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
        option_paths: Vec::new(),
        requester: Requester { uid: 0, gid: 0, pid: 1, labels: Vec::new(), peer: None },
        places: vec![place(target, Via::Target)],
    }
}

fn resolved(path: &str, kind: FileKind) -> ResolvedPath {
    let location = (kind != FileKind::BlockDevice).then(|| location(path));
    ResolvedPath {
        path: path.to_owned(),
        kind,
        location,
        storage: Vec::new(),
        device: None,
        symlinks: Vec::new(),
        covering_mount: None,
    }
}

/// This review with all paths where they lie by a list of mounts. A block device shows the file system with its number.
pub fn on_host(mut review: Review, mounts: &MountList) -> Review {
    let locate = |path: &str| mounts.locate(&[path]).into_iter().flatten().next();
    let in_options = review.option_paths.iter_mut().map(|path| &mut path.found);
    for found in review.source.iter_mut().chain([&mut review.target]).chain(in_options) {
        found.location = match found.device {
            Some(device) => {
                let is_mounted = !mounts.by_device(device, 1).is_empty();
                is_mounted.then(|| Location { device, path: "/".to_owned() })
            }
            None => locate(&found.path),
        };
    }
    for place in review.places.iter_mut().filter(|place| place.via != Via::BroughtAlong) {
        if let Some(location) = locate(&place.path) {
            place.location = location;
        }
    }
    review
}

fn location(path: &str) -> Location {
    Location { device: Device { major: 0, minor: 0 }, path: path.to_owned() }
}

/// A place at which a request is seen.
pub fn place(path: &str, via: Via) -> Place {
    Place { path: path.to_owned(), location: location(path), via }
}
