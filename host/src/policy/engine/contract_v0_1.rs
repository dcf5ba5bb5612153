//! Conversions from and to `mountgate:policy@0.1.0`.

use std::sync::Arc;

use super::bindings::exports::mountgate::policy::plugin;
use super::bindings::mountgate::policy::types as wit;
use crate::model::edit::{Edit, OwnedEdit};
use crate::model::ends::{FileKind, OptionPath, ResolvedPath};
use crate::model::location::{Device, Location, Place, Via};
use crate::model::options::{MountOption, Options};
use crate::model::request::{MountRequest, Operation, PropagationType};
use crate::model::requester::Requester;
use crate::model::verdict::{Denial, Verdict};
use crate::mount_table::mount::MountText;
use crate::policy::description::{Description, Kind};

/// All that a policy may know of one request, ready to be handed over more than once.
#[derive(Debug)]
pub struct Review(pub(super) Arc<wit::Review>);

/// What a review is made of.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields of the WIT record")]
pub struct ReviewParts<'r> {
    pub request: &'r MountRequest,
    pub original: &'r MountRequest,
    pub edits: &'r [OwnedEdit],
    pub source: Option<&'r ResolvedPath>,
    pub target: &'r ResolvedPath,
    pub option_paths: &'r [OptionPath],
    pub requester: &'r Requester,
    pub places: &'r [Place],
}

impl Review {
    /// Puts a review together.
    pub fn new(parts: ReviewParts<'_>) -> Self {
        Self(Arc::new(wit::Review {
            request: request(parts.request),
            original: request(parts.original),
            edits: parts
                .edits
                .iter()
                .map(|owned| wit::OwnedEdit { policy: owned.policy.clone(), change: edit_to_wit(&owned.edit) })
                .collect(),
            source: parts.source.map(resolved),
            target: resolved(parts.target),
            option_paths: parts
                .option_paths
                .iter()
                .map(|path| wit::OptionPath { option: path.option.clone(), found: resolved(&path.found) })
                .collect(),
            requester: requester(parts.requester),
            places: parts.places.iter().map(place).collect(),
        }))
    }
}

/// How a request ended, for observers.
#[derive(Debug)]
pub struct Outcome(pub(super) wit::Outcome);

impl Outcome {
    /// It was carried out; the number is the new mount's unique id.
    pub fn applied(to: &MountRequest, by: &Requester, mount_id: Option<u64>) -> Self {
        Self::new(to, by, wit::Status::Applied(mount_id))
    }

    /// The host couldn't carry it out.
    pub fn failed(to: &MountRequest, by: &Requester, reason: &str) -> Self {
        Self::new(to, by, wit::Status::Failed(reason.to_owned()))
    }

    /// It was denied.
    pub fn denied(to: &MountRequest, by: &Requester, denial: &Denial) -> Self {
        let Denial { code, reason, field, hint } = denial.clone();
        Self::new(to, by, wit::Status::Denied(wit::Denial { code, reason, field, hint }))
    }

    fn new(to: &MountRequest, by: &Requester, status: wit::Status) -> Self {
        Self(wit::Outcome { request: request(to), requester: requester(by), status })
    }
}

fn request(request: &MountRequest) -> wit::Request {
    wit::Request {
        operation: operation(request.operation),
        source: request.source.clone(),
        target: request.target.clone(),
        fstype: request.fstype.clone(),
        options: options(&request.options),
    }
}

fn options(options: &Options) -> Vec<wit::MountOption> {
    options.iter().map(option).collect()
}

fn option(option: &MountOption) -> wit::MountOption {
    wit::MountOption { name: option.name.clone(), value: option.value.clone() }
}

fn operation(operation: Operation) -> wit::Operation {
    match operation {
        Operation::Mount => wit::Operation::Mount,
        Operation::Bind { recursive } => wit::Operation::Bind(recursive),
        Operation::Remount { mount_point_only } => wit::Operation::Remount(mount_point_only),
        Operation::Move => wit::Operation::Move,
        Operation::SetPropagation(propagation) => wit::Operation::SetPropagation(wit::Propagation {
            kind: match propagation.kind {
                PropagationType::Shared => wit::PropagationType::Shared,
                PropagationType::Slave => wit::PropagationType::Slave,
                PropagationType::Private => wit::PropagationType::Private,
                PropagationType::Unbindable => wit::PropagationType::Unbindable,
            },
            recursive: propagation.recursive,
        }),
        Operation::Unmount(mode) => {
            wit::Operation::Unmount(wit::UnmountMode { lazy: mode.lazy, force: mode.force, recursive: mode.recursive })
        }
    }
}

fn resolved(found: &ResolvedPath) -> wit::ResolvedPath {
    wit::ResolvedPath {
        path: found.path.clone(),
        kind: match found.kind {
            FileKind::Directory => wit::FileKind::Directory,
            FileKind::Regular => wit::FileKind::Regular,
            FileKind::BlockDevice => wit::FileKind::BlockDevice,
            FileKind::CharDevice => wit::FileKind::CharDevice,
            FileKind::Fifo => wit::FileKind::Fifo,
            FileKind::Socket => wit::FileKind::Socket,
        },
        location: found.location.as_ref().map(location),
        storage: found.storage.iter().map(location).collect(),
        device: found.device.map(device),
        symlinks: found.symlinks.clone(),
        covering_mount: found.covering_mount,
    }
}

fn device(device: Device) -> wit::Device {
    wit::Device { major: device.major, minor: device.minor }
}

pub(super) fn location(location: &Location) -> wit::Location {
    wit::Location { device: device(location.device), path: location.path.clone() }
}

pub(super) fn location_from_wit(location: wit::Location) -> Location {
    let wit::Location { device, path } = location;
    Location { device: Device { major: device.major, minor: device.minor }, path }
}

fn place(place: &Place) -> wit::Place {
    let via = match place.via {
        Via::Target => wit::Via::Target,
        Via::Peer => wit::Via::Peer,
        Via::Slave => wit::Via::Slave,
        Via::SameFileSystem => wit::Via::SameFileSystem,
        Via::MovedFrom => wit::Via::MovedFrom,
        Via::Below => wit::Via::Below,
        Via::BroughtAlong => wit::Via::BroughtAlong,
    };
    wit::Place { path: place.path.clone(), location: location(&place.location), via }
}

fn requester(requester: &Requester) -> wit::Requester {
    wit::Requester {
        uid: requester.uid,
        gid: requester.gid,
        pid: requester.pid,
        labels: requester
            .labels
            .iter()
            .map(|label| wit::Label { key: label.key.clone(), value: label.value.clone() })
            .collect(),
        // Requests come by the command line only.
        peer: None,
    }
}

fn edit_to_wit(edit: &Edit) -> wit::Edit {
    match edit {
        Edit::SetSource(source) => wit::Edit::SetSource(source.clone()),
        Edit::SetTarget(target) => wit::Edit::SetTarget(target.clone()),
        Edit::SetFstype(fstype) => wit::Edit::SetFstype(fstype.clone()),
        Edit::AddOption(added) => wit::Edit::AddOption(option(added)),
        Edit::DropOption(name) => wit::Edit::DropOption(name.clone()),
    }
}

pub(super) fn mount(mount: MountText) -> wit::Mount {
    let MountText { id, parent, major, minor, root, target, options, optional_fields, fstype, source, super_options } =
        mount;
    wit::Mount {
        id,
        parent,
        device: wit::Device { major, minor },
        root,
        target,
        options,
        optional_fields,
        fstype,
        source,
        super_options,
    }
}

/// The answer, not yet checked.
pub(crate) fn verdict(verdict: plugin::Verdict) -> Verdict {
    match verdict {
        wit::Verdict::Allow => Verdict::Allow,
        wit::Verdict::Deny(wit::Denial { code, reason, field, hint }) => {
            Verdict::Deny(Denial { code, reason, field, hint })
        }
        wit::Verdict::Rewrite(edits) => Verdict::Rewrite(edits.into_iter().map(edit_from_wit).collect()),
    }
}

fn edit_from_wit(edit: wit::Edit) -> Edit {
    match edit {
        wit::Edit::SetSource(source) => Edit::SetSource(source),
        wit::Edit::SetTarget(target) => Edit::SetTarget(target),
        wit::Edit::SetFstype(fstype) => Edit::SetFstype(fstype),
        wit::Edit::AddOption(wit::MountOption { name, value }) => Edit::AddOption(MountOption { name, value }),
        wit::Edit::DropOption(name) => Edit::DropOption(name),
    }
}

pub(super) fn description(description: plugin::Description) -> Description {
    Description {
        name: description.name,
        version: description.version,
        kind: match description.kind {
            plugin::Kind::Mutating => Kind::Mutating,
            plugin::Kind::Validating => Kind::Validating,
        },
        help: description.help,
        settings_schema: description.settings_schema,
    }
}
