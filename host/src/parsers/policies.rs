//! `policies.toml`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::policy::cache::Cache;
use crate::policy::directory::lockfile::Locking;
use crate::policy::directory::open::PolicyDirectory;

/// The plugin that a directory here has. Nothing runs it.
pub(super) const PLUGIN: &str = "p.wasm";

/// `policies.toml` of a directory with one plugin: what can be locked can be opened, and is what was locked. An error names a
/// line that is there.
///
/// # Panics
/// Where that doesn't hold.
pub(super) fn policies(data: &[u8], folder: &Path) {
    let _ = fs::remove_file(folder.join("policies.lock"));
    write(folder, PLUGIN, b"\0asm");
    write(folder, "policies.toml", data);
    match Locking::of(folder) {
        Ok(locking) => {
            locking.write().expect("the folder can be written");
            let opened = PolicyDirectory::open_signed(folder, &Cache::none(), folder);
            let opened = opened.expect("what was locked can be opened");
            assert!(!opened.policies.is_empty(), "a directory without a policy would allow everything");
            let again = Locking::of(folder).expect("nothing has changed");
            assert_eq!(again.changes.as_deref(), Some(&[][..]), "nothing has changed");
        }
        Err(error) => {
            let lines = data.iter().filter(|byte| **byte == b'\n').count() + 1;
            assert!(error.line.is_none_or(|line| (1..=lines).contains(&line)), "{error}");
        }
    }
}

/// Writes a file that nobody else can change.
pub(super) fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    if fs::read(&path).is_ok_and(|written| written == bytes) {
        return;
    }
    fs::write(&path, bytes).expect("the folder can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
}
