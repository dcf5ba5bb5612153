//! Every path of the host at which a request will be seen, as the kernel carries mounts to peers and slaves, see
//! mount_namespaces(7).

use std::collections::{HashMap, HashSet};

use crate::model::ends::{Ends, ResolvedPath};
use crate::model::host_error::HostError;
use crate::model::location::{Device, Location, Place, Via};
use crate::model::request::{MountRequest, Operation};
use crate::mount_table::snapshot::Snapshot;
use crate::mount_table::topology::{Node, Topology};

/// The places of a request.
///
/// # Errors
/// When the host's mounts can't be read.
pub(crate) fn places(request: &MountRequest, ends: &Ends, snapshot: &Snapshot) -> Result<Vec<Place>, HostError> {
    let places = find_places(request, ends, snapshot)?;
    snapshot.check()?;
    Ok(places)
}

fn find_places(request: &MountRequest, ends: &Ends, snapshot: &Snapshot) -> Result<Vec<Place>, HostError> {
    let target = &ends.target.found;
    let topology = snapshot.topology().map_err(HostError::clone)?;
    match request.operation {
        Operation::Mount | Operation::Bind { recursive: false } => shown(target, topology, snapshot),
        Operation::Bind { recursive: true } | Operation::Move => {
            let mut places = shown(target, topology, snapshot)?;
            if let Some(source) = ends.found_source()
                && let Some(mount) = mount_of(topology, snapshot, source)?
            {
                if request.operation == Operation::Move {
                    let from = topology.mount_point(mount).map(|(_, location)| location);
                    places.extend(from.map(|location| place(source.path.clone(), location, Via::MovedFrom)));
                }
                places.extend(topology.descendants(mount).into_iter().filter_map(|mount| {
                    let mounted = &topology.paths(mount)?.target;
                    let rest = mounted.strip_prefix(source.path.trim_end_matches('/'))?;
                    let path = rest.starts_with('/').then(|| target.path.trim_end_matches('/').to_owned() + rest)?;
                    Some(place(path, topology.root(mount)?, Via::BroughtAlong))
                }));
            }
            Ok(places)
        }
        Operation::Unmount(mode) => {
            let mount = mounted_at(topology, snapshot, target)?;
            let mut places: Vec<Place> = of_mount(topology, mount, target).into_iter().collect();
            let mut leaving: Vec<usize> = mount.into_iter().collect();
            if let Some(mount) = mount.filter(|_| mode.recursive || mode.lazy) {
                places.extend(below(topology, mount));
                leaving.extend(topology.descendants(mount));
            }
            // The file system itself gives up, wherever it's mounted.
            if mode.force {
                places.extend(same_file_systems(topology, &leaving));
            }
            let mut mounted: HashMap<usize, HashSet<&str>> = HashMap::new();
            // Where one of several can't leave, the others come back, and to all peers and slaves of what they were mounted on.
            let may_come_back = mode.recursive && !mode.lazy && leaving.len() > 1;
            // Each that leaves also leaves the peers and slaves of what it's mounted on.
            for (parent, location) in leaving.into_iter().filter_map(|mount| topology.mount_point(mount)) {
                let is_mounted = |on: usize, path: &str| {
                    let targets = mounted.entry(on).or_insert_with(|| {
                        let children = topology.children(on).iter();
                        children.filter_map(|child| Some(topology.paths(*child as usize)?.target.as_str())).collect()
                    });
                    may_come_back || targets.contains(path)
                };
                places.extend(carried_on(topology, Some(parent), Some(&location), is_mounted));
            }
            Ok(places)
        }
        Operation::SetPropagation(propagation) => {
            let mount = mounted_at(topology, snapshot, target)?;
            let mut places: Vec<Place> = of_mount(topology, mount, target).into_iter().collect();
            if let Some(mount) = mount.filter(|_| propagation.recursive) {
                places.extend(below(topology, mount));
            }
            Ok(places)
        }
        Operation::Remount { mount_point_only } => {
            let mount = mounted_at(topology, snapshot, target)?;
            let mut places: Vec<Place> = of_mount(topology, mount, target).into_iter().collect();
            if let Some(mount) = mount.filter(|_| !mount_point_only) {
                places.extend(same_file_systems(topology, &[mount]));
            }
            Ok(places)
        }
    }
}

/// Where a mount on a target is seen.
pub(super) fn shown(target: &ResolvedPath, topology: &Topology, snapshot: &Snapshot) -> Result<Vec<Place>, HostError> {
    let Some(location) = &target.location else { return Ok(Vec::new()) };
    let mut places = vec![place(target.path.clone(), location.clone(), Via::Target)];
    places.extend(carried_on(topology, mount_of(topology, snapshot, target)?, Some(location), |_, _| true));
    Ok(places)
}

fn place(path: String, location: Location, via: Via) -> Place {
    Place { path, location, via }
}

/// The mount that an end lies on. A recorded one may not say so.
fn mount_of(topology: &Topology, snapshot: &Snapshot, end: &ResolvedPath) -> Result<Option<usize>, HostError> {
    if let Some(mount) = end.covering_mount.and_then(|id| topology.find(id)) {
        return Ok(Some(mount));
    }
    Ok(snapshot.id_covering(&end.path)?.and_then(|id| topology.find(id)))
}

/// The mount whose root an end is. Without one there is nothing to change, and the executor says so.
fn mounted_at(topology: &Topology, snapshot: &Snapshot, end: &ResolvedPath) -> Result<Option<usize>, HostError> {
    let is_root = |mount: &usize| topology.paths(*mount).is_some_and(|paths| paths.target == end.path);
    Ok(mount_of(topology, snapshot, end)?.filter(is_root))
}

/// The place of a mount that exists: where it's mounted. The topmost mount is mounted on nothing.
fn of_mount(topology: &Topology, mount: Option<usize>, end: &ResolvedPath) -> Option<Place> {
    let mount_point = mount.and_then(|mount| topology.mount_point(mount)).map(|(_, location)| location);
    let location = mount_point.or_else(|| end.location.clone())?;
    Some(place(end.path.clone(), location, Via::Target))
}

/// The places to which a change on a mount is carried, at those that `is_meant` of them.
fn carried_on(
    topology: &Topology,
    mount: Option<usize>,
    location: Option<&Location>,
    mut is_meant: impl FnMut(usize, &str) -> bool,
) -> Vec<Place> {
    let (Some(mount), Some(location)) = (mount, location) else { return Vec::new() };
    let receivers = topology.receivers(mount);
    receivers
        .iter()
        .filter_map(|(receiver, via)| {
            let path = topology.paths(*receiver)?.on_host(&location.path)?;
            is_meant(*receiver, &path).then(|| place(path, location.clone(), *via))
        })
        .collect()
}

/// All mounts of the file systems of some mounts.
fn same_file_systems(topology: &Topology, mounts: &[usize]) -> impl Iterator<Item = Place> {
    let devices: HashSet<Device> = mounts.iter().map(|mount| topology.nodes()[*mount].device).collect();
    let is_of_one = move |(_, node): &(usize, &Node)| devices.contains(&node.device);
    topology.nodes().iter().enumerate().filter(is_of_one).filter_map(|(mount, _)| {
        let path = topology.paths(mount)?.target.clone();
        Some(place(path, topology.root(mount)?, Via::SameFileSystem))
    })
}

/// The mounts on a mount and on those, each where it's mounted.
fn below(topology: &Topology, mount: usize) -> impl Iterator<Item = Place> {
    topology.descendants(mount).into_iter().filter_map(|mount| {
        let (_, location) = topology.mount_point(mount)?;
        Some(place(topology.paths(mount)?.target.clone(), location, Via::Below))
    })
}
