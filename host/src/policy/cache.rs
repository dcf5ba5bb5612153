//! Compiled plugins, kept so that only the first run pays for compiling them.
//!
//! Compiled code is trusted code. It's only ever loaded from a directory that nobody but this user can enter, never
//! from a policy directory; its name is the plugin's digest and the engine's compatibility hash.

use std::fs::{DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, openat, renameat};
use wasmtime::component::Component;

/// Where compiled plugins are kept, if anywhere.
#[derive(Debug)]
pub struct Cache {
    folder: Option<OwnedFd>,
}

impl Cache {
    /// A cache that keeps nothing.
    pub fn none() -> Self {
        Self { folder: None }
    }

    /// The cache in a folder, which is made where it's missing. Without a usable one nothing is kept, and the log
    /// says why.
    pub fn open(path: &Path) -> Self {
        let folder = open_private(path)
            .inspect_err(|error| tracing::warn!("compiled plugins aren't kept in {}: {error}", path.display()));
        Self { folder: folder.ok() }
    }

    /// `/var/cache/mountgate` for root, the user's own cache folder for everybody else.
    pub fn default_path() -> PathBuf {
        let var = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        if rustix::process::geteuid().is_root() {
            return PathBuf::from("/var/cache/mountgate");
        }
        var("XDG_CACHE_HOME")
            .or_else(|| var("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(|| std::env::temp_dir().join(format!("uid-{}", rustix::process::geteuid().as_raw())))
            .join("mountgate")
    }

    /// The compiled form of a plugin: the kept one, else made now and kept.
    pub(super) fn component(
        &self,
        engine: &wasmtime::Engine,
        digest: &str,
        bytes: &[u8],
    ) -> wasmtime::Result<Component> {
        let name = file_name(engine, digest);
        if let Some(kept) = self.load(engine, &name) {
            return Ok(kept);
        }
        let component = Component::from_binary(engine, bytes)?;
        if let Some(folder) = &self.folder
            && let Err(error) = component.serialize().map_err(Into::into).and_then(|code| store(folder, &name, &code))
        {
            tracing::warn!("a compiled plugin couldn't be kept: {error:#}");
        }
        Ok(component)
    }

    fn load(&self, engine: &wasmtime::Engine, name: &str) -> Option<Component> {
        let folder = self.folder.as_ref()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(folder, name, flags, Mode::empty()).ok()?;
        if let Err(error) = check_private(&file, FileType::RegularFile) {
            tracing::warn!("the compiled plugin {name} isn't used: {error}");
            return None;
        }
        // The path of the descriptor: the very file that was checked.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        crate::sys::deserialize_trusted(engine, Path::new(&path))
            .inspect_err(|error| tracing::debug!("the compiled plugin {name} isn't used: {error:#}"))
            .ok()
    }
}

fn file_name(engine: &wasmtime::Engine, digest: &str) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{digest}-{:016x}.cwasm", hasher.finish())
}

fn open_private(path: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::open(path, flags, Mode::empty());
    let folder = match open() {
        Ok(folder) => folder,
        Err(rustix::io::Errno::NOENT) => {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            open()?
        }
        Err(errno) => return Err(errno.into()),
    };
    check_private(&folder, FileType::Directory)?;
    Ok(folder)
}

/// Ours, and for nobody else.
fn check_private(file: &OwnedFd, kind: FileType) -> anyhow::Result<()> {
    let stat = fstat(file.as_fd())?;
    anyhow::ensure!(FileType::from_raw_mode(stat.st_mode) == kind, "it isn't a {kind:?}");
    anyhow::ensure!(
        stat.st_uid == rustix::process::geteuid().as_raw(),
        "it belongs to user {}, not to the caller",
        stat.st_uid
    );
    anyhow::ensure!(stat.st_mode & 0o077 == 0, "others have access to it (mode {:04o})", stat.st_mode & 0o7777);
    Ok(())
}

/// Whole or not at all: a reader never sees a half-written file, not even after a crash.
fn store(folder: &OwnedFd, name: &str, code: &[u8]) -> anyhow::Result<()> {
    let temporary = format!(".{name}.{}", std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, &temporary, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(code)?;
    file.sync_all()?;
    renameat(folder, &temporary, folder, name)?;
    Ok(())
}
