//! `policies.lock`, which says what the whole policy directory was when it was meant: the digest of `policies.toml`, and of every
//! plugin. So a setting, a limit or a grant that was changed since is refused as a changed plugin is.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use super::digest::digest_of;
use super::entry::PolicyEntry;
use super::error::DirectoryError;
use super::reader::{CONFIG, LOCK, Reader};
use super::record::Record;
use super::schema::{self, WrittenDigest};
use crate::host::whole_file::replace;
use crate::model::edit::Field;
use crate::policy::callers::Callers;
use crate::policy::grant::Grant;
use crate::policy::mode::Mode as PolicyMode;
use crate::policy::outline::Outline;

/// The version of its form.
const VERSION: u32 = 2;

/// What a policy directory was when it was locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockFile {
    version: u32,
    /// The digest of `policies.toml`.
    config: String,
    /// The plugins by file name, each with its digest.
    plugins: BTreeMap<String, String>,
    /// The policies by name, to tell what was changed.
    #[serde(default)]
    policies: BTreeMap<String, LockedPolicy>,
}

/// A policy as it was locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedPolicy {
    plugin: String,
    /// The version of the contract that its plugin was built for.
    contract: String,
    rewrites: Vec<Field>,
    grants: Vec<Grant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    callers: Option<Callers>,
    mode: PolicyMode,
    fuel: u64,
    memory: usize,
    deadline: String,
    /// The digest of its settings.
    settings: String,
}

impl LockFile {
    /// What the text of the lock file of a directory says.
    pub(super) fn parse(reader: &Reader, text: &str) -> Result<Self, DirectoryError> {
        let failed = |error: &toml::de::Error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            reader.error(LOCK, line, error.message().to_owned(), lock_advice(&reader.path))
        };
        let read: Result<Self, _> = toml::from_str(text);
        let version = match &read {
            Ok(lock) => lock.version.into(),
            // Another version may have another form.
            Err(_) => {
                let table: toml::Table = toml::from_str(text).map_err(|error| failed(&error))?;
                table.get("version").and_then(toml::Value::as_integer).unwrap_or(1)
            }
        };
        if version != i64::from(VERSION) {
            let message = format!("it has version {version}, and this mountgate reads version {VERSION}");
            return Err(reader.error(LOCK, None, message, lock_advice(&reader.path)));
        }
        read.map_err(|error| failed(&error))
    }

    /// What a directory is now.
    fn of(config: &str, policies: &[PolicyEntry]) -> Result<Self, DirectoryError> {
        let file_name =
            |entry: &PolicyEntry| entry.plugin.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut locked = BTreeMap::new();
        for entry in policies {
            let outline = Outline::read(&entry.bytes().map_err(|fault| entry.error(fault))?);
            locked.insert(
                entry.name.clone(),
                LockedPolicy {
                    plugin: file_name(entry),
                    contract: outline.as_ref().and_then(Outline::contract).unwrap_or("unknown").to_owned(),
                    rewrites: entry.rewrites.clone(),
                    grants: entry.grants.clone(),
                    callers: entry.callers.clone(),
                    mode: entry.mode,
                    fuel: entry.limits.fuel,
                    memory: entry.limits.memory,
                    deadline: format!("{:?}", entry.limits.deadline),
                    settings: digest_of(entry.settings.as_bytes()),
                },
            );
        }
        let plugins = policies.iter().map(|entry| (file_name(entry), entry.digest.clone())).collect();
        Ok(Self { version: VERSION, config: config.to_owned(), plugins, policies: locked })
    }

    /// Refuses a directory whose configuration isn't the one that was locked, or whose lock names plugins that no policy uses.
    pub(super) fn check(&self, reader: &Reader, config: &str, policies: &[PolicyEntry]) -> Result<(), DirectoryError> {
        if self.config != config {
            let changes = Self::of(config, policies)?.changes_since(self);
            let message = format!("it isn't what was locked: {}", changes.join("; "));
            let hint = format!("if that is meant, {}", lock_advice(&reader.path));
            return Err(reader.error(CONFIG, None, message, hint));
        }
        let is_used = |name: &String| policies.iter().any(|entry| entry.plugin == reader.path.join(name));
        match self.plugins.keys().find(|name| !is_used(name)) {
            None => Ok(()),
            Some(stale) => {
                let message = format!("it names {stale}, which no policy uses");
                Err(reader.error(LOCK, None, message, lock_advice(&reader.path)))
            }
        }
    }

    /// What differs from an earlier lock, for people.
    fn changes_since(&self, old: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for (name, policy) in &self.policies {
            let Some(before) = old.policies.get(name) else {
                let grants =
                    if policy.grants.is_empty() { String::new() } else { format!(", with {:?}", policy.grants) };
                changes.push(format!("new policy {name} ({}{grants})", policy.plugin));
                continue;
            };
            changes.extend(policy.changes_since(before).into_iter().map(|change| format!("{name}: {change}")));
        }
        let gone = old.policies.keys().filter(|name| !self.policies.contains_key(*name));
        changes.extend(gone.map(|name| format!("{name} is gone")));
        for (name, digest) in &self.plugins {
            if let Some(before) = old.plugins.get(name).filter(|before| *before != digest) {
                changes.push(format!("{name}: {before} is now {digest}"));
            }
        }
        if changes.is_empty() && self.config != old.config {
            changes.push("policies.toml: [host], the order of the policies, or a comment".to_owned());
        }
        changes
    }
}

impl LockedPolicy {
    fn changes_since(&self, old: &Self) -> Vec<String> {
        let changed = |what: &str, before: &dyn fmt::Debug, now: &dyn fmt::Debug| {
            let (before, now) = (format!("{before:?}"), format!("{now:?}"));
            (before != now).then(|| format!("{what} {before} is now {now}"))
        };
        let settings = (self.settings != old.settings).then(|| "its settings".to_owned());
        let list = [
            changed("plugin", &old.plugin, &self.plugin),
            changed("contract", &old.contract, &self.contract),
            changed("grants", &old.grants, &self.grants),
            changed("rewrites", &old.rewrites, &self.rewrites),
            changed("for", &old.callers, &self.callers),
            changed("mode", &old.mode, &self.mode),
            changed("fuel", &old.fuel, &self.fuel),
            changed("memory", &old.memory, &self.memory),
            changed("deadline", &old.deadline, &self.deadline),
            settings,
        ];
        list.into_iter().flatten().collect()
    }
}

/// Refuses a policy whose plugin isn't the one that `policies.toml` or the lock file names.
pub(super) fn check_digest(
    reader: &Reader,
    entry: &PolicyEntry,
    written: Option<&WrittenDigest>,
    lock: Option<&LockFile>,
) -> Result<(), DirectoryError> {
    let name = entry.plugin.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let locked = lock.and_then(|lock| lock.plugins.get(name));
    let differs = |file: &str, line: Option<usize>, expected: &str| {
        let message = format!("{name} has the digest {} where {expected:?} is expected", entry.digest);
        let hint = format!("if this is the right plugin, {} or correct its sha256", lock_advice(&reader.path));
        Err(reader.error(file, line, message, hint))
    };
    match (written, locked) {
        (Some(written), _) if written.text != entry.digest => differs(CONFIG, Some(written.line), &written.text),
        (_, Some(expected)) if *expected != entry.digest => differs(LOCK, None, expected),
        (None, None) => {
            let message = format!("{name} has no digest, neither in policies.lock nor in policies.toml");
            let hint = format!("{}, or add sha256 = \"{}\"", lock_advice(&reader.path), entry.digest);
            Err(reader.error(CONFIG, Some(entry.line), message, hint))
        }
        _ => Ok(()),
    }
}

fn lock_advice(directory: &Path) -> String {
    format!("run `mountgate policy lock {}`", directory.display())
}

/// A directory that is going to be locked.
pub struct Locking {
    reader: Reader,
    lock: LockFile,
    /// What has changed since it was locked before; none where it wasn't.
    pub changes: Option<Vec<String>>,
}

impl Locking {
    /// Looks at a directory.
    ///
    /// # Errors
    /// What is wrong with it apart from its digests.
    pub fn of(path: &Path) -> Result<Self, DirectoryError> {
        let reader = Reader::open(path)?;
        let content = schema::read(&reader, &reader.read_text(CONFIG)?, &mut Record::default())?;
        let policies: Vec<PolicyEntry> = content.policies.into_iter().map(|(entry, _)| entry).collect();
        let lock = LockFile::of(&content.config, &policies)?;
        // An old one that can't be read any more is written anew.
        let old = reader.read_text(LOCK).ok().and_then(|text| LockFile::parse(&reader, &text).ok());
        let changes = old.map(|old| lock.changes_since(&old));
        Ok(Self { reader, lock, changes })
    }

    /// The plugins by file name, each with its digest.
    pub fn plugins(&self) -> &BTreeMap<String, String> {
        &self.lock.plugins
    }

    /// Writes `policies.lock`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self) -> Result<(), DirectoryError> {
        let failed = |error: &dyn fmt::Display| {
            let message = format!("it can't be written: {error}");
            self.reader.error(LOCK, None, message, "make the directory writable for yourself")
        };
        let list = toml::to_string(&self.lock).map_err(|error| failed(&error))?;
        let text = format!("# What was meant, by SHA-256; written by `mountgate policy lock`.\n{list}");
        // A file that others can write would be refused.
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        replace(&self.reader.folder, LOCK, mode, text.as_bytes()).map_err(|error| failed(&error))
    }
}
