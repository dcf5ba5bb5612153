//! An approved request as steps that print as exactly what will be done.

pub(crate) mod attributes;
pub(crate) mod call;
pub(crate) mod helper_mount;
pub mod mount_plan;
pub(crate) mod step;
