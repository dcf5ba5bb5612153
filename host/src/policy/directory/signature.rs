//! Signatures of policy directories: minisign(1) signs `policies.lock`, which has the digests of all else.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};

use super::error::DirectoryError;
use super::reader::{LOCK, Reader};
use super::trust::{Untrusted, is_trusted_owner, trusted_place};

/// Where the public keys of those are who may sign policies.
pub(crate) const TRUSTED_KEYS: &str = "/etc/mountgate/trusted-keys";
/// The signature, as minisign(1) names it.
const SIGNATURE: &str = "policies.lock.minisig";

/// Checks who has signed a directory. Where no key is trusted, nobody needs to.
///
/// # Errors
/// A directory that nobody has signed whose key is trusted, or a key that others can write.
pub(super) fn check(reader: &Reader, lock: Option<&str>, keys: &Path) -> Result<Option<String>, DirectoryError> {
    let keys = trusted(keys)?;
    if keys.is_empty() {
        return Ok(None);
    }
    let sign = "sign it: `mountgate policy lock DIR`, then `minisign -S -m DIR/policies.lock`";
    let lock =
        lock.ok_or_else(|| reader.error(LOCK, None, "only locked directories can be signed".to_owned(), sign))?;
    if !reader.has(SIGNATURE) {
        let message = "nobody has signed this directory, and keys are trusted on this machine".to_owned();
        return Err(reader.error(SIGNATURE, None, message, sign));
    }
    let text = reader.read_text(SIGNATURE)?;
    let signature = Signature::decode(&text)
        .map_err(|error| reader.error(SIGNATURE, None, format!("it isn't a signature of minisign: {error}"), sign))?;
    let signer = keys.into_iter().find(|(_, key)| key.verify(lock.as_bytes(), &signature, false).is_ok());
    match signer {
        Some((name, _)) => Ok(Some(name)),
        None => {
            let message = "no trusted key made this signature of policies.lock".to_owned();
            Err(reader.error(
                SIGNATURE,
                None,
                message,
                "the directory was changed after it was signed, or somebody else signed it",
            ))
        }
    }
}

/// The trusted keys by name, none where there is no folder of them.
fn trusted(folder: &Path) -> Result<Vec<(String, PublicKey)>, DirectoryError> {
    let wrong = |file: &Path, message: String| DirectoryError {
        file: file.to_owned(),
        line: None,
        message,
        hint: "a trusted key is a .pub file of minisign(1) that only root or the caller can write".into(),
    };
    let unreadable = |error: io::Error| wrong(folder, format!("the trusted keys can't be read: {error}"));
    // Where nobody has said that there are keys, there may be none. Whatever else is in the way hides some.
    let is_missing = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
    if folder == Path::new(TRUSTED_KEYS) && fs::symlink_metadata(folder).is_err_and(is_missing) {
        return Ok(Vec::new());
    }
    let real = trusted_place(folder).map_err(|problem| match problem {
        Untrusted::Missing(error) => unreadable(error),
        Untrusted::Others { message, hint } => DirectoryError { file: folder.to_owned(), line: None, message, hint },
    })?;
    let entries = fs::read_dir(&real).map_err(unreadable)?.collect::<io::Result<Vec<_>>>().map_err(unreadable)?;
    let mut files: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    files.retain(|file| file.extension() == Some(OsStr::new("pub")));
    files.sort();
    let mut keys = Vec::new();
    for file in std::iter::once(real.as_path()).chain(files.iter().map(PathBuf::as_path)) {
        let stat = fs::symlink_metadata(file).map_err(|error| wrong(file, format!("it can't be examined: {error}")))?;
        if !is_trusted_owner(stat.uid()) || stat.mode() & 0o022 != 0 || stat.is_symlink() {
            return Err(wrong(file, "others could write it".to_owned()));
        }
    }
    for file in &files {
        let key = PublicKey::from_file(file).map_err(|error| wrong(file, format!("it isn't a key: {error}")))?;
        keys.push((file.file_stem().unwrap_or_default().to_string_lossy().into_owned(), key));
    }
    Ok(keys)
}
