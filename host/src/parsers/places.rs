//! The places of a request on a host with a table of mounts.

use super::parts::parts;
use crate::decision::places::places as of_request;
use crate::model::ends::{Ends, FileKind, PinnedPath, ResolvedPath};
use crate::model::location::{Place, Via};
use crate::model::options::Options;
use crate::model::paths::lexical;
use crate::model::request::{MountRequest, Operation, Propagation, PropagationType, UnmountMode};
use crate::mount_table::snapshot::Snapshot;
use crate::mount_table::table::MountTable;

/// Places: a table, a target and a source. Of every operation they are found, there are no more of them than the mounts allow, and each
/// is on a file system that is there. What a mount tells a peer, the peer tells it.
///
/// # Panics
/// Where that doesn't hold.
pub(super) fn places(data: &[u8]) {
    let mut parts = parts(data);
    let Ok(table) = MountTable::parse(parts.next().unwrap_or_default().into_bytes()) else { return };
    let mounts = table.len();
    let snapshot = Snapshot::of(table);
    let mut path = || lexical(&format!("/{}", parts.next().unwrap_or_default()));
    let (target, source) = (path(), path());
    let found = |path: &str| ResolvedPath {
        path: path.to_owned(),
        kind: FileKind::Directory,
        location: snapshot.locate(path).expect("a table that was read can be asked"),
        device: None,
        storage: Vec::new(),
        symlinks: Vec::new(),
        covering_mount: snapshot.id_covering(path).expect("a table that was read can be asked"),
    };
    let ends = Ends {
        source: Some(PinnedPath::whole(found(&source), None)),
        target: PinnedPath::whole(found(&target), None),
        option_paths: Vec::new(),
    };
    let topology = snapshot.topology().expect("a table that was read can be asked");
    for operation in OPERATIONS {
        let request = MountRequest {
            operation,
            source: Some(source.clone()),
            target: target.clone(),
            fstype: None,
            options: Options::default(),
        };
        let places = of_request(&request, &ends, &snapshot).expect("a table that was read can be asked");
        assert!(places.len() <= 2 + mounts * (mounts + 2), "{} places of {mounts} mounts", places.len());
        if matches!(operation, Operation::Mount) {
            assert_eq!(places.first().map(|place| &place.path), ends.target.found.location.as_ref().map(|_| &target));
            assert!(places.iter().skip(1).all(|place| matches!(place.via, Via::Peer | Via::Slave)));
        }
        // Where a table doesn't say what a target lies on, nothing is known of its file system.
        let is_known =
            |place: &Place| place.via == Via::Target || topology.of_device(place.location.device).next().is_some();
        assert!(places.iter().all(is_known), "{places:?}");
    }
    for mount in 0..mounts.min(32) {
        assert!(topology.descendants(mount).len() <= 2 * mounts);
        for (receiver, via) in topology.receivers(mount).iter().copied() {
            let answers = topology.receivers(receiver).contains(&(mount, Via::Peer));
            assert_eq!(answers, via == Via::Peer, "mounts {mount} and {receiver}");
        }
        let along = topology.along(mount, &target);
        assert!(along.len() <= mounts + 1);
        let around = topology.around(&along);
        assert!(along.iter().all(|location| around.contains(location)));
        assert!(around.iter().all(|location| topology.names(location).len() <= mounts));
    }
}

const OPERATIONS: [Operation; 9] = [
    Operation::Mount,
    Operation::Bind { recursive: false },
    Operation::Bind { recursive: true },
    Operation::Move,
    Operation::Remount { mount_point_only: true },
    Operation::Remount { mount_point_only: false },
    Operation::SetPropagation(Propagation { kind: PropagationType::Shared, recursive: true }),
    Operation::Unmount(UnmountMode { lazy: false, force: false, recursive: false }),
    Operation::Unmount(UnmountMode { lazy: true, force: false, recursive: true }),
];
