//! A policy directory that was read and checked.

use std::path::{Path, PathBuf};

use super::entry::PolicyEntry;
use super::error::DirectoryError;
use super::lockfile::{LockFile, check_digest};
use super::reader::Reader;
use super::record::Record;
use super::schema;
use super::signature::{self, TRUSTED_KEYS};
use crate::model::rules::HostRules;
use crate::policy::cache::Cache;

/// A checked policy directory.
#[derive(Debug, Clone)]
pub struct PolicyDirectory {
    /// Its path.
    pub path: PathBuf,
    /// What the host itself holds to.
    pub host: HostRules,
    /// The chain in order.
    pub policies: Vec<PolicyEntry>,
    /// Whose key has signed it, where keys are trusted.
    pub signer: Option<String>,
    /// The folder of the trusted keys.
    pub keys: PathBuf,
    /// What this run and earlier ones found out about it.
    pub(in crate::policy) record: Record,
}

impl PolicyDirectory {
    /// Reads and checks a directory. Every plugin must be the one that its digest names, and where keys are trusted on this machine,
    /// one of them must have signed the directory.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn open(path: &Path, cache: &Cache) -> Result<Self, DirectoryError> {
        Self::open_signed(path, cache, Path::new(TRUSTED_KEYS))
    }

    /// As [`Self::open`], with the trusted keys of this folder.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn open_signed(path: &Path, cache: &Cache, keys: &Path) -> Result<Self, DirectoryError> {
        let reader = Reader::open(path)?;
        let (path, keys) = (reader.path.clone(), keys.to_owned());
        let texts = reader.texts()?;
        let signer = signature::check(&reader, texts.lock.as_deref(), &keys)?;
        let mut record = cache.record(&path);
        if let Some((host, policies)) = record.checked(&texts)
            && let Some(policies) = reader.reopen(policies, &mut record)
        {
            return Ok(Self { path, host, policies, signer, keys, record });
        }
        let lock = texts.lock.as_deref().map(|text| LockFile::parse(&reader, text)).transpose()?;
        let content = schema::read(&reader, &texts.config, &mut record)?;
        for (entry, written) in &content.policies {
            check_digest(&reader, entry, written.as_ref(), lock.as_ref())?;
        }
        let policies: Vec<PolicyEntry> = content.policies.into_iter().map(|(entry, _)| entry).collect();
        if let Some(lock) = &lock {
            lock.check(&reader, &content.config, &policies)?;
        }
        record.note_checked(texts, &content.rules, &policies);
        Ok(Self { path, host: content.rules, policies, signer, keys, record })
    }
}
