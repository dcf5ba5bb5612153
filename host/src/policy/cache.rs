//! Compiled plugins, kept so that only the first run pays for compiling them.
//!
//! Compiled code is trusted code. It is loaded from a directory that only this user can enter, never from a policy
//! directory. Its name is the plugin's digest and this version; wasmtime compares what it was compiled for (target,
//! features, settings) when it's loaded.

use std::fs::{DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{FileType, Mode, OFlags, openat};
use wasmtime::component::Component;

use super::directory::record::Record;
use crate::host::foreign::foreign;
use crate::host::owner::{check_private, may_make};
use crate::host::whole_file::{replace, replace_for_now};
use crate::sys;

/// Where compiled plugins are kept, if anywhere.
#[derive(Debug)]
pub struct Cache {
    folder: Option<OwnedFd>,
    path: Option<PathBuf>,
    /// Whether records of earlier runs aren't believed.
    looks_again: bool,
    /// Why something couldn't be kept.
    unkept: OnceLock<String>,
}

impl Cache {
    /// A cache that keeps nothing.
    pub fn none() -> Self {
        Self { folder: None, path: None, looks_again: true, unkept: OnceLock::new() }
    }

    /// The cache in a folder, which is made where it's missing. Without a usable one nothing is kept, and the log
    /// says why.
    pub fn open(path: &Path) -> Self {
        let folder = open_private(path)
            .inspect_err(|error| tracing::warn!("compiled plugins aren't kept in {}: {error}", path.display()));
        Self { folder: folder.ok(), path: Some(path.to_owned()), looks_again: false, unkept: OnceLock::new() }
    }

    /// A cache whose records aren't believed: every plugin is hashed and asked again.
    #[must_use]
    pub fn looking_again(self) -> Self {
        Self { looks_again: true, ..self }
    }

    /// A descriptor of its folder, if plugins are kept there.
    pub fn private_folder(&self) -> Option<OwnedFd> {
        self.folder.as_ref()?.try_clone().ok()
    }

    /// Its folder.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Its folder, if plugins are kept there.
    pub(crate) fn usable(&self) -> Option<&Path> {
        self.path().filter(|_| self.folder.is_some())
    }

    /// What earlier runs found out about a policy directory.
    pub(super) fn record(&self, directory: &Path) -> Record {
        let read = || -> Option<Vec<u8>> {
            let mut text = Vec::new();
            File::from(self.open_file(&record_name(directory))?).read_to_end(&mut text).ok()?;
            Some(text)
        };
        if self.looks_again { Record::default() } else { read().map(|text| Record::read(&text)).unwrap_or_default() }
    }

    /// Keeps what this run found out about a policy directory.
    pub(super) fn save_record(&self, directory: &Path, record: &Record) {
        if let Some(folder) = &self.folder
            && may_make().is_ok()
            && let Some(text) = record.text_to_save()
            && let Err(error) = replace_for_now(folder, &record_name(directory), Mode::RUSR | Mode::WUSR, &text)
        {
            tracing::warn!("what was found out about {} couldn't be kept: {error:#}", directory.display());
        }
    }

    /// The cache that belongs to no user but root.
    pub fn system_path() -> PathBuf {
        PathBuf::from("/var/cache/mountgate")
    }

    /// `/var/cache/mountgate` for root, the user's own cache folder for everybody else.
    pub fn default_path() -> PathBuf {
        let var = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        if rustix::process::geteuid().is_root() {
            return Self::system_path();
        }
        var("XDG_CACHE_HOME")
            .or_else(|| var("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(|| std::env::temp_dir().join(format!("uid-{}", rustix::process::geteuid().as_raw())))
            .join("mountgate")
    }

    /// The compiled form of a plugin, where it's kept.
    pub(super) fn load(&self, engine: &wasmtime::Engine, key: &str) -> Option<Component> {
        let name = compiled_name(key);
        let file = self.open_file(&name)?;
        // The path of the descriptor: the very file that was checked.
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let loaded = sys::deserialize_file(engine, &path).or_else(|error| match path.exists() {
            true => Err(error),
            // A container without a `/proc`.
            false => {
                let mut code = Vec::new();
                File::from(file).read_to_end(&mut code)?;
                sys::deserialize(engine, &code)
            }
        });
        loaded.inspect_err(|error| tracing::debug!("the compiled plugin {name} isn't used: {error:#}")).ok()
    }

    /// Keeps the compiled form of a plugin.
    pub(super) fn keep(&self, key: &str, code: &[u8]) {
        if let Some(folder) = &self.folder
            && let Err(error) = replace(folder, &compiled_name(key), Mode::RUSR | Mode::WUSR, code)
        {
            tracing::warn!("a compiled plugin couldn't be kept: {error:#}");
            // The first one is enough to be told.
            let _ = self.unkept.set(format!("a compiled plugin couldn't be kept: {error:#}"));
        }
    }

    /// Why something couldn't be kept, if so.
    pub(crate) fn unkept(&self) -> Option<String> {
        self.unkept.get().cloned()
    }

    /// A file of the folder, if it is there and belongs to this user alone.
    fn open_file(&self, name: &str) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(self.folder.as_ref()?, name, flags, Mode::empty()).ok()?;
        check_private(&file, FileType::RegularFile)
            .inspect_err(|error| tracing::warn!("{name} in the cache isn't used: {error}"))
            .ok()?;
        Some(file)
    }
}

fn compiled_name(key: &str) -> String {
    format!("{key}-{}.cwasm", env!("CARGO_PKG_VERSION"))
}

fn record_name(directory: &Path) -> String {
    // A name that is short enough whatever the path; two directories with the same one would only forget each other.
    let mut hasher = DefaultHasher::new();
    directory.hash(&mut hasher);
    format!("record-{:016x}.json", hasher.finish())
}

fn open_private(path: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::open(path, flags, Mode::empty());
    let folder = match open() {
        Ok(folder) => folder,
        Err(rustix::io::Errno::NOENT) => {
            may_make()?;
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            open()?
        }
        Err(errno) => return Err(errno.into()),
    };
    check_private(&folder, FileType::Directory)?;
    if let Some(fstype) = foreign(path) {
        anyhow::bail!("it lies on a file system that others vouch for ({fstype})");
    }
    Ok(folder)
}
