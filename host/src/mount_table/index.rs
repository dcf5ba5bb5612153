//! Indexes of a mount table: with them, an answer costs the same for ten mounts and for a hundred thousand.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::mount::{Mount, Mounts};

type Places = HashMap<Vec<u8>, Vec<u32>>;

/// Where to find mounts in a table.
#[derive(Debug)]
pub(super) struct Index {
    ids: HashMap<u64, u32>,
    at: Places,
    /// By the mount they are mounted on, and by mount point.
    children: HashMap<u64, HashMap<Vec<u8>, u32>>,
    root: Option<u32>,
    sorted: OnceLock<(Vec<u32>, Vec<Vec<u8>>)>,
    sources: OnceLock<Places>,
    devices: OnceLock<HashMap<(u32, u32), Vec<u32>>>,
}

impl Index {
    pub(super) fn of(table: Mounts<'_>) -> Self {
        let mut ids = HashMap::with_capacity(table.len());
        let mut at = Places::with_capacity(table.len());
        let mut children: HashMap<u64, HashMap<Vec<u8>, u32>> = HashMap::new();
        for (i, mount) in numbered(table) {
            ids.insert(mount.id(), i);
            at.entry(mount.target().into_owned()).or_default().push(i);
            if mount.parent() != mount.id() {
                children.entry(mount.parent()).or_default().insert(mount.target().into_owned(), i);
            }
        }
        let root = numbered(table)
            .find(|(_, mount)| {
                // In the format of mounts there are no ids, and so no root to walk from.
                let is_top = mount.id() != 0 && (mount.parent() == mount.id() || !ids.contains_key(&mount.parent()));
                is_top && *mount.target() == *b"/"
            })
            .map(|(i, _)| i);
        for stack in at.values_mut().filter(|stack| stack.len() > 1) {
            stack.sort_by_key(|i| depth(table, &ids, *i));
        }
        Self { ids, at, children, root, sorted: OnceLock::new(), sources: OnceLock::new(), devices: OnceLock::new() }
    }

    pub(super) fn at(&self, target: &[u8]) -> &[u32] {
        self.at.get(target).map_or(&[], Vec::as_slice)
    }

    /// Walks the path from the root mount, entering every mount on the way as the kernel does. Where the table doesn't
    /// say what the root is (a part of one, or the format of mounts), the longest mount point that holds the path.
    pub(super) fn covering(&self, table: Mounts<'_>, path: &[u8]) -> Option<usize> {
        let Some(root) = self.root else {
            return prefixes(path).filter_map(|prefix| self.at(prefix).last().copied()).last().map(|i| i as usize);
        };
        let mut current = root as usize;
        for prefix in prefixes(path) {
            // A chain of mounts on one place ends: but the text may come from anywhere, so it's bounded.
            for _ in 0..self.ids.len() {
                let id = table.nth(current).id();
                let Some(next) = self.children.get(&id).and_then(|below| below.get(prefix)) else { break };
                current = *next as usize;
            }
        }
        Some(current)
    }

    pub(super) fn below<'s>(&'s self, table: Mounts<'_>, path: &[u8]) -> &'s [u32] {
        let (order, targets) = self.sorted.get_or_init(|| {
            let mut order: Vec<(Vec<u8>, u32)> =
                numbered(table).map(|(i, mount)| (mount.target().into_owned(), i)).collect();
            order.sort();
            order.into_iter().map(|(target, i)| (i, target)).unzip()
        });
        let mut start = path.to_vec();
        if start.last() != Some(&b'/') {
            start.push(b'/');
        }
        let from = targets.partition_point(|target| *target <= start);
        let mut end = start;
        // In byte order, every target that begins with `PATH/` comes before `PATH0`, because `0` is the byte after `/`.
        end.pop();
        end.push(b'/' + 1);
        let to = targets.partition_point(|target| *target < end);
        &order[from..to.max(from)]
    }

    pub(super) fn by_source(&self, table: Mounts<'_>, source: &[u8]) -> &[u32] {
        let sources = self.sources.get_or_init(|| {
            let mut sources = Places::new();
            for (i, mount) in numbered(table) {
                sources.entry(mount.source().into_owned()).or_default().push(i);
            }
            sources
        });
        sources.get(source).map_or(&[], Vec::as_slice)
    }

    pub(super) fn by_device(&self, table: Mounts<'_>, major: u32, minor: u32) -> &[u32] {
        let devices = self.devices.get_or_init(|| {
            let mut devices: HashMap<_, Vec<u32>> = HashMap::new();
            for (i, mount) in numbered(table) {
                devices.entry((mount.major(), mount.minor())).or_default().push(i);
            }
            devices
        });
        devices.get(&(major, minor)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn by_id(&self, id: u64) -> Option<usize> {
        self.ids.get(&id).map(|i| *i as usize)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a table below 4 GiB has fewer lines than that")]
fn numbered(table: Mounts<'_>) -> impl Iterator<Item = (u32, Mount<'_>)> {
    table.iter().enumerate().map(|(i, mount)| (i as u32, mount))
}

/// How many mounts a mount stands on; bounded, since the text may come from anywhere and go in circles.
fn depth(table: Mounts<'_>, ids: &HashMap<u64, u32>, place: u32) -> usize {
    let mut mount = table.nth(place as usize);
    for depth in 0..4096 {
        match ids.get(&mount.parent()) {
            Some(parent) if mount.parent() != mount.id() => mount = table.nth(*parent as usize),
            _ => return depth,
        }
    }
    4096
}

/// `/`, `/a`, `/a/b` for `/a/b`.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(i, _)| i);
    let whole = (path.len() > 1).then_some(path.len());
    std::iter::once(1.min(path.len())).chain(slashes).chain(whole).map(|end| &path[..end])
}
