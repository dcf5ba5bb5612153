//! The host's mounts, as the kernel tells them.

pub mod bad_line;
mod bytes;
pub(crate) mod escape;
mod index;
pub mod mount;
pub(crate) mod node_paths;
mod parse;
pub(crate) mod question;
pub mod snapshot;
pub mod source;
pub(crate) mod statmount;
pub mod table;
pub(crate) mod topology;
pub mod tree;

#[cfg(test)]
mod tests;
