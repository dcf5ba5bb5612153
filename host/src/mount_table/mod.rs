//! The host's mounts, as the kernel tells them.

pub mod bad_line;
mod bytes;
mod escape;
mod index;
pub mod mount;
mod parse;
pub mod snapshot;
pub(crate) mod statmount;
pub mod table;
pub mod tree;

#[cfg(test)]
mod tests;
