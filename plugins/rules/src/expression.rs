//! Rules as `evaluate` reads them: parsed and checked.

use serde::{Deserialize, Serialize};

/// A rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rule {
    pub(crate) name: String,
    pub(crate) condition: Node,
    pub(crate) action: Action,
}

/// What a rule does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Action {
    Deny(Denial),
    Rewrite(Rewrite),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Denial {
    pub(crate) code: String,
    pub(crate) message: Text,
    pub(crate) field: String,
    pub(crate) hint: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rewrite {
    pub(crate) add: Vec<(String, Option<Text>)>,
    pub(crate) drop: Vec<String>,
    pub(crate) source: Option<Text>,
    pub(crate) target: Option<Text>,
    pub(crate) fstype: Option<Text>,
}

impl Rewrite {
    /// The fields of a request that it changes.
    pub(crate) fn changes(&self) -> impl Iterator<Item = String> {
        let fields = [
            ("source", self.source.is_some()),
            ("target", self.target.is_some()),
            ("fstype", self.fstype.is_some()),
            ("options", !self.add.is_empty() || !self.drop.is_empty()),
        ];
        fields.into_iter().filter(|(_, changes)| *changes).map(|(field, _)| field.to_owned())
    }
}

/// A text with expressions in it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Text(pub(crate) Vec<Part>);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Part {
    Plain(String),
    Value(Node),
}

/// An expression.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Node>),
    /// One of [`crate::facts::ROOTS`].
    Root(u8),
    /// A variable of a comprehension, counted from the innermost.
    Local(u8),
    Field(Box<Node>, Field),
    /// Whether a field isn't null.
    Has(Box<Node>, Field),
    Index(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    If(Box<Node>, Box<Node>, Box<Node>),
    Binary(Binary, Box<Node>, Box<Node>),
    Call(Function, Vec<Node>),
    Fold(Box<Fold>),
}

impl Default for Node {
    /// What stands for an expression that couldn't be read.
    fn default() -> Self {
        Self::Null
    }
}

/// What CEL's macros stand for: a list is gone through with an accumulator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Fold {
    pub(crate) list: Node,
    pub(crate) start: Node,
    pub(crate) goes_on: Node,
    pub(crate) step: Node,
    pub(crate) result: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Binary {
    Equal,
    Differs,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

/// The fields of all types, by one name each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Field {
    Operation,
    Recursive,
    MountPointOnly,
    Lazy,
    Force,
    Propagation,
    Source,
    Target,
    Fstype,
    Options,
    Name,
    Value,
    Path,
    Kind,
    Location,
    Device,
    Symlinks,
    CoveringMount,
    Storage,
    Via,
    Major,
    Minor,
    Uid,
    Gid,
    Labels,
    Peer,
    Cgroup,
    Unit,
    Pod,
    Container,
    Option,
    Found,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Function {
    /// Whether a place lies at or below a folder, under whatever name.
    Within,
    /// Whether a folder lies at or below a place, under whatever name.
    Holds,
    /// Whether a path is reached through a folder, by the names that it goes through.
    Through,
    /// Whether a path fits a pattern, component by component.
    Glob,
    /// Which of two contradicting words counts.
    Counts,
    /// The value of the last option of a name.
    ValueOf,
    HasOption,
    MountsIn,
    MountsOf,
    IsMountPoint,
    StartsWith,
    EndsWith,
    Contains,
    Size,
    ToText,
    NotFalse,
}
