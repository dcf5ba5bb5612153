//! What a place is, whatever it's called: a file system and a path in it.

use serde::{Deserialize, Serialize};

use super::paths::is_within;
use super::untrusted::for_people;

/// A device's number, see makedev(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the two halves of a device number")]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

/// A file system and a path in it. Every name of a place leads to the same location.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// The file system's device number, as mountinfo in proc(5) has it.
    pub device: Device,
    /// The path from the root of the file system.
    pub path: String,
}

impl Device {
    /// The major number of loop devices, see `Documentation/admin-guide/devices.txt` of the kernel.
    pub(crate) const LOOP_MAJOR: u32 = 7;

    /// From `MAJOR:MINOR`, as the kernel writes it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", for_people(&self.path), self.device)
    }
}

impl Location {
    /// The place below it with this path.
    pub(crate) fn join(self, below: &str) -> Self {
        match below {
            "" => self,
            below => Self { path: format!("{}/{below}", self.path.trim_end_matches('/')), ..self },
        }
    }

    /// Something in a file system of which nobody can tell any more where: it has no path.
    pub(crate) fn somewhere_in(device: Device) -> Self {
        Self { device, path: String::new() }
    }

    /// Whether it's a folder's location or lies below it in the same file system.
    pub fn is_within(&self, folder: &Self) -> bool {
        self.device == folder.device && is_within(&self.path, &folder.path)
    }
}

/// A path of the host at which a request will be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The path.
    pub path: String,
    /// What is covered, uncovered or changed there.
    pub location: Location,
    /// Why the request is seen there.
    pub via: Via,
}

/// Why a request is seen at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// The request names it.
    Target,
    /// The mount there is a peer of the mount that changes.
    Peer,
    /// The mount there is a slave of the mount that changes, or of one of its peers.
    Slave,
    /// The mount there shows the file system that changes.
    SameFileSystem,
    /// A move takes the mount away from there.
    MovedFrom,
    /// The mount there goes or changes with the one below which it lies.
    Below,
    /// A bind or a move brings the mount along. The location is what it shows.
    BroughtAlong,
}

impl Via {
    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Peer => "peer",
            Self::Slave => "slave",
            Self::SameFileSystem => "same file system",
            Self::MovedFrom => "moved from",
            Self::Below => "below",
            Self::BroughtAlong => "brought along",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_within_another_of_the_same_file_system_only() {
        let location = |minor, path: &str| Location { device: Device { major: 0, minor }, path: path.to_owned() };
        assert!(location(1, "/a/b").is_within(&location(1, "/a")));
        assert!(location(1, "/a").is_within(&location(1, "/")));
        assert!(!location(1, "/ab").is_within(&location(1, "/a")));
        assert!(!location(2, "/a").is_within(&location(1, "/")));
    }
}
