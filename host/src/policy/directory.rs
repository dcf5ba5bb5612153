//! The policy directory: `policies.toml`, the plugins that it lists, and their digests.
//!
//! Everything in it is untrusted until it's checked here: who could have written it, whether it says only what is
//! known, and whether each plugin is the one that was meant.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Dir, FileType, Mode as FileMode, OFlags, Stat, fstat, openat};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml::Spanned;

use super::cache::Cache;
use super::engine::Fault;
use super::limits::{Limits, MAX_MEMORY};
use super::seen::{Seen, Stamp, policy_key};
use super::trust::{folders_above, follow, is_trusted_owner};
use super::units::{parse_duration, parse_size};
use crate::invariants::HostRules;
use crate::plan::ScopeRule;
use crate::resolve::{Symlinks, lexical};
use crate::verdict::Field;

const CONFIG: &str = "policies.toml";
const LOCK: &str = "policies.lock";

/// What is wrong with a policy directory, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryError {
    /// The file or folder.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do now.
    pub remedy: String,
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for DirectoryError {}

/// Something beyond the contract that a plugin may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// A closed WASI 0.2.
    Wasi,
}

/// Whether a policy's verdict is followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is.
    #[default]
    Enforce,
    /// It's recorded and not followed. A failure denies all the same.
    Monitor,
}

/// A policy as the directory describes it, with its plugin's bytes.
#[derive(Debug, Clone)]
pub struct PolicyEntry {
    /// Its name.
    pub name: String,
    /// Its plugin's file.
    pub plugin: PathBuf,
    /// The plugin itself.
    pub(super) file: PluginFile,
    /// SHA-256 of the plugin in hexadecimal.
    pub digest: String,
    /// The fields that it may change.
    pub rewrites: Vec<Field>,
    /// What it may use beyond the contract.
    pub grants: Vec<Grant>,
    /// Whether it's followed.
    pub mode: Mode,
    /// What it may use up.
    pub limits: Limits,
    /// Its settings as a JSON object.
    pub settings: String,
    /// Where it stands in `policies.toml`.
    pub line: usize,
}

/// A plugin's file. It's read only where it isn't known already.
#[derive(Debug, Clone)]
pub(super) enum PluginFile {
    /// Its bytes.
    Read(Arc<[u8]>),
    /// The file, whose digest is known.
    Open(Arc<OwnedFd>),
}

impl PolicyEntry {
    /// The plugin's bytes.
    ///
    /// # Errors
    /// When they can't be read, or aren't those of the digest.
    pub(super) fn bytes(&self) -> Result<Arc<[u8]>, Fault> {
        let file = match &self.file {
            PluginFile::Read(bytes) => return Ok(bytes.clone()),
            PluginFile::Open(file) => file,
        };
        let mut bytes = Vec::new();
        let read = file.try_clone().and_then(|file| File::from(file).take(MAX_FILE).read_to_end(&mut bytes));
        read.map_err(|error| Fault::new(format!("its plugin can't be read: {error}"), "check the file system"))?;
        match digest_of(&bytes) == self.digest {
            true => Ok(bytes.into()),
            false => Err(Fault::new("its plugin changes while it's read".to_owned(), "try again when it's complete")),
        }
    }

    /// Whether its plugin may use WASI.
    pub(super) fn has_wasi(&self) -> bool {
        self.grants.contains(&Grant::Wasi)
    }

    /// What its plugin's answers about its settings depend on.
    pub(super) fn key(&self) -> String {
        policy_key(&self.digest, &self.grants, &self.limits, &self.settings)
    }
}

/// A checked policy directory.
#[derive(Debug, Clone)]
pub struct PolicyDirectory {
    /// Where it is.
    pub path: PathBuf,
    /// What the host itself holds to.
    pub host: HostRules,
    /// The chain in order.
    pub policies: Vec<PolicyEntry>,
    /// What is known of it.
    pub(super) seen: Seen,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDirectory {
    #[serde(default)]
    host: RawHost,
    #[serde(default)]
    policy: Vec<Spanned<RawPolicy>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHost {
    helpers: Vec<Spanned<String>>,
    options: Vec<Spanned<String>>,
    targets: Vec<Spanned<String>>,
    symlinks: Symlinks,
    scope: ScopeRule,
    timeout: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    name: Spanned<String>,
    plugin: Spanned<String>,
    sha256: Option<Spanned<String>>,
    #[serde(default)]
    rewrites: Vec<Field>,
    #[serde(default)]
    grants: Vec<Grant>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    settings: toml::Table,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    fuel: Option<u64>,
    memory: Option<Spanned<String>>,
    deadline: Option<Spanned<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockFile {
    plugins: BTreeMap<String, String>,
}

impl PolicyDirectory {
    /// Reads and checks a directory. Every plugin must be the one that its digest names.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn open(path: &Path, cache: &Cache) -> Result<Self, DirectoryError> {
        let reader = Reader::open(path)?;
        let pinned = reader.read_lock()?;
        let mut seen = cache.recall(&reader.path);
        let directory = reader.read(&mut seen)?;
        for (entry, written) in directory.entries.iter() {
            reader.check_digest(entry, written.as_ref(), pinned.as_ref())?;
        }
        if let Some(pinned) = &pinned {
            let listed = |name: &String| directory.entries.iter().any(|(e, _)| e.plugin == reader.path.join(name));
            if let Some(stale) = pinned.plugins.keys().find(|name| !listed(name)) {
                return Err(reader.error(
                    LOCK,
                    None,
                    format!("it names {stale}, which no policy uses"),
                    &format!("run `mountgate policy lock {}`", path.display()),
                ));
            }
        }
        Ok(Self {
            path: reader.path,
            host: directory.host,
            policies: directory.entries.into_iter().map(|(entry, _)| entry).collect(),
            seen,
        })
    }
}

/// Writes the digest of every listed plugin into `policies.lock`, and returns them by file name.
///
/// # Errors
/// What is wrong with the directory apart from its digests.
pub fn lock(path: &Path) -> Result<BTreeMap<String, String>, DirectoryError> {
    let reader = Reader::open(path)?;
    let entries = reader.read(&mut Seen::default())?.entries;
    let plugins: BTreeMap<String, String> = entries
        .into_iter()
        .filter_map(|(entry, _)| Some((entry.plugin.file_name()?.to_str()?.to_owned(), entry.digest)))
        .collect();
    let failed = |error: &dyn fmt::Display| {
        reader.error(LOCK, None, format!("it can't be written: {error}"), "make the directory writable for yourself")
    };
    let list = toml::to_string(&LockFile { plugins: plugins.clone() }).map_err(|error| failed(&error))?;
    let text = format!("# The plugins that were meant, by their SHA-256; written by `mountgate policy lock`.\n{list}");
    let temporary = path.join(format!(".{LOCK}.{}", std::process::id()));
    // Whatever the umask: a file that others can write would be refused.
    std::fs::write(&temporary, text)
        .and_then(|()| std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o644)))
        .and_then(|()| std::fs::rename(&temporary, path.join(LOCK)))
        .map_err(|error| failed(&error))?;
    Ok(plugins)
}

/// SHA-256 in hexadecimal.
pub fn digest_of(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let halves = |byte: u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    Sha256::digest(bytes).iter().flat_map(|byte| halves(*byte)).collect()
}

struct Entries {
    host: HostRules,
    /// With the digest that `policies.toml` gives, and where.
    entries: Vec<(PolicyEntry, Option<(String, usize)>)>,
}

/// A directory being read: opened once, so that what is checked is what is read.
struct Reader {
    path: PathBuf,
    folder: OwnedFd,
}

impl Reader {
    fn open(path: &Path) -> Result<Self, DirectoryError> {
        let error = |message: String, remedy: &str| DirectoryError {
            file: path.to_owned(),
            line: None,
            message,
            remedy: remedy.to_owned(),
        };
        let cannot = |reason: &dyn fmt::Display| {
            error(
                format!("the policy directory can't be opened: {reason}"),
                "name one with --policies DIR, or put one in /etc/mountgate",
            )
        };
        // Whoever can write a folder on the way can put another one in its place: those of the real path, and those
        // that links were found in.
        let (real, links) = follow(path).map_err(|e| cannot(&e))?;
        for above in links.iter().chain(&folders_above(&real)) {
            let stat = rustix::fs::stat(above)
                .map_err(|errno| error(format!("{} can't be examined: {errno}", above.display()), "check it"))?;
            let sticky = stat.st_mode & 0o1000 != 0;
            if !is_trusted_owner(stat.st_uid) || (stat.st_mode & 0o022 != 0 && !sticky) {
                return Err(error(
                    format!("others can write {}, and so put another policy directory in its place", above.display()),
                    &format!("chmod go-w {}", above.display()),
                ));
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&real, flags, FileMode::empty()).map_err(|errno| cannot(&errno))?;
        let reader = Self { path: path.to_owned(), folder };
        reader.check_owner(&reader.folder, "")?;
        Ok(reader)
    }

    fn read(&self, seen: &mut Seen) -> Result<Entries, DirectoryError> {
        let text = self.read_text(CONFIG)?;
        let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
        let raw: RawDirectory = toml::from_str(&text).map_err(|error| {
            self.error(
                CONFIG,
                error.span().map(|span| line_of(span.start)),
                error.message().to_owned(),
                "docs/policy-directory.md lists every key",
            )
        })?;
        let host = self.host_rules(raw.host, &line_of)?;
        let mut names = BTreeSet::new();
        let mut read: BTreeMap<String, (PluginFile, String)> = BTreeMap::new();
        let mut entries = Vec::new();
        for spanned in raw.policy {
            let policy = spanned.into_inner();
            let line = line_of(policy.name.span().start);
            let name = policy.name.into_inner();
            let at = |span: std::ops::Range<usize>| Some(line_of(span.start));
            if name.is_empty() || name.len() > 64 || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return Err(self.error(
                    CONFIG,
                    Some(line),
                    format!("{name:?} can't be the name of a policy"),
                    "use a short word such as \"protect-system\"",
                ));
            }
            if !names.insert(name.clone()) {
                return Err(self.error(
                    CONFIG,
                    Some(line),
                    format!("there are two policies named {name:?}"),
                    "give each a name of its own: traces and errors go by it",
                ));
            }
            let plugin_line = at(policy.plugin.span());
            let plugin = policy.plugin.into_inner();
            if plugin.contains('/') || !plugin.ends_with(".wasm") {
                return Err(self.error(
                    CONFIG,
                    plugin_line,
                    format!("plugin {plugin:?} isn't the name of a .wasm file in this directory"),
                    "put the plugin beside policies.toml and give its file name",
                ));
            }
            if !read.contains_key(&plugin) {
                read.insert(plugin.clone(), self.plugin(&plugin, plugin_line, seen)?);
            }
            let (file, digest) = read[&plugin].clone();
            let settings = serde_json::to_string(&policy.settings).map_err(|error| {
                self.error(CONFIG, Some(line), format!("the settings of {name}: {error}"), "use text, numbers, lists")
            })?;
            let limits = self.limits(policy.limits, &line_of)?;
            let written = policy.sha256.map(|sha| {
                let line = line_of(sha.span().start);
                (sha.into_inner(), line)
            });
            let entry = PolicyEntry {
                name,
                plugin: self.path.join(&plugin),
                file,
                digest,
                rewrites: policy.rewrites,
                grants: policy.grants,
                mode: policy.mode,
                limits,
                settings,
                line,
            };
            entries.push((entry, written));
        }
        if entries.is_empty() {
            return Err(self.error(
                CONFIG,
                None,
                "it lists no policy, and so would allow everything".to_owned(),
                "add a [[policy]]; policies/baseline has examples",
            ));
        }
        self.check_unlisted(&read.keys().cloned().collect())?;
        Ok(Entries { host, entries })
    }

    fn host_rules(&self, raw: RawHost, line_of: &dyn Fn(usize) -> usize) -> Result<HostRules, DirectoryError> {
        let word =
            |text: &str| !text.is_empty() && !text.contains(['=', ',', '/']) && !text.contains(char::is_whitespace);
        let plain = |text: &str| text.starts_with('/') && lexical(text) == *text && !text.contains("/../");
        let checked = |list: Vec<Spanned<String>>, is_sound: &dyn Fn(&str) -> bool, remedy: &str| {
            list.into_iter()
                .map(|text| match is_sound(text.get_ref()) {
                    true => Ok(text.into_inner()),
                    false => Err(self.error(
                        CONFIG,
                        Some(line_of(text.span().start)),
                        format!("{:?} would never match, or match everything", text.get_ref()),
                        remedy,
                    )),
                })
                .collect::<Result<Vec<String>, _>>()
        };
        let mut rules = HostRules {
            helpers: checked(raw.helpers, &word, "write a file system type, as \"nfs\"")?,
            options: checked(raw.options, &word, "write an option's name alone, as \"offset\"")?,
            targets: checked(raw.targets, &plain, "write a whole path without `..`, as \"/dev/shm\"")?,
            symlinks: raw.symlinks,
            scope: raw.scope,
            ..HostRules::default()
        };
        if let Some(timeout) = raw.timeout {
            rules.timeout = self.duration(&timeout, line_of)?;
        }
        Ok(rules)
    }

    fn limits(&self, raw: RawLimits, line_of: &dyn Fn(usize) -> usize) -> Result<Limits, DirectoryError> {
        let mut limits = Limits::default();
        if let Some(fuel) = raw.fuel {
            limits.fuel = fuel;
        }
        if let Some(memory) = raw.memory {
            limits.memory = parse_size(memory.get_ref()).filter(|size| *size <= MAX_MEMORY).ok_or_else(|| {
                self.error(
                    CONFIG,
                    Some(line_of(memory.span().start)),
                    format!("{:?} isn't an amount of memory up to 1GiB", memory.get_ref()),
                    "write it as \"16MiB\"",
                )
            })?;
        }
        if let Some(deadline) = raw.deadline {
            limits.deadline = self.duration(&deadline, line_of)?;
        }
        Ok(limits)
    }

    fn duration(&self, text: &Spanned<String>, line_of: &dyn Fn(usize) -> usize) -> Result<Duration, DirectoryError> {
        parse_duration(text.get_ref()).ok_or_else(|| {
            self.error(
                CONFIG,
                Some(line_of(text.span().start)),
                format!("{:?} isn't a time", text.get_ref()),
                "write it as \"100ms\", \"30s\" or \"2m\"",
            )
        })
    }

    fn read_lock(&self) -> Result<Option<LockFile>, DirectoryError> {
        if rustix::fs::statat(&self.folder, LOCK, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_err() {
            return Ok(None);
        }
        let text = self.read_text(LOCK)?;
        toml::from_str(&text).map(Some).map_err(|error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let remedy = format!("run `mountgate policy lock {}`", self.path.display());
            self.error(LOCK, line, error.message().to_owned(), &remedy)
        })
    }

    fn check_digest(
        &self,
        entry: &PolicyEntry,
        written: Option<&(String, usize)>,
        pinned: Option<&LockFile>,
    ) -> Result<(), DirectoryError> {
        let name = entry.plugin.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let locked = pinned.and_then(|lock| lock.plugins.get(name));
        let remedy = format!(
            "if this is the plugin that is meant, run `mountgate policy lock {}` or correct its sha256",
            self.path.display()
        );
        let differs = |file: &str, line: Option<usize>, expected: &str| {
            let message = format!("{name} has the digest {} where {expected:?} is expected", entry.digest);
            Err(self.error(file, line, message, &remedy))
        };
        match (written, locked) {
            (Some((expected, line)), _) if *expected != entry.digest => differs(CONFIG, Some(*line), expected),
            (_, Some(expected)) if *expected != entry.digest => differs(LOCK, None, expected),
            (None, None) => Err(self.error(
                CONFIG,
                Some(entry.line),
                format!("no digest says which {name} is meant"),
                &format!("run `mountgate policy lock {}`, or add sha256 = \"{}\"", self.path.display(), entry.digest),
            )),
            _ => Ok(()),
        }
    }

    fn check_unlisted(&self, listed: &BTreeSet<String>) -> Result<(), DirectoryError> {
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

    /// A plugin's file and its digest.
    fn plugin(&self, name: &str, line: Option<usize>, seen: &mut Seen) -> Result<(PluginFile, String), DirectoryError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(&self.folder, name, flags, FileMode::empty()).map_err(|errno| {
            self.error(
                CONFIG,
                line,
                format!("its plugin {name} can't be opened: {errno}"),
                "put the plugin beside policies.toml as a plain file; links aren't followed",
            )
        })?;
        let stamp = Stamp::of(&self.check_owner(&file, name)?);
        if let Some(digest) = seen.digest(name, &stamp) {
            return Ok((PluginFile::Open(Arc::new(file)), digest.to_owned()));
        }
        let bytes = self.read_file(file, name)?;
        let digest = digest_of(&bytes);
        seen.note_digest(name, stamp, &digest);
        Ok((PluginFile::Read(bytes.into()), digest))
    }

    fn read_text(&self, name: &str) -> Result<String, DirectoryError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(&self.folder, name, flags, FileMode::empty()).map_err(|errno| {
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

    /// Checks whose it is and who can write it.
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
                &format!("chown root {}", path.display()),
            ));
        }
        if stat.st_mode & 0o022 != 0 {
            return Err(self.error(
                name,
                None,
                format!("others can write it (mode {:04o})", stat.st_mode & 0o7777),
                &format!("chmod go-w {}", path.display()),
            ));
        }
        Ok(stat)
    }

    fn error(&self, name: &str, line: Option<usize>, message: String, remedy: &str) -> DirectoryError {
        let file = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        DirectoryError { file, line, message, remedy: remedy.to_owned() }
    }
}

/// The largest file that is read.
const MAX_FILE: u64 = 256 << 20;
