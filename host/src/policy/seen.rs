//! What an earlier run found out about a policy directory, so that a plugin that nobody touched isn't read, hashed and
//! asked about itself again.
//!
//! It lies in the same private folder as compiled plugins and is believed for the same reason. A plugin's digest is
//! believed for as long as the file is the same one, of the same size, and unchanged since (its ctime can't be set,
//! see inode(7)). If that were ever wrong, still nothing would run but the code of the digest that the directory pins.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

use super::directory::Grant;
use super::engine::Description;
use super::limits::Limits;

/// All that is known of one policy directory.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Seen {
    /// The version of the program that wrote it.
    program: String,
    /// By file name.
    plugins: BTreeMap<String, Plugin>,
    /// What plugins said of themselves and of their settings, where they had nothing against those.
    policies: BTreeMap<String, Description>,
    #[serde(skip)]
    is_changed: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plugin {
    stamp: Stamp,
    digest: String,
}

/// What changes when a file does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

/// A file that was changed so shortly ago could be changed again within the same tick of the file system's clock.
const SETTLED: Duration = Duration::from_secs(2);

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(self.changed.0).is_ok_and(|changed| Duration::from_secs(changed) + SETTLED < now)
    }
}

impl Seen {
    /// What another version of the program wrote is forgotten.
    pub(super) fn read(text: &[u8]) -> Self {
        serde_json::from_slice(text)
            .ok()
            .filter(|seen: &Self| seen.program == env!("CARGO_PKG_VERSION"))
            .unwrap_or_default()
    }

    /// The text to be kept, where there is something new.
    pub(super) fn news(&self) -> Option<Vec<u8>> {
        let kept = Self { program: env!("CARGO_PKG_VERSION").to_owned(), ..self.clone() };
        self.is_changed.then(|| serde_json::to_vec(&kept).ok()).flatten()
    }

    pub(super) fn digest(&self, name: &str, stamp: &Stamp) -> Option<&str> {
        self.plugins.get(name).filter(|plugin| plugin.stamp == *stamp).map(|plugin| plugin.digest.as_str())
    }

    pub(super) fn note_digest(&mut self, name: &str, stamp: Stamp, digest: &str) {
        if stamp.is_settled() {
            self.plugins.insert(name.to_owned(), Plugin { stamp, digest: digest.to_owned() });
            self.is_changed = true;
        }
    }

    pub(super) fn description(&self, key: &str) -> Option<&Description> {
        self.policies.get(key)
    }

    /// But for the schema, which nobody asks for who judges requests.
    pub(super) fn note_description(&mut self, key: String, description: &Description) {
        self.policies.insert(key, Description { settings_schema: String::new(), ..description.clone() });
        self.is_changed = true;
    }

    /// Forgets all policies but these.
    pub(super) fn keep_policies(&mut self, keys: &[String]) {
        self.policies.retain(|key, _| keys.contains(key));
    }
}

/// What a plugin's answers about its settings depend on.
pub(super) fn policy_key(digest: &str, grants: &[Grant], limits: &Limits, settings: &str) -> String {
    format!("{digest} {grants:?} {} {} {:?} {settings}", limits.fuel, limits.memory, limits.deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(changed: i64) -> Stamp {
        Stamp { device: 1, inode: 2, size: 3, modified: (4, 5), changed: (changed, 0) }
    }

    #[test]
    fn a_digest_is_believed_while_nothing_about_the_file_changed() {
        let mut seen = Seen::default();
        seen.note_digest("a.wasm", stamp(1000), "d");
        assert_eq!(seen.digest("a.wasm", &stamp(1000)), Some("d"));
        assert_eq!(seen.digest("a.wasm", &stamp(1001)), None);
        assert_eq!(seen.digest("b.wasm", &stamp(1000)), None);
        let text = seen.news().expect("there is news");
        assert_eq!(Seen::read(&text).digest("a.wasm", &stamp(1000)), Some("d"));
        assert!(Seen::read(&text).news().is_none());
    }

    #[test]
    fn a_file_that_was_just_changed_is_not_believed() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        let mut seen = Seen::default();
        let fresh = stamp(i64::try_from(now).expect("before the year 292277026596"));
        seen.note_digest("a.wasm", fresh.clone(), "d");
        assert_eq!(seen.digest("a.wasm", &fresh), None);
    }

    #[test]
    fn what_another_version_wrote_is_forgotten() {
        assert!(Seen::read(br#"{"program":"0.0.0","plugins":{},"policies":{}}"#).plugins.is_empty());
        assert!(Seen::read(b"not JSON").policies.is_empty());
    }
}
