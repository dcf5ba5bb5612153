//! What happened to each request, in a file that only grows: enough to decide the request again elsewhere.

pub mod entry;
pub mod log;
pub(crate) mod read;
