//! Where code goes one way or another.

use wasmparser_of_encoder::Operator;

/// An instruction after which code goes on in more than one way. Each way is an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Branch {
    /// Of two ways, the first if the condition isn't 0.
    Choice,
    /// One of so many targets, or the default, which is the last edge.
    Table { targets: u32 },
}

impl Branch {
    /// What an instruction is, if it's one.
    pub(super) fn of(operator: &Operator<'_>) -> Option<Self> {
        match operator {
            Operator::BrIf { .. } | Operator::If { .. } | Operator::Select | Operator::TypedSelect { .. } => {
                Some(Self::Choice)
            }
            Operator::BrTable { targets } => Some(Self::Table { targets: targets.len() }),
            _ => None,
        }
    }

    /// How many edges it has.
    pub(super) fn edges(self) -> u32 {
        match self {
            Self::Choice => 2,
            Self::Table { targets } => targets + 1,
        }
    }
}
