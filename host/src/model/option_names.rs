//! What the names of mount options mean to the host.

use super::mount_flags::{FLAGS, kind_of_atime};

/// Whether one mount point can have the option for itself, see mount_setattr(2), or only mount(8) reads it.
pub(crate) fn is_per_mount(name: &str) -> bool {
    FLAGS.iter().any(|flag| name == flag.sets || name == flag.clears)
        || kind_of_atime(name).is_some()
        || matches!(name, "defaults" | "_netdev")
}

/// Whether mount(8) takes the word for another operation, see mount(8) and `libmount/src/optmap.c`.
pub(crate) fn is_operation(name: &str) -> bool {
    matches!(name, "bind" | "rbind" | "move" | "remount")
        || matches!(name.strip_prefix('r').unwrap_or(name), "shared" | "slave" | "private" | "unbindable")
}

/// Whether every file system has the option. No helper does more with it than the word says.
pub(crate) fn is_generic(name: &str) -> bool {
    is_per_mount(name) || matches!(name, "sync" | "async" | "dirsync" | "lazytime" | "nolazytime" | "nofail")
}

/// Whether the option can do more than mount: run programs, set up devices, make folders, let users unmount, relabel.
/// `user_xattr` and the like belong to a file system and aren't meant.
pub(crate) fn needs_permission(name: &str) -> bool {
    needs_mount_program(name) || matches!(name, "context" | "fscontext" | "defcontext" | "rootcontext")
}

/// Whether mount(8) carries the option out itself. The kernel doesn't know such options.
pub(crate) fn needs_mount_program(name: &str) -> bool {
    name.starts_with("X-mount.")
        || name.starts_with("x-mount.")
        || name.starts_with("verity.")
        || matches!(
            name,
            "helper"
                | "uhelper"
                | "user"
                | "users"
                | "nouser"
                | "nousers"
                | "owner"
                | "group"
                | "loop"
                | "offset"
                | "sizelimit"
                | "encryption"
        )
}
