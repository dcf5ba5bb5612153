//! What mountgate speaks of: requests, options, verdicts, rules. Nothing here touches the host.

pub mod edit;
pub mod ends;
pub mod failure;
pub mod hint;
pub mod host_error;
pub(crate) mod image;
pub mod location;
pub(crate) mod mount_flags;
pub(crate) mod option_names;
pub(crate) mod option_paths;
pub mod options;
pub(crate) mod own_options;
pub(crate) mod paths;
pub mod refusals;
pub mod request;
pub mod requester;
pub mod rules;
pub mod secrets;
pub(crate) mod shared_types;
pub(crate) mod untrusted;
pub mod verdict;
