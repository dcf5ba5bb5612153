//! What can be asked of a snapshot, and what it answers.

use super::mount::MountText;
use crate::model::location::{Device, Location};

/// The most mounts or names that one answer holds.
pub(crate) const PAGE: u32 = 1000;

/// What can be asked of a snapshot. `wit/0.1.0/mount-table.wit` describes each question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    Count,
    Page { offset: u64, limit: u32 },
    At(String),
    Covering(String),
    Below { path: String, limit: u32 },
    CountBelow(String),
    CountIn(Location),
    BySource { source: String, limit: u32 },
    CountBySource(String),
    ByDevice { device: Device, limit: u32 },
    ById(u64),
    Locate(String),
    Follow(String),
    Along(String),
    Around(Vec<Location>),
    Names { location: Location, limit: u32 },
}

/// What a snapshot answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Count(u64),
    Mount(Option<MountText>),
    Mounts(Vec<MountText>),
    Location(Option<Location>),
    Locations(Vec<Location>),
    Names(Vec<String>),
}

impl Answer {
    /// Whether it's small enough to be kept.
    pub(super) fn is_small(&self) -> bool {
        !matches!(self, Self::Mounts(_) | Self::Names(_))
    }
}
