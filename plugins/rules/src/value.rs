//! Values of expressions. Parts of the review are looked at where they are.

use std::borrow::Cow;

use mountgate_sdk::{
    Device, FileKind, Label, Location, MountOption, Operation, OptionPath, Peer, Place, PropagationType, Request,
    Requester, ResolvedPath, Via,
};

use crate::expression::Field;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'r> {
    Null,
    Bool(bool),
    Int(i64),
    Text(Cow<'r, str>),
    List(Vec<Value<'r>>),
    Labels(&'r [Label]),
    Request(&'r Request),
    MountOption(&'r MountOption),
    ResolvedPath(&'r ResolvedPath),
    Location(&'r Location),
    Device(Device),
    Place(&'r Place),
    OptionPath(&'r OptionPath),
    Requester(&'r Requester),
    Peer(&'r Peer),
}

impl<'r> Value<'r> {
    pub(crate) fn text(text: &'r str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    fn maybe(text: Option<&'r String>) -> Self {
        text.map_or(Self::Null, |text| Self::text(text))
    }

    fn number(number: impl TryInto<i64>) -> Self {
        Self::Int(number.try_into().unwrap_or(i64::MAX))
    }

    /// The path that it stands for.
    pub(crate) fn path(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::ResolvedPath(found) => Some(&found.path),
            Self::Place(place) => Some(&place.path),
            _ => None,
        }
    }

    /// The location that it has, if it's known already.
    pub(crate) fn location(&self) -> Option<&'r Location> {
        match self {
            Self::ResolvedPath(found) => found.location.as_ref(),
            Self::Place(place) => Some(&place.location),
            _ => None,
        }
    }

    /// The locations of the bytes that a mount of it shows.
    pub(crate) fn storage(&self) -> &'r [Location] {
        if let Self::ResolvedPath(found) = self { &found.storage } else { &[] }
    }

    /// Whether it's a folder, which is mounted already: the nodes of its devices don't say where it lies.
    pub(crate) fn is_folder(&self) -> bool {
        matches!(self, Self::ResolvedPath(found) if found.kind == FileKind::Directory)
    }

    /// A field of it. The types were checked, so only null has none.
    pub(crate) fn field(&self, field: Field) -> Result<Value<'r>, String> {
        Ok(match (self, field) {
            (Self::Request(request), field) => of_request(request, field),
            (Self::MountOption(option), Field::Name) => Self::text(&option.name),
            (Self::MountOption(option), Field::Value) => Self::maybe(option.value.as_ref()),
            (Self::ResolvedPath(found), Field::Path) => Self::text(&found.path),
            (Self::ResolvedPath(found), Field::Kind) => Self::text(match found.kind {
                FileKind::Directory => "directory",
                FileKind::Regular => "regular",
                FileKind::BlockDevice => "block-device",
                FileKind::CharDevice => "char-device",
                FileKind::Fifo => "fifo",
                FileKind::Socket => "socket",
            }),
            (Self::ResolvedPath(found), Field::Location) => found.location.as_ref().map_or(Self::Null, Self::Location),
            (Self::ResolvedPath(found), Field::Storage) => {
                Self::List(found.storage.iter().map(Self::Location).collect())
            }
            (Self::ResolvedPath(found), Field::Device) => found.device.map_or(Self::Null, Self::Device),
            (Self::ResolvedPath(found), Field::Symlinks) => {
                Self::List(found.symlinks.iter().map(|link| Self::text(link)).collect())
            }
            (Self::ResolvedPath(found), Field::CoveringMount) => found.covering_mount.map_or(Self::Null, Self::number),
            (Self::Location(location), Field::Device) => Self::Device(location.device),
            (Self::Location(location), Field::Path) => Self::text(&location.path),
            (Self::Device(device), Field::Major) => Self::number(device.major),
            (Self::Device(device), Field::Minor) => Self::number(device.minor),
            (Self::Place(place), Field::Path) => Self::text(&place.path),
            (Self::Place(place), Field::Location) => Self::Location(&place.location),
            (Self::Place(place), Field::Via) => Self::text(match place.via {
                Via::Target => "target",
                Via::Peer => "peer",
                Via::Slave => "slave",
                Via::SameFileSystem => "same-file-system",
                Via::MovedFrom => "moved-from",
                Via::Below => "below",
                Via::BroughtAlong => "brought-along",
            }),
            (Self::OptionPath(path), Field::Option) => Self::text(&path.option),
            (Self::OptionPath(path), Field::Found) => Self::ResolvedPath(&path.found),
            (Self::Requester(requester), Field::Uid) => Self::number(requester.uid),
            (Self::Requester(requester), Field::Gid) => Self::number(requester.gid),
            (Self::Requester(requester), Field::Labels) => Self::Labels(&requester.labels),
            (Self::Requester(requester), Field::Peer) => requester.peer.as_ref().map_or(Self::Null, Self::Peer),
            (Self::Peer(peer), Field::Uid) => Self::number(peer.uid),
            (Self::Peer(peer), Field::Gid) => Self::number(peer.gid),
            (Self::Peer(peer), Field::Cgroup) => Self::text(&peer.cgroup),
            (Self::Peer(peer), Field::Unit) => Self::maybe(peer.unit.as_ref()),
            (Self::Peer(peer), Field::Pod) => Self::maybe(peer.pod.as_ref()),
            (Self::Peer(peer), Field::Container) => Self::maybe(peer.container.as_ref()),
            (Self::Null, _) => return Err("a field of null is asked for: ask for has(…) first".to_owned()),
            _ => return Err("a value has no such field".to_owned()),
        })
    }
}

fn of_request<'r>(request: &'r Request, field: Field) -> Value<'r> {
    let operation = &request.operation;
    match field {
        Field::Operation => Value::text(match operation {
            Operation::Mount => "mount",
            Operation::Bind(_) => "bind",
            Operation::Remount(_) => "remount",
            Operation::Move => "move",
            Operation::SetPropagation(_) => "set-propagation",
            Operation::Unmount(_) => "unmount",
        }),
        Field::Recursive => Value::Bool(match operation {
            Operation::Bind(recursive) => *recursive,
            Operation::SetPropagation(propagation) => propagation.recursive,
            Operation::Unmount(mode) => mode.recursive,
            _ => false,
        }),
        Field::MountPointOnly => Value::Bool(matches!(operation, Operation::Remount(true))),
        Field::Lazy => Value::Bool(matches!(operation, Operation::Unmount(mode) if mode.lazy)),
        Field::Force => Value::Bool(matches!(operation, Operation::Unmount(mode) if mode.force)),
        Field::Propagation => match operation {
            Operation::SetPropagation(propagation) => Value::text(match propagation.kind {
                PropagationType::Shared => "shared",
                PropagationType::Slave => "slave",
                PropagationType::Private => "private",
                PropagationType::Unbindable => "unbindable",
            }),
            _ => Value::Null,
        },
        Field::Source => Value::maybe(request.source.as_ref()),
        Field::Target => Value::text(&request.target),
        Field::Fstype => Value::maybe(request.fstype.as_ref()),
        Field::Options => Value::List(request.options.iter().map(Value::MountOption).collect()),
        _ => Value::Null,
    }
}
