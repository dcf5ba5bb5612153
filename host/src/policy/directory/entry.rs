//! A policy as the policy directory describes it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::digest::digest_of;
use super::error::DirectoryError;
use crate::model::edit::Field;
use crate::policy::callers::Callers;
use crate::policy::fault::Fault;
use crate::policy::grant::Grant;
use crate::policy::limits::Limits;
use crate::policy::mode::Mode;

/// The largest plugin or configuration that is read, in bytes.
pub(super) const MAX_FILE: u64 = 256 << 20;

/// A policy as the policy directory describes it, with its plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PolicyEntry {
    /// Its name.
    pub name: String,
    /// The path of its plugin.
    pub plugin: PathBuf,
    /// The plugin itself.
    #[serde(skip)]
    pub(in crate::policy) file: PluginFile,
    /// SHA-256 of the plugin in hexadecimal.
    pub digest: String,
    /// The fields that it may change.
    pub rewrites: Vec<Field>,
    /// What it may use beyond the contract.
    pub grants: Vec<Grant>,
    /// Whom it's for; for everybody, where it doesn't say.
    pub callers: Option<Callers>,
    /// Whether its verdict is followed.
    pub mode: Mode,
    /// What it may use up.
    pub limits: Limits,
    /// The codes of findings that `mountgate fuzz` leaves out, and why.
    pub fuzz_without: BTreeMap<String, String>,
    /// Its settings as a JSON object.
    pub settings: String,
    /// Its line in `policies.toml`, from 1.
    pub line: usize,
}

/// A plugin's file. A file whose digest is known already isn't read until its code is needed.
#[derive(Debug, Clone, Default)]
pub(in crate::policy) enum PluginFile {
    /// It isn't opened yet.
    #[default]
    Closed,
    /// Its bytes.
    Read(Arc<[u8]>),
    /// The open file.
    Open(Arc<File>),
}

impl PolicyEntry {
    /// The plugin's bytes.
    ///
    /// # Errors
    /// When they can't be read, or don't have the digest.
    pub(in crate::policy) fn bytes(&self) -> Result<Arc<[u8]>, Fault> {
        let read = match &self.file {
            PluginFile::Read(bytes) => return Ok(bytes.clone()),
            PluginFile::Open(file) => read_whole(file),
            PluginFile::Closed => Err(std::io::ErrorKind::NotFound.into()),
        };
        let bytes =
            read.map_err(|error| Fault::new(format!("its plugin can't be read: {error}"), "check the file system"))?;
        match digest_of(&bytes) == self.digest {
            true => Ok(bytes.into()),
            false => Err(Fault::new("its plugin changes while it's read".to_owned(), "try again when it's complete")),
        }
    }

    /// Whether it's for a control group.
    pub(crate) fn is_for_a_cgroup(&self) -> bool {
        self.callers.as_ref().is_some_and(|callers| callers.cgroup.is_some())
    }

    /// Whether its plugin may use WASI.
    pub(in crate::policy) fn has_wasi(&self) -> bool {
        self.grants.contains(&Grant::Wasi)
    }

    /// What its plugin's answers about its settings depend on.
    pub(in crate::policy) fn key(&self) -> String {
        let (digest, grants, settings) = (&self.digest, &self.grants, &self.settings);
        let Limits { fuel, memory, deadline } = self.limits;
        format!("{digest} {grants:?} {fuel} {memory} {deadline:?} {settings}")
    }

    /// Its plugin as it is.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub(crate) fn read_plugin(&self) -> Result<Arc<[u8]>, DirectoryError> {
        self.bytes().map_err(|fault| self.error(fault))
    }

    /// A fault of this policy as an error of its directory.
    pub(in crate::policy) fn error(&self, fault: Fault) -> DirectoryError {
        let plugin = self.plugin.file_name().unwrap_or_default().to_string_lossy();
        DirectoryError {
            file: self.plugin.with_file_name("policies.toml"),
            line: Some(self.line),
            message: format!("policy {:?} ({plugin}): {}", self.name, fault.message),
            hint: fault.hint,
        }
    }
}

/// Reads a file from its start. Two policies with one plugin share the open file, so its offset isn't used.
fn read_whole(file: &File) -> std::io::Result<Vec<u8>> {
    let size = file.metadata()?.len().min(MAX_FILE);
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
