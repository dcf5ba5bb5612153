//! Carries out plans on the host. Only here are namespaces entered, file systems mounted and programs started.

pub mod apply;
mod carried;
mod closed_root;
mod directory;
mod execution;
pub mod failure;
mod helper;
pub mod host_executor;
mod id_map;
mod kernel;
mod layers;
mod leftovers;
mod lookup;
mod loop_device;
mod mount_api;
mod mount_source;
mod namespace;
mod process;
pub mod sandbox;
mod scope;
mod singleton;
mod steps;
mod undo;
mod verify;
pub(crate) mod watch;
