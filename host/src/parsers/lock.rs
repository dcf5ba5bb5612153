//! `policies.lock`.

use std::path::Path;

use super::policies::{PLUGIN, write};
use crate::policy::cache::Cache;
use crate::policy::directory::digest::digest_of;
use crate::policy::directory::lockfile::Locking;
use crate::policy::directory::open::PolicyDirectory;

const PLUGIN_BYTES: &[u8] = b"\0asm";
const POLICIES: &str = "[[policy]]\nname = \"one\"\nplugin = \"p.wasm\"\n";

/// `policies.lock` of a directory whose `policies.toml` has no digest: a directory opens only if the lock has the digests of
/// what is there, and an old lock is no obstacle to a new one.
///
/// # Panics
/// Where that doesn't hold.
pub(super) fn lock(data: &[u8], folder: &Path) {
    write(folder, PLUGIN, PLUGIN_BYTES);
    write(folder, "policies.toml", POLICIES.as_bytes());
    write(folder, "policies.lock", data);
    if PolicyDirectory::open_signed(folder, &Cache::none(), folder).is_ok() {
        let lock: toml::Table = toml::from_str(&String::from_utf8_lossy(data)).expect("it was read");
        assert_eq!(lock["config"].as_str(), Some(digest_of(POLICIES.as_bytes()).as_str()));
        assert_eq!(lock["plugins"][PLUGIN].as_str(), Some(digest_of(PLUGIN_BYTES).as_str()));
    }
    // What has changed since is told, whatever the old one says.
    Locking::of(folder).expect("policies.toml is sound");
}
