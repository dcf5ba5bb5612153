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
/// what is there, and what has changed since can be told.
///
/// # Panics
/// Where that doesn't hold.
pub(super) fn lock(data: &[u8], folder: &Path) {
    write(folder, PLUGIN, PLUGIN_BYTES);
    write(folder, "policies.toml", POLICIES.as_bytes());
    write(folder, "policies.lock", data);
    if PolicyDirectory::open_signed(folder, &Cache::none(), folder).is_ok() {
        let text = String::from_utf8_lossy(data);
        for bytes in [PLUGIN_BYTES, POLICIES.as_bytes()] {
            assert!(text.contains(&digest_of(bytes)), "a lock without the digest of what is there");
        }
    }
    let locking = Locking::of(folder).expect("policies.toml is sound");
    assert_eq!(locking.plugins().len(), 1);
}
