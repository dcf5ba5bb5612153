//! The types of expressions, and which fields and functions they have.

use std::fmt;

use crate::expression::{Field, Function};

/// A type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Null,
    Bool,
    Int,
    Text,
    List(Box<Type>),
    /// Text by text.
    Map,
    Request,
    MountOption,
    ResolvedPath,
    Location,
    Device,
    Place,
    OptionPath,
    Requester,
    Peer,
    /// The type, or null.
    Maybe(Box<Type>),
    /// The elements of an empty list.
    Any,
}

impl Type {
    pub(crate) fn list(of: Self) -> Self {
        Self::List(Box::new(of))
    }

    pub(crate) fn maybe(self) -> Self {
        Self::Maybe(Box::new(self))
    }

    /// The type of what isn't null.
    pub(crate) fn present(&self) -> &Self {
        if let Self::Maybe(inner) = self { inner } else { self }
    }

    /// Whether a value of this type can stand where the other is expected.
    pub(crate) fn fits(&self, expected: &Self) -> bool {
        match (self, expected) {
            (Self::Any, _) | (_, Self::Any) | (Self::Null, Self::Maybe(_)) => true,
            (Self::List(one), Self::List(other)) => one.fits(other),
            (one, Self::Maybe(other)) => one.present().fits(other),
            (one, other) => one == other,
        }
    }

    /// Whether values of the two types can be equal.
    pub(crate) fn is_comparable(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Null, Self::Maybe(_)) | (Self::Maybe(_), Self::Null))
            || self.present().fits(other.present())
    }

    /// Its fields, with their types.
    pub(crate) fn fields(&self) -> Vec<(&'static str, Field, Self)> {
        let text = || Self::Text;
        match self.present() {
            Self::Request => vec![
                ("operation", Field::Operation, text()),
                ("recursive", Field::Recursive, Self::Bool),
                ("mount_point_only", Field::MountPointOnly, Self::Bool),
                ("lazy", Field::Lazy, Self::Bool),
                ("force", Field::Force, Self::Bool),
                ("propagation", Field::Propagation, text().maybe()),
                ("source", Field::Source, text().maybe()),
                ("target", Field::Target, text()),
                ("fstype", Field::Fstype, text().maybe()),
                ("options", Field::Options, Self::list(Self::MountOption)),
            ],
            Self::MountOption => vec![("name", Field::Name, text()), ("value", Field::Value, text().maybe())],
            Self::ResolvedPath => vec![
                ("path", Field::Path, text()),
                ("kind", Field::Kind, text()),
                ("location", Field::Location, Self::Location.maybe()),
                ("storage", Field::Storage, Self::list(Self::Location)),
                ("device", Field::Device, Self::Device.maybe()),
                ("symlinks", Field::Symlinks, Self::list(text())),
                ("covering_mount", Field::CoveringMount, Self::Int.maybe()),
            ],
            Self::Location => vec![("device", Field::Device, Self::Device), ("path", Field::Path, text())],
            Self::Device => vec![("major", Field::Major, Self::Int), ("minor", Field::Minor, Self::Int)],
            Self::Place => vec![
                ("path", Field::Path, text()),
                ("location", Field::Location, Self::Location),
                ("via", Field::Via, text()),
            ],
            Self::OptionPath => vec![("option", Field::Option, text()), ("found", Field::Found, Self::ResolvedPath)],
            Self::Requester => vec![
                ("uid", Field::Uid, Self::Int),
                ("gid", Field::Gid, Self::Int),
                ("labels", Field::Labels, Self::Map),
                ("peer", Field::Peer, Self::Peer.maybe()),
            ],
            Self::Peer => vec![
                ("uid", Field::Uid, Self::Int),
                ("gid", Field::Gid, Self::Int),
                ("cgroup", Field::Cgroup, text()),
                ("unit", Field::Unit, text().maybe()),
                ("pod", Field::Pod, text().maybe()),
                ("container", Field::Container, text().maybe()),
            ],
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Text => "string",
            Self::List(of) => return write!(f, "list of {of}"),
            Self::Map => "map of strings",
            Self::Request => "request",
            Self::MountOption => "option",
            Self::ResolvedPath => "resolved path",
            Self::Location => "location",
            Self::Device => "device",
            Self::Place => "place",
            Self::OptionPath => "option path",
            Self::Requester => "requester",
            Self::Peer => "peer",
            Self::Maybe(inner) => return write!(f, "{inner} or null"),
            Self::Any => "any",
        };
        f.write_str(word)
    }
}

/// A function: how it's called, what it takes, what it returns.
pub(crate) struct Signature {
    pub(crate) name: &'static str,
    pub(crate) function: Function,
    pub(crate) takes: Vec<Type>,
    pub(crate) returns: Type,
    /// How it's written.
    pub(crate) usage: &'static str,
}

/// The functions behind the words `path` and `mounts`, and those of a value, as `request.counts("ro")`.
pub(crate) fn functions() -> Vec<Signature> {
    let signature = |name, function, takes: &[Type], returns, usage| Signature {
        name,
        function,
        takes: takes.to_vec(),
        returns,
        usage,
    };
    let text = || Type::Text;
    vec![
        signature("path.within", Function::Within, &[Type::Any, text()], Type::Bool, "path.within(place, folder)"),
        signature("path.holds", Function::Holds, &[Type::Any, text()], Type::Bool, "path.holds(place, folder)"),
        signature("path.through", Function::Through, &[Type::Any, text()], Type::Bool, "path.through(place, folder)"),
        signature("path.glob", Function::Glob, &[Type::Any, text()], Type::Bool, "path.glob(place, pattern)"),
        signature("mounts.count_in", Function::MountsIn, &[text()], Type::Int, "mounts.count_in(folder)"),
        signature("mounts.count_of", Function::MountsOf, &[text()], Type::Int, "mounts.count_of(source)"),
        signature(
            "mounts.is_mount_point",
            Function::IsMountPoint,
            &[text()],
            Type::Bool,
            "mounts.is_mount_point(path)",
        ),
        signature(".counts", Function::Counts, &[Type::Request, text()], Type::Bool, "request.counts(option)"),
        signature(".has_option", Function::HasOption, &[Type::Request, text()], Type::Bool, "request.has_option(name)"),
        signature(".value_of", Function::ValueOf, &[Type::Request, text()], text().maybe(), "request.value_of(name)"),
        signature(".startsWith", Function::StartsWith, &[text(), text()], Type::Bool, "text.startsWith(text)"),
        signature(".endsWith", Function::EndsWith, &[text(), text()], Type::Bool, "text.endsWith(text)"),
        signature(".contains", Function::Contains, &[text(), text()], Type::Bool, "text.contains(text)"),
        signature("size", Function::Size, &[Type::Any], Type::Int, "size(list or text)"),
        signature(".size", Function::Size, &[Type::Any], Type::Int, "list.size()"),
        signature("string", Function::ToText, &[Type::Any], text(), "string(value)"),
        signature("@not_strictly_false", Function::NotFalse, &[Type::Bool], Type::Bool, ""),
    ]
}
