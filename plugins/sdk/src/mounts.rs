//! The host's mounts, and a list of mounts for tests.

use crate::bindings::mountgate::policy::mount_table;
use crate::{Device, Location, Mount, is_within, lies_in};

/// Questions about a mount table. `wit/0.1.0/mount-table.wit` describes each.
#[expect(missing_docs, reason = "named and described as in the WIT")]
pub trait Mounts {
    fn count(&self) -> u64;
    fn page(&self, offset: u64, limit: u32) -> Vec<Mount>;
    fn at(&self, target: &str) -> Vec<Mount>;
    fn covering(&self, path: &str) -> Option<Mount>;
    fn below(&self, path: &str, limit: u32) -> Vec<Mount>;
    fn count_below(&self, path: &str) -> u64;
    fn count_in(&self, folder: &Location) -> u64;
    fn by_source(&self, source: &str, limit: u32) -> Vec<Mount>;
    fn count_by_source(&self, source: &str) -> u64;
    fn by_device(&self, device: Device, limit: u32) -> Vec<Mount>;
    fn by_id(&self, id: u64) -> Option<Mount>;
    fn locate(&self, paths: &[&str]) -> Vec<Option<Location>>;
    fn follow(&self, paths: &[&str]) -> Vec<Vec<String>>;
    fn along(&self, paths: &[&str]) -> Vec<Vec<Location>>;
    fn around(&self, of: &[Location]) -> Vec<Location>;
    fn names(&self, of: &Location, limit: u32) -> Vec<String>;
}

/// The mount table of the host.
#[derive(Debug)]
pub struct HostMounts;

impl Mounts for HostMounts {
    fn count(&self) -> u64 {
        mount_table::count()
    }

    fn page(&self, offset: u64, limit: u32) -> Vec<Mount> {
        mount_table::page(offset, limit)
    }

    fn at(&self, target: &str) -> Vec<Mount> {
        mount_table::at(target)
    }

    fn covering(&self, path: &str) -> Option<Mount> {
        mount_table::covering(path)
    }

    fn below(&self, path: &str, limit: u32) -> Vec<Mount> {
        mount_table::below(path, limit)
    }

    fn count_below(&self, path: &str) -> u64 {
        mount_table::count_below(path)
    }

    fn count_in(&self, folder: &Location) -> u64 {
        mount_table::count_in(folder)
    }

    fn by_source(&self, source: &str, limit: u32) -> Vec<Mount> {
        mount_table::by_source(source, limit)
    }

    fn count_by_source(&self, source: &str) -> u64 {
        mount_table::count_by_source(source)
    }

    fn by_device(&self, device: Device, limit: u32) -> Vec<Mount> {
        mount_table::by_device(device, limit)
    }

    fn by_id(&self, id: u64) -> Option<Mount> {
        mount_table::by_id(id)
    }

    fn locate(&self, paths: &[&str]) -> Vec<Option<Location>> {
        in_pieces(paths, |path| path.len(), |paths| mount_table::locate(&owned(paths)))
    }

    fn follow(&self, paths: &[&str]) -> Vec<Vec<String>> {
        in_pieces(paths, |path| path.len(), |paths| mount_table::follow(&owned(paths)))
    }

    fn along(&self, paths: &[&str]) -> Vec<Vec<Location>> {
        in_pieces(paths, |path| path.len(), |paths| mount_table::along(&owned(paths)))
    }

    fn around(&self, of: &[Location]) -> Vec<Location> {
        in_pieces(of, |location| location.path.len(), mount_table::around)
    }

    fn names(&self, of: &Location, limit: u32) -> Vec<String> {
        mount_table::names(of, limit)
    }
}

/// The bytes that one call carries: the host takes at most 1 MiB.
const PIECE: usize = 512 << 10;
/// What an element takes beside its text.
const ELEMENT: usize = 64;

/// Asks about a list, in as many calls as it takes.
fn in_pieces<T, A>(of: &[T], text: impl Fn(&T) -> usize, ask: impl Fn(&[T]) -> Vec<A>) -> Vec<A> {
    let mut answers = Vec::new();
    let mut rest = of;
    loop {
        let mut bytes = 0;
        let fits = |element: &&T| {
            bytes += text(element) + ELEMENT;
            bytes <= PIECE
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (piece, after) = rest.split_at(count);
        let answer = ask(piece);
        if after.is_empty() && answers.is_empty() {
            return answer;
        }
        answers.extend(answer);
        if after.is_empty() {
            return answers;
        }
        rest = after;
    }
}

fn owned(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

/// A mount table in memory, for tests. Here the mount with the longest matching mount point covers a path, and there are no
/// links. The host instead follows the path like the kernel, and never finds a hidden mount. Without any mounts, all paths
/// are on one file system.
#[derive(Debug, Default, Clone)]
pub struct MountList(pub Vec<Mount>);

impl MountList {
    fn some(&self, is_meant: impl Fn(&Mount) -> bool, limit: u32) -> Vec<Mount> {
        self.0.iter().filter(|mount| is_meant(mount)).take(limit as usize).cloned().collect()
    }

    fn location_on(mount: &Mount, path: &str) -> Location {
        let rest = path.get(mount.target.trim_end_matches('/').len()..).unwrap_or_default();
        let path = format!("{}{rest}", mount.root.trim_end_matches('/'));
        Location { device: mount.device, path: if path.is_empty() { "/".to_owned() } else { path } }
    }

    /// What a mount is mounted on.
    fn mount_point(&self, mount: &Mount) -> Option<Location> {
        let parent = self.by_id(mount.parent).filter(|parent| parent.id != mount.id)?;
        Some(Self::location_on(&parent, &mount.target))
    }

    fn showing(&self, location: &Location) -> Vec<&Mount> {
        let root = |mount: &Mount| Location { device: mount.device, path: mount.root.clone() };
        self.0.iter().filter(|mount| lies_in(location, &root(mount))).collect()
    }
}

impl Mounts for MountList {
    fn count(&self) -> u64 {
        self.0.len() as u64
    }

    fn page(&self, offset: u64, limit: u32) -> Vec<Mount> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.0.iter().skip(offset).take(limit as usize).cloned().collect()
    }

    fn at(&self, target: &str) -> Vec<Mount> {
        self.some(|mount| mount.target == target, u32::MAX)
    }

    fn covering(&self, path: &str) -> Option<Mount> {
        let holding = self.0.iter().filter(|mount| is_within(path, &mount.target));
        holding.max_by_key(|mount| mount.target.len()).cloned()
    }

    fn below(&self, path: &str, limit: u32) -> Vec<Mount> {
        let mut below = self.some(|mount| mount.target != path && is_within(&mount.target, path), u32::MAX);
        below.sort_by(|one, other| one.target.cmp(&other.target));
        below.truncate(limit as usize);
        below
    }

    fn count_below(&self, path: &str) -> u64 {
        self.below(path, u32::MAX).len() as u64
    }

    fn count_in(&self, folder: &Location) -> u64 {
        let is_in = |mount: &&Mount| {
            let mut mount = (*mount).clone();
            let own = self.mount_point(&mount);
            // The parents of a list that somebody wrote may go in circles.
            for _ in 0..=self.0.len() {
                let Some(location) = self.mount_point(&mount) else { return false };
                if lies_in(&location, folder) {
                    return own.as_ref() != Some(folder);
                }
                let Some(parent) = self.by_id(mount.parent) else { return false };
                mount = parent;
            }
            false
        };
        self.0.iter().filter(is_in).count() as u64
    }

    fn by_source(&self, source: &str, limit: u32) -> Vec<Mount> {
        self.some(|mount| mount.source == source, limit)
    }

    fn count_by_source(&self, source: &str) -> u64 {
        self.by_source(source, u32::MAX).len() as u64
    }

    fn by_device(&self, device: Device, limit: u32) -> Vec<Mount> {
        self.some(|mount| mount.device == device, limit)
    }

    fn by_id(&self, id: u64) -> Option<Mount> {
        self.0.iter().find(|mount| mount.id == id).cloned()
    }

    fn locate(&self, paths: &[&str]) -> Vec<Option<Location>> {
        self.along(paths).into_iter().map(|along| along.into_iter().next()).collect()
    }

    fn follow(&self, paths: &[&str]) -> Vec<Vec<String>> {
        paths.iter().map(|path| vec![(*path).to_owned()]).collect()
    }

    fn along(&self, paths: &[&str]) -> Vec<Vec<Location>> {
        let along = |path: &&str| {
            let Some(mut mount) = self.covering(path) else {
                let device = Device { major: 0, minor: 0 };
                return vec![Location { device, path: (*path).to_owned() }];
            };
            let mut locations = vec![Self::location_on(&mount, path)];
            while let Some(location) = self.mount_point(&mount).filter(|_| locations.len() <= self.0.len()) {
                locations.push(location);
                let Some(parent) = self.by_id(mount.parent) else { break };
                mount = parent;
            }
            locations
        };
        paths.iter().map(along).collect()
    }

    fn around(&self, of: &[Location]) -> Vec<Location> {
        let mut locations = of.to_vec();
        let mut next = 0;
        while let Some(location) = locations.get(next).cloned() {
            next += 1;
            for found in self.showing(&location).into_iter().filter_map(|mount| self.mount_point(mount)) {
                if !locations.contains(&found) {
                    locations.push(found);
                }
            }
        }
        locations
    }

    fn names(&self, of: &Location, limit: u32) -> Vec<String> {
        let name = |mount: &Mount| {
            let rest = of.path.get(mount.root.trim_end_matches('/').len()..).unwrap_or_default();
            format!("{}{rest}", mount.target.trim_end_matches('/'))
        };
        self.showing(of).into_iter().map(name).take(limit as usize).collect()
    }
}
