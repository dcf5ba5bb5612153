//! Puts a folder where another is, in one step. Whoever looks meanwhile finds the old one or the new one.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, renameat_with};

use crate::failure::Failure;

/// A folder that is filled beside the one that it will take the place of.
pub(crate) struct Incoming {
    /// Where it will be.
    target: PathBuf,
    /// Where it is for now.
    path: PathBuf,
    /// Whether it's still to be removed, as nothing has come of it.
    is_pending: bool,
    /// Held for as long as it's in use. What nobody holds was left by a process that is gone.
    lock: OwnedFd,
}

impl Incoming {
    /// Makes an empty folder beside the target, and takes away what earlier runs left there.
    pub(crate) fn beside(target: &Path) -> Result<Self, Failure> {
        // What a link leads to is replaced, not the link.
        let target = target.canonicalize().or_else(|_| std::path::absolute(target)).map_err(Failure::file(target))?;
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(Failure::file(&target)(io::Error::other("it can't be replaced")));
        };
        remove_abandoned(parent, name).map_err(Failure::file(parent))?;
        let path = tempfile::Builder::new()
            .prefix(&prefix(name))
            .disable_cleanup(true)
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(parent)
            .map_err(Failure::file(parent))?
            .keep();
        let lock = lock(&path).map_err(Failure::file(&path))?;
        Ok(Self { target, path, is_pending: true, lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Puts it in place, with everything of the old folder that isn't replaced. The old folder is kept beside it, and returned.
    ///
    /// # Errors
    /// Before the exchange, the old folder is as it was; the one kept from the time before may be gone. After it the new folder is in place, and the message says where the old one is.
    pub(crate) fn put_in_place(mut self, is_replaced: impl Fn(&OsStr) -> bool) -> Result<Option<PathBuf>, Failure> {
        let target = self.target.clone();
        let failed = || Failure::file(&target);
        let parent = target.parent().unwrap_or(Path::new("/"));
        let is_there = self.target.symlink_metadata().is_ok();
        if is_there {
            carry_over(&self.target, &self.path, &is_replaced).map_err(failed())?;
            let about = fs::metadata(&self.target).map_err(failed())?;
            std::os::unix::fs::chown(&self.path, Some(about.uid()), Some(about.gid())).map_err(failed())?;
            fs::set_permissions(&self.path, about.permissions()).map_err(failed())?;
        }
        // A request that is being decided may still read the old one, so it's kept until the next time.
        let previous = parent.join(previous_name(target.file_name().unwrap_or_default()));
        if is_there {
            remove(&previous).map_err(Failure::file(&previous))?;
        }
        // Until it has its own name, the old one is nobody's to remove.
        let _old = is_there.then(|| lock(&target)).transpose().map_err(failed())?;
        let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all());
        rustix::fs::fsync(&self.lock).map_err(|errno| failed()(errno.into()))?;
        let flags = if is_there { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        renameat_with(CWD, &self.path, CWD, &self.target, flags).map_err(|errno| failed()(errno.into()))?;
        self.is_pending = false;
        if !is_there {
            sync(parent).map_err(Failure::file(parent))?;
            return Ok(None);
        }
        fs::rename(&self.path, &previous).and_then(|()| sync(parent)).map_err(|error| {
            let old = self.path.display();
            Failure::file(&target)(io::Error::other(format!(
                "it is the new one, but the old one is left at {old}: {error}"
            )))
        })?;
        Ok(Some(previous))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.is_pending {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".incoming-");
    prefix
}

fn previous_name(name: &OsStr) -> OsString {
    let mut previous = OsString::from(".");
    previous.push(name);
    previous.push(".previous");
    previous
}

/// Holds a folder. Others hold it only while they see whether it's in use.
fn lock(path: &Path) -> io::Result<OwnedFd> {
    let folder = open_folder(path)?;
    flock(&folder, FlockOperation::LockExclusive)?;
    Ok(folder)
}

/// Removes whatever is there.
fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Removes folders of processes that were killed.
fn remove_abandoned(parent: &Path, name: &OsStr) -> io::Result<()> {
    let prefix = prefix(name);
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            continue;
        }
        let Ok(folder) = open_folder(&entry.path()) else { continue };
        if flock(folder.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Gives a new folder what the old one has beside what is replaced: keys, cases, notes. Files are linked, so nothing is read.
fn carry_over(old: &Path, new: &Path, is_replaced: &dyn Fn(&OsStr) -> bool) -> io::Result<()> {
    let device = fs::metadata(old)?.dev();
    for entry in fs::read_dir(old)? {
        let entry = entry?;
        if is_replaced(&entry.file_name()) {
            continue;
        }
        let (from, to) = (entry.path(), new.join(entry.file_name()));
        let about = entry.metadata()?;
        if about.dev() != device {
            return Err(io::Error::other(format!("{} is a mount, and can't be carried over", from.display())));
        }
        if about.is_dir() {
            fs::DirBuilder::new().mode(0o700).create(&to)?;
            carry_over(&from, &to, &|_| false)?;
            std::os::unix::fs::chown(&to, Some(about.uid()), Some(about.gid()))?;
            fs::set_permissions(&to, about.permissions())?;
        } else if about.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        } else if about.is_file() {
            fs::hard_link(&from, &to)?;
        } else {
            return Err(io::Error::other(format!(
                "{} is no file or folder, and can't be carried over",
                from.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulled(target: &Path, text: &str) -> Option<PathBuf> {
        let incoming = Incoming::beside(target).expect("a folder can be made");
        fs::write(incoming.path().join("policies.toml"), text).expect("it can be written");
        incoming.put_in_place(|name| name == "policies.toml").expect("it can be put in place")
    }

    #[test]
    fn what_is_not_replaced_stays_and_the_old_folder_is_kept() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let target = folder.path().join("policies");
        assert_eq!(pulled(&target, "one"), None);
        fs::create_dir(target.join("keys")).expect("a folder can be made");
        fs::write(target.join("keys/a.pub"), "key").expect("it can be written");
        symlink("keys/a.pub", target.join("link")).expect("a link can be made");
        let previous = pulled(&target, "two").expect("there was one");
        let read = |path: PathBuf| fs::read_to_string(path).expect("it can be read");
        assert_eq!(read(target.join("policies.toml")), "two");
        assert_eq!(read(target.join("link")), "key");
        assert_eq!(read(previous.join("policies.toml")), "one");
        fs::remove_dir_all(&previous).expect("it can be removed");
        fs::write(&previous, "in the way").expect("it can be written");
        fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(0o750)).expect("it can be changed");
        pulled(&target, "three");
        assert_eq!(read(previous.join("policies.toml")), "two");
        assert_eq!(fs::metadata(&target).expect("it's there").mode() & 0o777, 0o750);
        assert_eq!(fs::read_dir(folder.path()).expect("it can be listed").count(), 2);
    }

    #[test]
    fn what_is_in_use_is_not_taken_for_abandoned() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let target = folder.path().join("policies");
        let first = Incoming::beside(&target).expect("a folder can be made");
        let second = Incoming::beside(&target).expect("a folder can be made");
        assert!(first.path().exists() && second.path().exists());
        let left = folder.path().join(".policies.incoming-left");
        fs::create_dir(&left).expect("a folder can be made");
        Incoming::beside(&target).expect("a folder can be made");
        assert!(first.path().exists() && !left.exists());
    }
}
