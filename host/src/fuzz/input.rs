//! What one run of the fuzzer decides.

use std::sync::Arc;

use super::tables::{SHIFT, Table};
use crate::model::ends::{OptionPath, ResolvedPath};
use crate::model::options::MountOption;
use crate::model::request::MountRequest;
use crate::model::requester::{Label, Requester};

/// Flags that take rights away and give none.
const RESTRICTIONS: [&str; 4] = ["ro", "nosuid", "nodev", "noexec"];

/// A name that no policy knows.
const LINK: &str = "/another-name";

/// Everything that a decision depends on, small enough to be kept, changed and written down.
#[derive(Debug, Clone)]
pub struct Input {
    /// The request.
    pub request: MountRequest,
    /// What the source is.
    pub source: Option<ResolvedPath>,
    /// What the target is.
    pub target: ResolvedPath,
    /// What the paths in the options are, for each option in the order of its paths; directories where they aren't among these.
    pub option_paths: Vec<OptionPath>,
    /// Who asks.
    pub requester: Requester,
    /// The mounts that it meets.
    pub table: Arc<Table>,
}

impl Input {
    /// The restrictions that it hasn't.
    pub(super) fn missing_restrictions(&self) -> impl Iterator<Item = &'static str> {
        let has = |flag: &str| self.request.options.iter().any(|option| option.name == flag);
        RESTRICTIONS.into_iter().filter(move |flag| !has(flag))
    }

    /// This input with one more restriction.
    pub(super) fn with_restriction(&self, flag: &'static str) -> (&'static str, Self) {
        let added = MountOption { name: flag.to_owned(), value: None };
        let mut restricted = self.clone();
        restricted.request.options = self.request.options.iter().cloned().chain([added]).collect();
        (flag, restricted)
    }

    /// This input with one more restriction, for each that it hasn't.
    pub(super) fn restricted(&self) -> impl Iterator<Item = (&'static str, Self)> {
        self.missing_restrictions().map(|flag| self.with_restriction(flag))
    }

    /// This input with its target, and with its source, written as a link to the same place.
    pub(super) fn renamed(&self) -> impl Iterator<Item = (&'static str, Self)> {
        let mut target = self.clone();
        LINK.clone_into(&mut target.request.target);
        target.target.symlinks.push(LINK.to_owned());
        let source = self.source.as_ref().map(|_| {
            let mut renamed = self.clone();
            renamed.request.source = Some(LINK.to_owned());
            renamed.source.iter_mut().for_each(|source| source.symlinks.push(LINK.to_owned()));
            renamed
        });
        std::iter::once(("target", target)).chain(source.map(|source| ("source", source)))
    }

    /// Gives the requester these labels as well.
    pub(super) fn add_labels(&mut self, labels: &[Label]) {
        for label in labels {
            if !self.requester.labels.contains(label) {
                self.requester.labels.push(label.clone());
            }
        }
    }

    /// How large it is, roughly in bytes.
    pub(crate) fn size(&self) -> u64 {
        let options = self
            .request
            .options
            .iter()
            .map(|option| 16 + option.name.len() + option.value.as_ref().map_or(0, String::len));
        let labels = self.requester.labels.iter().map(|label| 16 + label.key.len() + label.value.len());
        let size = options.chain(labels).sum::<usize>()
            + self.request.target.len()
            + self.target.symlinks.len() * 32
            + self.option_paths.len() * 32
            + self.table.text().len() / 4
            + self.table.paths().len() * 32;
        u64::try_from(size).unwrap_or(u64::MAX)
    }

    /// This input with everything changed that a verdict must not depend on: another process asks, and it meets the twin
    /// of its table, whose mounts have other ids.
    pub(super) fn with_other_incidentals(&self) -> Self {
        let mut other = self.clone();
        other.requester.pid = other.requester.pid.wrapping_add(1);
        other.table = self.table.twin();
        let ends = other.source.iter_mut().chain([&mut other.target]);
        for end in ends.chain(other.option_paths.iter_mut().map(|path| &mut path.found)) {
            end.covering_mount = end.covering_mount.map(|id| id.wrapping_add(SHIFT));
        }
        other
    }
}
