//! What an author of a plugin is given: a new project, and a component built of it.

pub(crate) mod build;
pub(crate) mod rust_toolchain;
pub(crate) mod scaffold;
