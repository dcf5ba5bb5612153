//! What an author of a plugin is given: a new project, and a component built of it.

pub(crate) mod build;
mod built;
mod javascript;
pub(crate) mod language;
mod process;
mod python;
mod rust;
pub(crate) mod scaffold;
