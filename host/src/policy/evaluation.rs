//! The result of asking a policy once.

use std::time::Duration;

use crate::model::failure::Failure;
use crate::model::verdict::Verdict;

/// A line that a policy wrote to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "a level and its text")]
pub struct LogLine {
    pub level: tracing::Level,
    pub text: String,
}

/// The result of one evaluation.
#[derive(Debug)]
pub struct Evaluation {
    /// The checked verdict, or how the policy failed.
    pub result: Result<Verdict, Failure>,
    /// Fuel used.
    pub fuel: u64,
    /// How long it took, with the instance.
    pub elapsed: Duration,
    /// Whether the plugin asked for more memory or table space than it may have, even if it went on without.
    pub hit_limit: bool,
    /// The lines that it wrote.
    pub log: Vec<LogLine>,
}
