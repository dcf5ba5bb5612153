//! The host: its tree and its mount namespace as this process sees them.

mod btrfs;
pub(crate) mod file_systems;
pub(crate) mod foreign;
pub(crate) mod identity;
mod known_mounts;
pub(crate) mod links;
pub mod live_mounts;
mod locate;
mod lock_holders;
pub mod locks;
pub(crate) mod loop_devices;
pub(crate) mod namespaces;
mod open;
pub mod own_state;
pub(crate) mod owner;
pub(crate) mod place;
pub(crate) mod programs;
pub mod resolve;
pub mod root;
pub(crate) mod storage;
pub(crate) mod whole_file;
