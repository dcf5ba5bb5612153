//! The flags of a single mount point: the bits of mount_setattr(2) and the words of mount(8) for them.

/// One flag. The bits are `MOUNT_ATTR_…` of `include/uapi/linux/mount.h`.
pub(crate) struct MountFlag {
    pub(crate) bit: u64,
    /// The word that sets it.
    pub(crate) sets: &'static str,
    /// The word that clears it.
    pub(crate) clears: &'static str,
    /// Whether it only ever takes rights away.
    pub(crate) restricts: bool,
}

const fn flag(bit: u64, sets: &'static str, clears: &'static str, restricts: bool) -> MountFlag {
    MountFlag { bit, sets, clears, restricts }
}

pub(crate) const READ_ONLY: u64 = 0x1;
/// The owners of files are mapped.
pub(crate) const IDMAPPED: u64 = 0x10_0000;
/// The kinds of atime share one field, which is set as a whole.
pub(crate) const ATIME: u64 = 0x70;

/// All flags but the kinds of atime.
pub(crate) const FLAGS: [MountFlag; 6] = [
    flag(READ_ONLY, "ro", "rw", true),
    flag(0x2, "nosuid", "suid", true),
    flag(0x4, "nodev", "dev", true),
    flag(0x8, "noexec", "exec", true),
    flag(0x20_0000, "nosymfollow", "symfollow", true),
    flag(0x80, "nodiratime", "diratime", false),
];

/// The values of the field [`ATIME`].
pub(crate) const KINDS_OF_ATIME: [(u64, &str); 3] = [(0x0, "relatime"), (0x10, "noatime"), (0x20, "strictatime")];

/// The flags that only ever take rights away.
pub(crate) fn restrictions() -> impl Iterator<Item = &'static MountFlag> {
    FLAGS.iter().filter(|flag| flag.restricts)
}

/// The bits of [`restrictions`].
pub(crate) const RESTRICTION_BITS: u64 = {
    let (mut bits, mut i) = (0, 0);
    while i < FLAGS.len() {
        if FLAGS[i].restricts {
            bits |= FLAGS[i].bit;
        }
        i += 1;
    }
    bits
};

/// The value of the field [`ATIME`] that an option sets. `atime` means the kernel's default, which is `relatime`.
pub(crate) fn kind_of_atime(name: &str) -> Option<u64> {
    let name = match name {
        "atime" | "nostrictatime" => "relatime",
        "norelatime" => "strictatime",
        name => name,
    };
    KINDS_OF_ATIME.iter().find(|(_, word)| *word == name).map(|(kind, _)| *kind)
}

/// The per-mount options as `show_mnt_opts` of the kernel's `fs/proc_namespace.c` prints them in mountinfo.
pub(crate) fn mountinfo_words(bits: u64) -> impl Iterator<Item = &'static str> {
    const ORDER: [&str; 7] = ["nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "nosymfollow"];
    let is_set = move |word: &str| match kind_of_atime(word) {
        Some(kind) => bits & ATIME == kind,
        None => FLAGS.iter().any(|flag| flag.sets == word && bits & flag.bit != 0),
    };
    let first = if bits & READ_ONLY == 0 { "rw" } else { "ro" };
    let mapped = (bits & IDMAPPED != 0).then_some("idmapped");
    std::iter::once(first).chain(ORDER.into_iter().filter(move |word| is_set(word))).chain(mapped)
}
