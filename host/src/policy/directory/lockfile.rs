//! `policies.lock`, which says by their digests which plugins are meant.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use super::entry::PolicyEntry;
use super::error::DirectoryError;
use super::reader::{CONFIG, Reader};
use super::record::Record;
use super::schema::{self, WrittenDigest};
use crate::policy::whole_file::replace;

const LOCK: &str = "policies.lock";

/// The plugins by file name, each with its digest.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockFile {
    plugins: BTreeMap<String, String>,
}

impl LockFile {
    /// Reads the lock file of a directory, where there is one.
    pub(super) fn read(reader: &Reader) -> Result<Option<Self>, DirectoryError> {
        if !reader.has(LOCK) {
            return Ok(None);
        }
        let text = reader.read_text(LOCK)?;
        toml::from_str(&text).map(Some).map_err(|error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            reader.error(LOCK, line, error.message().to_owned(), lock_advice(&reader.path))
        })
    }

    /// Refuses a lock file that names plugins which no policy uses.
    pub(super) fn check_stale(&self, reader: &Reader, policies: &[PolicyEntry]) -> Result<(), DirectoryError> {
        let is_used = |name: &String| policies.iter().any(|entry| entry.plugin == reader.path.join(name));
        match self.plugins.keys().find(|name| !is_used(name)) {
            None => Ok(()),
            Some(stale) => {
                let message = format!("it names {stale}, which no policy uses");
                Err(reader.error(LOCK, None, message, lock_advice(&reader.path)))
            }
        }
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

/// Writes the digest of every listed plugin into `policies.lock`, and returns them by file name.
///
/// # Errors
/// What is wrong with the directory apart from its digests.
pub fn lock(path: &Path) -> Result<BTreeMap<String, String>, DirectoryError> {
    let reader = Reader::open(path)?;
    let policies = schema::read(&reader, &mut Record::default())?.policies;
    let plugins: BTreeMap<String, String> = policies
        .into_iter()
        .filter_map(|(entry, _)| Some((entry.plugin.file_name()?.to_str()?.to_owned(), entry.digest)))
        .collect();
    let failed = |error: &dyn fmt::Display| {
        reader.error(LOCK, None, format!("it can't be written: {error}"), "make the directory writable for yourself")
    };
    let list = toml::to_string(&LockFile { plugins: plugins.clone() }).map_err(|error| failed(&error))?;
    let text = format!("# The plugins that were meant, by their SHA-256; written by `mountgate policy lock`.\n{list}");
    // A file that others can write would be refused.
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    replace(&reader.folder, LOCK, mode, text.as_bytes()).map_err(|error| failed(&error))?;
    Ok(plugins)
}
