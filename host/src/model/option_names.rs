//! What the names of mount options mean to the host.

use super::image::LOOP_WORDS;
use super::mount_flags::{FLAGS, kind_of_atime};
use super::options::MountOption;
use super::own_options::is_own;
use super::request::{Propagation, PropagationType};

/// Whether one mount point can have the option for itself, see mount_setattr(2), or only mount(8) reads it.
pub(crate) fn is_per_mount(name: &str) -> bool {
    FLAGS.iter().any(|flag| name == flag.sets || name == flag.clears)
        || kind_of_atime(name).is_some()
        || is_dropped(name)
}

/// Whether the word says something to programs that read fstab, or stands for what is so anyway. The kernel isn't told such a
/// word; see mount(8) and `libmount/src/optmap.c`.
pub(crate) fn is_dropped(name: &str) -> bool {
    const WORDS: [&str; 14] = [
        "_netdev",
        "auto",
        "comment",
        "defaults",
        "iversion",
        "loud",
        "noauto",
        "nofail",
        "nogroup",
        "noiversion",
        "noowner",
        "nouser",
        "nousers",
        "silent",
    ];
    WORDS.contains(&name)
        || (name.starts_with("x-") || name.starts_with("X-")) && !name.to_ascii_lowercase().starts_with("x-mount.")
}

/// The propagation that a word asks for, of a bind: `slave` of the bind itself, `rslave` of all that is mounted below as well.
pub(crate) fn propagation_of_word(name: &str) -> Option<Propagation> {
    let (word, recursive) = name.strip_prefix('r').map_or((name, false), |word| (word, true));
    let kinds =
        [PropagationType::Shared, PropagationType::Slave, PropagationType::Private, PropagationType::Unbindable];
    kinds.into_iter().find(|kind| kind.name() == word).map(|kind| Propagation { kind, recursive })
}

/// Whether mount(8) takes the word for another operation, see mount(8) and `libmount/src/optmap.c`.
pub(crate) fn is_operation(name: &str) -> bool {
    matches!(name, "bind" | "rbind" | "move" | "remount") || propagation_of_word(name).is_some()
}

/// Whether every file system has the option. No helper does more with it than the word says.
pub(crate) fn is_generic(name: &str) -> bool {
    is_per_mount(name) || matches!(name, "sync" | "async" | "dirsync" | "lazytime" | "nolazytime")
}

/// Whether the option can do more than mount: run programs, set up devices, make folders, let users unmount, relabel.
/// `user_xattr` and the like belong to a file system and aren't meant.
pub(crate) fn needs_permission(name: &str) -> bool {
    needs_mount_program(name) || is_own(name) || is_context(name) || is_smack(name) || LOOP_WORDS.contains(&name)
}

/// Whether the option gives files a label of SELinux, see mount(8).
pub(crate) fn is_context(name: &str) -> bool {
    matches!(name, "context" | "fscontext" | "defcontext" | "rootcontext")
}

/// Whether the option gives files a label of Smack, see the kernel's `Documentation/admin-guide/LSM/Smack.rst`.
fn is_smack(name: &str) -> bool {
    matches!(name, "smackfsdef" | "smackfsdefault" | "smackfsfloor" | "smackfshat" | "smackfsroot" | "smackfstransmute")
}

/// Whether the option says what is mounted in the place of the source: a device by its number or by a name that isn't a path, a server, or a
/// share. Nobody has judged that. See `Documentation/filesystems/` and `fs/smb/client/fs_context.c` of the kernel.
pub(crate) fn stands_for_the_source(name: &str) -> bool {
    matches!(
        name,
        "addr" | "ip" | "jdev" | "journal_dev" | "mon_addr" | "mountaddr" | "mounthost" | "prefixpath" | "unc"
    )
}

/// Whether the option can stop the host or its file systems: a file system that meets an error, or is told that it has, and
/// panics; one that makes errors; a program that the kernel runs as root; or a descriptor, which would be one of mountgate's own.
pub(crate) fn endangers_the_host(option: &MountOption) -> bool {
    let (name, value) = (option.name.to_ascii_lowercase(), option.value.as_deref().unwrap_or_default());
    matches!(
        name.as_str(),
        "abort"
            | "fault_injection"
            | "fault_type"
            | "test_dummy_encryption"
            | "release_agent"
            | "fd"
            | "rfdno"
            | "wfdno"
    ) || name.contains("panic")
        || value.to_ascii_lowercase().contains("panic")
}

/// Whether mount(8) carries the option out itself. The kernel doesn't know such options.
pub(crate) fn needs_mount_program(name: &str) -> bool {
    name.starts_with("X-mount.") && !is_own(name)
        || name.starts_with("x-mount.")
        || name.starts_with("verity.")
        || matches!(name, "helper" | "uhelper" | "user" | "users" | "owner" | "group" | "encryption")
}
