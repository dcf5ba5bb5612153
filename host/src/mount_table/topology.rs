//! How the mounts of a namespace hang together: on what each is mounted, who is whose peer or slave, and which of them show
//! a location. See mount_namespaces(7), and `fs/pnode.c` of the kernel for the way of a mount to peers and slaves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::node_paths::NodePaths;
use super::table::MountTable;
use crate::model::host_error::HostError;
use crate::model::location::{Device, Location, Via};

/// The mounts as numbers. Their relations and their paths are read when a question needs them.
pub(crate) struct Topology {
    nodes: Vec<Node>,
    details: Box<dyn Details>,
    relations: Vec<OnceLock<Option<Relations>>>,
    /// The mounts by their ids, sorted.
    ids: OnceLock<Vec<(u64, u32)>>,
    paths: Vec<OnceLock<Option<NodePaths>>>,
    /// The mounts on each mount.
    children: OnceLock<HashMap<u64, Vec<u32>>>,
    /// The mounts of each file system, by what each of them shows of it.
    roots: Mutex<HashMap<Device, BTreeMap<String, Vec<u32>>>>,
    /// Where changes on a mount go: a search asks the same table again and again.
    receivers: Mutex<HashMap<usize, Receivers>>,
    /// The same mounts as their text has them, where that was needed.
    text: OnceLock<Option<Box<Topology>>>,
    /// The first thing that couldn't be read.
    failure: OnceLock<HostError>,
}

/// The mounts to which a change goes, and why.
type Receivers = Arc<[(usize, Via)]>;

/// What tells more about the mounts of a topology. A mount that is gone by now has neither relations nor paths.
pub(crate) trait Details: Send + Sync {
    /// The relations of a mount.
    fn relations(&self, mount: usize) -> Result<Option<Relations>, HostError>;

    /// The paths of a mount.
    fn paths(&self, mount: usize) -> Result<Option<NodePaths>, HostError>;

    /// The same mounts as their text has them, where only the text tells from where changes come to a mount whose master has no
    /// mount here.
    fn text(&self) -> Option<Result<Topology, HostError>>;
}

/// What stays as it is while a mount is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    /// The id in mountinfo.
    pub(crate) id: u64,
    /// Its file system.
    pub(crate) device: Device,
    /// Whether its file system is btrfs, whose number isn't that of a block device.
    pub(crate) is_btrfs: bool,
}

/// How a mount hangs together with others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Relations {
    /// The mountinfo id of the mount that it's mounted on.
    pub(crate) parent: u64,
    /// Its peer group, 0 where it's not shared.
    pub(crate) group: u64,
    /// The peer group that it's a slave of, or 0.
    pub(crate) master: u64,
    /// The nearest peer group with mounts in this namespace from which changes come to it, or 0.
    pub(crate) from: u64,
}

impl Topology {
    /// The mounts, with the relations that are known, and what tells the rest.
    pub(crate) fn new(
        mounts: impl Iterator<Item = (Node, Option<Relations>)>,
        details: impl Details + 'static,
    ) -> Self {
        let known =
            |relations: Option<Relations>| relations.map_or_else(OnceLock::new, |relations| Some(relations).into());
        let (nodes, relations): (Vec<Node>, Vec<_>) = mounts.map(|(node, relations)| (node, known(relations))).unzip();
        let paths = nodes.iter().map(|_| OnceLock::new()).collect();
        Self {
            nodes,
            details: Box::new(details),
            relations,
            ids: OnceLock::new(),
            paths,
            children: OnceLock::new(),
            roots: Mutex::default(),
            receivers: Mutex::default(),
            text: OnceLock::new(),
            failure: OnceLock::new(),
        }
    }

    /// The mounts of a table.
    pub(crate) fn of(table: &MountTable) -> Self {
        let mut paths = Vec::with_capacity(table.len());
        let mut mounts = Vec::with_capacity(table.len());
        for mount in table.iter() {
            let group = |prefix: &[u8]| {
                let group = mount.optional_fields().find_map(|field| Some(field.strip_prefix(prefix)?.to_vec()));
                group.and_then(|group| String::from_utf8(group).ok()?.parse().ok()).unwrap_or(0)
            };
            let node = Node {
                id: mount.id(),
                device: Device { major: mount.major(), minor: mount.minor() },
                is_btrfs: *mount.fstype() == *b"btrfs",
            };
            let relations = Relations {
                parent: mount.parent(),
                group: group(b"shared:"),
                master: group(b"master:"),
                from: group(b"propagate_from:"),
            };
            mounts.push((node, Some(relations)));
            paths.push(mount.paths());
        }
        Self::new(mounts.into_iter(), WrittenDetails(paths))
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The number of the mount with this id in mountinfo.
    pub(crate) fn find(&self, id: u64) -> Option<usize> {
        let ids = self.ids.get_or_init(|| {
            let mut ids: Vec<(u64, u32)> = numbered(&self.nodes).map(|(i, node)| (node.id, i)).collect();
            ids.sort_unstable();
            ids
        });
        let at = ids.partition_point(|(known, _)| *known < id);
        ids.get(at).filter(|(known, _)| *known == id).map(|(_, i)| *i as usize)
    }

    /// The paths of a mount.
    pub(crate) fn paths(&self, mount: usize) -> Option<&NodePaths> {
        self.paths[mount].get_or_init(|| self.noted(self.details.paths(mount))).as_ref()
    }

    fn relations(&self, mount: usize) -> Option<Relations> {
        *self.relations[mount].get_or_init(|| self.noted(self.details.relations(mount)))
    }

    fn noted<T>(&self, told: Result<Option<T>, HostError>) -> Option<T> {
        told.unwrap_or_else(|error| {
            // The first one is told, see `failure`.
            let _ = self.failure.set(error);
            None
        })
    }

    /// Why something couldn't be read. Answers that were given without it count for nothing.
    pub(crate) fn failure(&self) -> Option<&HostError> {
        self.failure.get()
    }

    /// What a mount shows: the root of it.
    pub(crate) fn root(&self, mount: usize) -> Option<Location> {
        let path = self.paths(mount)?.root.clone();
        Some(Location { device: self.nodes[mount].device, path })
    }

    /// The location of a path that lies on a mount.
    pub(crate) fn location(&self, mount: usize, path: &str) -> Option<Location> {
        let path = self.paths(mount)?.in_file_system(path)?;
        Some(Location { device: self.nodes[mount].device, path })
    }

    /// The mount that a mount is mounted on, and the location that it covers there. The topmost mount has none.
    pub(crate) fn mount_point(&self, mount: usize) -> Option<(usize, Location)> {
        let parent = self.find(self.relations(mount)?.parent).filter(|parent| *parent != mount)?;
        Some((parent, self.location(parent, &self.paths(mount)?.target)?))
    }

    /// The locations that a path on a mount goes through: its own, that of the mount point of the mount it lies on, and so
    /// on to the topmost mount.
    pub(crate) fn along(&self, mount: usize, path: &str) -> Vec<Location> {
        let mut locations: Vec<Location> = self.location(mount, path).into_iter().collect();
        let mut current = mount;
        // The text of a table may come from anywhere, and its parents may go in circles.
        for _ in 0..self.nodes.len() {
            let Some((parent, location)) = self.mount_point(current) else { break };
            locations.push(location);
            current = parent;
        }
        locations
    }

    /// Locations, with all that they lie in under any of their names: the mount points of the mounts that show them, and of
    /// those that show these.
    pub(crate) fn around(&self, locations: &[Location]) -> Vec<Location> {
        let mut all: Vec<Location> = Vec::with_capacity(locations.len());
        let mut known: HashSet<&Location> = HashSet::with_capacity(locations.len());
        all.extend(locations.iter().filter(|location| known.insert(location)).cloned());
        let mut seen = vec![false; self.nodes.len()];
        let mut next = 0;
        while let Some(location) = all.get(next) {
            next += 1;
            for mount in self.showing(location) {
                if !std::mem::replace(&mut seen[mount as usize], true)
                    && let Some((_, location)) = self.mount_point(mount as usize)
                {
                    all.push(location);
                }
            }
        }
        all
    }

    /// Every path at which some mount shows a location, with that mount, whether or not another mount hides it.
    pub(crate) fn names(&self, location: &Location) -> Vec<(usize, String)> {
        let showing = self.showing(location).into_iter().map(|mount| mount as usize);
        showing.filter_map(|mount| Some((mount, self.paths(mount)?.on_host(&location.path)?))).collect()
    }

    /// How many mounts lie below a folder, under whatever name: those whose mount point lies below its location, and those in
    /// such a mount.
    pub(crate) fn count_in(&self, folder: &Location) -> u64 {
        let mut count = 0;
        let mut seen = vec![false; self.nodes.len()];
        let mut todo = Vec::new();
        for (mount, seen) in seen.iter_mut().enumerate() {
            if let Some((_, location)) = self.mount_point(mount)
                && location.is_within(folder)
            {
                // One on the folder itself isn't below it. What is in that one is.
                count += u64::from(location != *folder);
                *seen = true;
                todo.push(mount);
            }
        }
        while let Some(mount) = todo.pop() {
            for child in self.children(mount).iter().map(|child| *child as usize) {
                if !std::mem::replace(&mut seen[child], true) {
                    count += 1;
                    todo.push(child);
                }
            }
        }
        count
    }

    /// The mounts of a file system.
    pub(crate) fn of_device(&self, device: Device) -> impl Iterator<Item = usize> {
        self.nodes.iter().enumerate().filter(move |(_, node)| node.device == device).map(|(i, _)| i)
    }

    /// The mounts that show a location.
    fn showing(&self, location: &Location) -> Vec<u32> {
        let mut all = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        let roots = all.entry(location.device).or_insert_with(|| {
            let mut roots: BTreeMap<String, Vec<u32>> = BTreeMap::new();
            for (i, _) in numbered(&self.nodes).filter(|(_, node)| node.device == location.device) {
                if let Some(paths) = self.paths(i as usize) {
                    roots.entry(paths.root.clone()).or_default().push(i);
                }
            }
            roots
        });
        let path = location.path.as_str();
        let ends = path.match_indices('/').map(|(i, _)| i.max(1)).chain([path.len()]);
        let mut last = "";
        let folders =
            ends.filter_map(|end| path.get(..end)).filter(|folder| std::mem::replace(&mut last, folder) != *folder);
        folders.filter_map(|folder| roots.get(folder)).flatten().copied().collect()
    }

    /// The mounts to which a change of the mounts on one mount goes, and why: its peers, their slaves, and theirs.
    pub(crate) fn receivers(&self, mount: usize) -> Receivers {
        let mut known = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(mount).or_insert_with(|| self.find_receivers(mount).into()).clone()
    }

    fn find_receivers(&self, mount: usize) -> Vec<(usize, Via)> {
        let Some(first) = self.relations(mount).map(|own| own.group).filter(|group| *group != 0) else {
            return Vec::new();
        };
        // Peers and slaves show the same file system: each was made as a copy of one that was there, or joined its group, which the
        // kernel allows to mounts of one file system only (`do_set_group` in fs/namespace.c).
        let relatives = self.of_device(self.nodes[mount].device);
        let relatives: Vec<(usize, Relations)> =
            relatives.filter_map(|mount| Some((mount, self.relations(mount)?))).collect();
        let groups: HashSet<u64> = relatives.iter().map(|(_, relations)| relations.group).collect();
        if relatives.iter().any(|(_, relations)| relations.master != 0 && !groups.contains(&relations.master))
            && let Some(text) = self.text.get_or_init(|| self.noted(self.details.text().transpose()).map(Box::new))
        {
            return self.receivers_in(text, mount);
        }
        let mut receivers = Vec::new();
        let mut seen = HashSet::from([mount]);
        let mut visited = HashSet::from([first]);
        // Mostly there is one group, and then one look at each mount is less than an index of all groups.
        let mut groups = vec![first];
        while !groups.is_empty() {
            let wanted: HashSet<u64> = groups.drain(..).collect();
            let only = (wanted.len() == 1).then(|| wanted.iter().next().copied().unwrap_or_default());
            let is_wanted =
                |group: u64| group != 0 && only.map_or_else(|| wanted.contains(&group), |only| only == group);
            for (mount, relations) in &relatives {
                let is_receiver = [relations.group, relations.master, relations.from].into_iter().any(is_wanted);
                if !is_receiver || !seen.insert(*mount) {
                    continue;
                }
                receivers.push((*mount, if relations.group == first { Via::Peer } else { Via::Slave }));
                if relations.group != 0 && visited.insert(relations.group) {
                    groups.push(relations.group);
                }
            }
        }
        receivers
    }

    /// The receivers of a mount as another topology of the same mounts has them.
    fn receivers_in(&self, other: &Self, mount: usize) -> Vec<(usize, Via)> {
        let receivers = other.find(self.nodes[mount].id).map(|mount| other.receivers(mount));
        let own = |(receiver, via): &(usize, Via)| Some((self.find(other.nodes[*receiver].id)?, *via));
        receivers.iter().flat_map(|receivers| receivers.iter().filter_map(own)).collect()
    }

    /// The mounts on a mount.
    pub(crate) fn children(&self, mount: usize) -> &[u32] {
        let children = self.children.get_or_init(|| {
            let mut children: HashMap<u64, Vec<u32>> = HashMap::new();
            for (i, node) in numbered(&self.nodes) {
                if let Some(relations) = self.relations(i as usize).filter(|relations| relations.parent != node.id) {
                    children.entry(relations.parent).or_default().push(i);
                }
            }
            children
        });
        children.get(&self.nodes[mount].id).map_or(&[], Vec::as_slice)
    }

    /// The mounts on a mount and on those, and so on.
    pub(crate) fn descendants(&self, mount: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut todo = vec![mount];
        while let Some(mount) = todo.pop() {
            let below = self.children(mount).iter().map(|child| *child as usize);
            // The text of a table may come from anywhere, and its parents may go in circles.
            if found.len() <= self.nodes.len() {
                todo.extend(below.clone());
                found.extend(below);
            }
        }
        found
    }
}

/// The paths of mounts whose text was read.
struct WrittenDetails(Vec<NodePaths>);

impl Details for WrittenDetails {
    fn relations(&self, _: usize) -> Result<Option<Relations>, HostError> {
        Ok(None)
    }

    fn paths(&self, mount: usize) -> Result<Option<NodePaths>, HostError> {
        Ok(self.0.get(mount).cloned())
    }

    fn text(&self) -> Option<Result<Topology, HostError>> {
        None
    }
}

impl std::fmt::Debug for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topology").field("mounts", &self.nodes.len()).finish()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "there are fewer mounts than that")]
fn numbered(nodes: &[Node]) -> impl Iterator<Item = (u32, &Node)> {
    nodes.iter().enumerate().map(|(i, node)| (i as u32, node))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(text: &str) -> Topology {
        Topology::of(&MountTable::parse(text.as_bytes().to_vec()).expect("a table"))
    }

    fn location(device: &str, path: &str) -> Location {
        let (major, minor) = device.split_once(':').expect("two numbers");
        let number = |text: &str| text.parse().expect("a number");
        Location { device: Device { major: number(major), minor: number(minor) }, path: path.to_owned() }
    }

    const HOST: &str = "20 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
        21 20 8:1 /usr/local /mnt/u rw shared:1 - ext4 /dev/sda1 rw\n\
        22 20 8:2 / /usr/share rw shared:2 - ext4 /dev/sda2 rw\n\
        23 20 8:2 /doc /srv/doc rw master:2 - ext4 /dev/sda2 rw\n\
        24 23 0:40 / /srv/doc/x rw shared:3 - tmpfs tmpfs rw\n\
        25 20 8:1 /home//deleted /gone rw - ext4 /dev/sda1 rw\n";

    #[test]
    fn a_path_goes_through_the_mount_points_above_it() {
        let host = topology(HOST);
        assert_eq!(
            host.along(4, "/srv/doc/x/a"),
            [location("0:40", "/a"), location("8:2", "/doc/x"), location("8:1", "/srv/doc")]
        );
        assert_eq!(host.along(0, "/"), [location("8:1", "/")]);
    }

    #[test]
    fn a_location_lies_in_the_mount_points_of_all_that_show_it() {
        let host = topology(HOST);
        let around = host.around(&[location("8:2", "/doc/a")]);
        assert_eq!(around, [location("8:2", "/doc/a"), location("8:1", "/usr/share"), location("8:1", "/srv/doc")]);
        let around = host.around(&[location("8:1", "/usr/local/bin")]);
        assert_eq!(around, [location("8:1", "/usr/local/bin"), location("8:1", "/mnt/u")]);
        let names: Vec<String> = host.names(&location("8:2", "/doc")).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["/usr/share/doc", "/srv/doc"]);
    }

    #[test]
    fn mounts_below_a_folder_are_counted_under_every_name() {
        let host = topology(HOST);
        assert_eq!(host.count_in(&location("8:1", "/")), 5);
        assert_eq!(host.count_in(&location("8:1", "/srv")), 2);
        assert_eq!(host.count_in(&location("8:1", "/srv/doc")), 1);
        assert_eq!(host.count_in(&location("8:2", "/doc")), 1);
        let alias = topology(
            "1 0 8:1 / / rw - ext4 a rw\n2 1 8:1 /mnt/x /srv/a rw - ext4 a rw\n3 2 0:9 / /srv/a/1 rw - tmpfs t rw\n",
        );
        assert_eq!(alias.count_in(&location("8:1", "/mnt")), 1);
    }

    #[test]
    fn changes_go_to_peers_and_slaves_and_not_to_masters() {
        let host = topology(HOST);
        assert_eq!(*host.receivers(1), [(0, Via::Peer)]);
        assert_eq!(*host.receivers(2), [(3, Via::Slave)]);
        assert_eq!(*host.receivers(3), []);
        let chain = topology(
            "1 0 8:1 / / rw shared:1 - ext4 a rw\n2 1 8:1 / /a rw shared:2 master:1 - ext4 a rw\n\
             3 1 8:1 / /b rw shared:2 master:1 - ext4 a rw\n4 1 8:1 / /c rw master:2 - ext4 a rw\n",
        );
        assert_eq!(*chain.receivers(0), [(1, Via::Slave), (2, Via::Slave), (3, Via::Slave)]);
        assert_eq!(*chain.receivers(1), [(2, Via::Peer), (3, Via::Slave)]);
        // The group between them has mounts in another namespace only.
        let gap =
            topology("1 0 8:1 / / rw shared:1 - ext4 a rw\n2 1 8:1 / /a rw master:5 propagate_from:1 - ext4 a rw\n");
        assert_eq!(*gap.receivers(0), [(1, Via::Slave)]);
    }

    #[test]
    fn parents_in_a_circle_end() {
        let circle = topology("1 2 8:1 / /a rw - ext4 a rw\n2 1 8:1 / /a/b rw - ext4 a rw\n");
        assert!(circle.along(0, "/a/b").len() <= 3);
        assert!(circle.around(&[location("8:1", "/x")]).len() <= 3);
        assert!(circle.descendants(0).len() <= 4);
    }
}
