//! How a policy fails. Every failure denies.

use std::fmt;

use serde::Serialize;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The plugin stopped itself or did what the sandbox forbids.
    Trap,
    /// It used up its fuel.
    Fuel,
    /// It ran out of time.
    Deadline,
    /// It wanted more memory or table space than it may have.
    Memory,
    /// It used up its stack.
    Stack,
    /// It called the host too often, or handed over too much.
    HostCalls,
    /// Its answer breaks the contract.
    Malformed,
    /// It said itself that it couldn't judge.
    GaveUp,
    /// It changed a field that its `rewrites` doesn't name, or rewrote as a validating policy.
    NotPermitted,
    /// It took away a protection.
    Weakened,
    /// It made a request of the sort that the host refuses.
    HostRefused,
    /// Its rewrites never settle.
    NotConverged,
}

impl FailureKind {
    /// The stable word for it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Fuel => "fuel",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::HostCalls => "host-calls",
            Self::Malformed => "malformed",
            Self::GaveUp => "gave-up",
            Self::NotPermitted => "not-permitted",
            Self::Weakened => "weakened",
            Self::HostRefused => "host-refused",
            Self::NotConverged => "not-converged",
        }
    }
}

/// A policy's failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What kind it was.
    pub kind: FailureKind,
    /// What happened, for a person.
    pub message: String,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.kind.code())
    }
}

impl std::error::Error for Failure {}
