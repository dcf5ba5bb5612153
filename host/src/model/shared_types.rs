//! File systems of which there is one for the whole host, or for each of its namespaces. A new mount shows what is mounted elsewhere
//! already, and its options would change that as well.

/// Types of which there is one: it takes its one super block with `get_tree_single` or kernfs, see `fs/super.c` of the kernel. A procfs has a
/// super block for each mount, and shows the same.
const TYPES: [&str; 16] = [
    "binfmt_misc",
    "cgroup2",
    "configfs",
    "debugfs",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "proc",
    "pstore",
    "resctrl",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tracefs",
    "xenfs",
];

/// Types of which there is one for a namespace, a name or a set of options: the number of what was mounted tells.
const KEYED: [&str; 7] = ["cgroup", "cpuset", "functionfs", "gadgetfs", "mqueue", "nfsd", "rpc_pipefs"];

/// Whether there is one for the whole host.
pub(crate) fn is_the_only_one(fstype: &str) -> bool {
    TYPES.contains(&fstype)
}

/// Whether a new mount may show what is mounted elsewhere already.
pub(crate) fn is_shared(fstype: &str) -> bool {
    is_the_only_one(fstype) || KEYED.contains(&fstype)
}
