//! What an instrumented plugin notes.

/// What is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noting {
    /// Edges.
    Edges,
    /// Edges, and the operands of comparisons.
    Comparisons,
}
