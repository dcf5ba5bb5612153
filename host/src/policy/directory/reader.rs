//! Reads the files of a policy directory, after it checked who could have written them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::digest::digest_of;
use super::entry::{MAX_FILE, PluginFile, PolicyEntry};
use super::error::DirectoryError;
use super::record::{Record, Stamp, Texts};
use super::trust::{Untrusted, is_trusted_owner, trusted_place};
use crate::model::hint::Hint;

/// The file that names the chain.
pub(super) const CONFIG: &str = "policies.toml";
/// The file that says what the whole directory was when it was meant.
pub(super) const LOCK: &str = "policies.lock";

/// A directory being read: opened once, so that what is checked is what is read.
pub(super) struct Reader {
    pub(super) path: PathBuf,
    pub(super) folder: OwnedFd,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, DirectoryError> {
        let error = |message: String, hint: Hint| DirectoryError { file: path.to_owned(), line: None, message, hint };
        let cannot = |reason: &dyn fmt::Display| {
            error(
                format!("the policy directory can't be opened: {reason}"),
                "name one with --policies DIR, or put one in /etc/mountgate".into(),
            )
        };
        let real = trusted_place(path).map_err(|problem| match problem {
            Untrusted::Missing(reason) => cannot(&reason),
            Untrusted::Others { message, hint } => error(message, hint),
        })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&real, flags, Mode::empty()).map_err(|errno| cannot(&errno))?;
        let reader = Self { path: path.to_owned(), folder };
        reader.check_owner(&reader.folder, "")?;
        Ok(reader)
    }

    /// Refuses plugins in the directory that no policy uses.
    pub(super) fn check_unlisted(&self, listed: &BTreeSet<String>) -> Result<(), DirectoryError> {
        let entries = Dir::read_from(&self.folder)
            .and_then(|dir| dir.collect::<Result<Vec<_>, _>>())
            .map_err(|errno| self.error("", None, format!("it can't be listed: {errno}"), "check the directory"))?;
        for entry in entries {
            let name = entry.file_name().to_string_lossy();
            if name.ends_with(".wasm") && !listed.contains(&*name) {
                return Err(self.error(
                    CONFIG,
                    None,
                    format!("{name} is in the directory and no policy uses it"),
                    "add a [[policy]] for it, or take the file away",
                ));
            }
        }
        Ok(())
    }

    /// Opens a plugin and finds its digest.
    pub(super) fn plugin(
        &self,
        name: &str,
        line: Option<usize>,
        record: &mut Record,
    ) -> Result<(PluginFile, String), DirectoryError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(&self.folder, name, flags, Mode::empty()).map_err(|errno| {
            self.error(
                CONFIG,
                line,
                format!("its plugin {name} can't be opened: {errno}"),
                "put the plugin beside policies.toml as a plain file; links aren't followed",
            )
        })?;
        let stamp = Stamp::of(&self.check_owner(&file, name)?);
        if let Some(digest) = record.digest(name, &stamp) {
            return Ok((PluginFile::Open(Arc::new(file.into())), digest.to_owned()));
        }
        let bytes = self.read_file(file, name)?;
        let digest = digest_of(&bytes);
        record.note_digest(name, stamp, &digest);
        Ok((PluginFile::Read(bytes.into()), digest))
    }

    /// What the directory says.
    pub(super) fn texts(&self) -> Result<Texts, DirectoryError> {
        // Looked at before the files are read: a file that is added meanwhile changes it.
        let folder = Stamp::of(&self.check_owner(&self.folder, "")?);
        let lock = self.has(LOCK).then(|| self.read_text(LOCK)).transpose()?;
        Ok(Texts { folder, config: self.read_text(CONFIG)?, lock })
    }

    /// Opens the plugins of policies that were read before. Nothing if one isn't what it was.
    pub(super) fn reopen(&self, mut policies: Vec<PolicyEntry>, record: &mut Record) -> Option<Vec<PolicyEntry>> {
        let mut opened: BTreeMap<PathBuf, (PluginFile, String)> = BTreeMap::new();
        for entry in &mut policies {
            if !opened.contains_key(&entry.plugin) {
                let found = self.plugin(entry.plugin.file_name()?.to_str()?, None, record).ok()?;
                opened.insert(entry.plugin.clone(), found);
            }
            let (file, digest) = &opened[&entry.plugin];
            if *digest != entry.digest {
                return None;
            }
            entry.file = file.clone();
        }
        Some(policies)
    }

    /// Whether there is a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        // Whatever else is in the way hides one.
        !matches!(statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
    }

    pub(super) fn read_text(&self, name: &str) -> Result<String, DirectoryError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(&self.folder, name, flags, Mode::empty()).map_err(|errno| {
            self.error(
                name,
                None,
                format!("it can't be opened: {errno}"),
                "docs/policy-directory.md says what belongs in it; links aren't followed",
            )
        })?;
        String::from_utf8(self.read_file(file, name)?)
            .map_err(|_| self.error(name, None, "it isn't UTF-8".to_owned(), "save it as UTF-8"))
    }

    fn read_file(&self, file: OwnedFd, name: &str) -> Result<Vec<u8>, DirectoryError> {
        let size = u64::try_from(self.check_owner(&file, name)?.st_size).unwrap_or(0);
        // One byte more, so that the end is seen without growing.
        let mut bytes = Vec::with_capacity(usize::try_from(size.min(MAX_FILE)).unwrap_or(0) + 1);
        File::from(file)
            .take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.error(name, None, format!("it can't be read: {error}"), "check the file system"))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(self.error(name, None, "it's larger than 256 MiB".to_owned(), "make it smaller"));
        }
        Ok(bytes)
    }

    /// Checks who owns a file and who can write it.
    fn check_owner(&self, file: &OwnedFd, name: &str) -> Result<Stat, DirectoryError> {
        let stat = fstat(file.as_fd()).map_err(|errno| {
            self.error(name, None, format!("it can't be examined: {errno}"), "check the file system")
        })?;
        let path = self.path.join(name);
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return Err(self.error(name, None, "it isn't a plain file".to_owned(), "put a plain file there"));
        }
        if !is_trusted_owner(stat.st_uid) {
            return Err(self.error(
                name,
                None,
                format!("it belongs to user {}, neither root nor the caller", stat.st_uid),
                format!("chown root {}", path.display()),
            ));
        }
        if stat.st_mode & 0o022 != 0 {
            return Err(self.error(
                name,
                None,
                format!("others can write it (mode {:04o})", stat.st_mode & 0o7777),
                format!("chmod go-w {}", path.display()),
            ));
        }
        Ok(stat)
    }

    pub(super) fn error(
        &self,
        name: &str,
        line: Option<usize>,
        message: String,
        hint: impl Into<Hint>,
    ) -> DirectoryError {
        let file = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        DirectoryError { file, line, message, hint: hint.into() }
    }
}
