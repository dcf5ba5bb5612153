//! What earlier runs found out about a policy directory. An unchanged plugin isn't read, hashed and asked about
//! itself again, and the same `policies.toml` isn't parsed and checked again.
//!
//! The record lies in the same private folder as compiled plugins and is believed for the same reason. `policies.toml` and `policies.lock` are
//! read in each run, and compared byte for byte. The digest of a plugin is believed while the file is the same one, of the same size,
//! and unchanged since: no program can set its ctime, see inode(7). Whoever makes the image of a file system can. But even a
//! wrong digest would run no other code than that of the digest that the directory pins.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

use super::entry::PolicyEntry;
use crate::model::rules::HostRules;
use crate::policy::description::Introduction;

/// What is known of one policy directory.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::policy) struct Record {
    /// The version of the program that wrote it.
    program: String,
    /// By file name.
    plugins: BTreeMap<String, Plugin>,
    /// What plugins made of their settings, by [`PolicyEntry::key`](super::entry::PolicyEntry::key).
    policies: BTreeMap<String, Introduction>,
    checked: Option<Checked>,
    #[serde(skip)]
    is_changed: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plugin {
    stamp: Stamp,
    digest: String,
}

/// A directory that was read and found right, by this very program.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Checked {
    program: Stamp,
    texts: Texts,
    host: HostRules,
    policies: Vec<PolicyEntry>,
}

/// What a directory says, and what changes when a file is added to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Texts {
    pub(super) folder: Stamp,
    pub(super) config: String,
    pub(super) lock: Option<String>,
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

/// Longer texts, in bytes, are parsed in each run.
const MAX_TEXTS: usize = 1 << 20;
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

    /// That of this program. Another one may read the same text another way.
    fn of_program() -> Option<Self> {
        rustix::fs::stat("/proc/self/exe").ok().map(|stat| Self::of(&stat))
    }

    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(self.changed.0).is_ok_and(|changed| Duration::from_secs(changed) + SETTLED < now)
    }
}

impl Record {
    /// Reads a record. One that another version of the program wrote counts for nothing.
    pub(in crate::policy) fn read(text: &[u8]) -> Self {
        serde_json::from_slice(text)
            .ok()
            .filter(|record: &Self| record.program == env!("CARGO_PKG_VERSION"))
            .unwrap_or_default()
    }

    /// The text to save, where this run found something new.
    pub(in crate::policy) fn text_to_save(&self) -> Option<Vec<u8>> {
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

    /// The rules of the host and the policies, without their plugins, where the same texts were checked before.
    pub(super) fn checked(&self, texts: &Texts) -> Option<(HostRules, Vec<PolicyEntry>)> {
        let checked = self.checked.as_ref().filter(|checked| checked.texts == *texts)?;
        let is_same_program = Stamp::of_program().as_ref() == Some(&checked.program);
        is_same_program.then(|| (checked.host.clone(), checked.policies.clone()))
    }

    /// Notes what these texts say, which are right.
    pub(super) fn note_checked(&mut self, texts: Texts, host: &HostRules, policies: &[PolicyEntry]) {
        let is_text = |entry: &PolicyEntry| entry.plugin.to_str().is_some();
        let size = texts.config.len() + texts.lock.as_ref().map_or(0, String::len);
        if let Some(program) = Stamp::of_program()
            && size <= MAX_TEXTS
            && texts.folder.is_settled()
            && policies.iter().all(is_text)
        {
            self.checked = Some(Checked { program, texts, host: host.clone(), policies: policies.to_vec() });
            self.is_changed = true;
        }
    }

    pub(in crate::policy) fn introduction(&self, key: &str) -> Option<&Introduction> {
        self.policies.get(key)
    }

    /// Keeps what a plugin said, without its schema, which isn't needed to judge requests.
    pub(in crate::policy) fn note_introduction(&mut self, key: String, introduction: &Introduction) {
        let mut kept = introduction.clone();
        kept.description.settings_schema.clear();
        self.policies.insert(key, kept);
        self.is_changed = true;
    }

    /// Forgets all policies but these.
    pub(in crate::policy) fn keep_policies(&mut self, keys: &[String]) {
        self.policies.retain(|key, _| keys.contains(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(changed: i64) -> Stamp {
        Stamp { device: 1, inode: 2, size: 3, modified: (4, 5), changed: (changed, 0) }
    }

    #[test]
    fn a_digest_is_believed_while_nothing_about_the_file_changed() {
        let mut record = Record::default();
        record.note_digest("a.wasm", stamp(1000), "d");
        assert_eq!(record.digest("a.wasm", &stamp(1000)), Some("d"));
        assert_eq!(record.digest("a.wasm", &stamp(1001)), None);
        assert_eq!(record.digest("b.wasm", &stamp(1000)), None);
        let text = record.text_to_save().expect("something new");
        assert_eq!(Record::read(&text).digest("a.wasm", &stamp(1000)), Some("d"));
        assert!(Record::read(&text).text_to_save().is_none());
    }

    #[test]
    fn a_file_that_was_just_changed_is_not_believed() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        let mut record = Record::default();
        let fresh = stamp(i64::try_from(now).expect("before the year 292277026596"));
        record.note_digest("a.wasm", fresh.clone(), "d");
        assert_eq!(record.digest("a.wasm", &fresh), None);
    }

    #[test]
    fn what_another_version_wrote_is_forgotten() {
        assert!(Record::read(br#"{"program":"0.0.0","plugins":{},"policies":{}}"#).plugins.is_empty());
        assert!(Record::read(b"not JSON").policies.is_empty());
    }
}
