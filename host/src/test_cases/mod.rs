//! Cases that a policy directory is tested with: requests, each with the verdict that is expected.

pub(crate) mod coverage;
pub(crate) mod file;
pub(crate) mod judge;
