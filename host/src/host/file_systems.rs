//! The file system types that the host's kernel knows, see proc(5), `/proc/filesystems`.

use std::io::Read;
use std::sync::OnceLock;

/// The text of `/proc/filesystems`, read at the first question.
#[derive(Debug, Default)]
pub(crate) struct FileSystems(OnceLock<String>);

/// What a file system type is mounted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KernelType {
    pub(crate) needs_device: bool,
}

impl FileSystems {
    /// What the kernel says of a type; nothing where the type isn't loaded.
    pub(crate) fn find(&self, fstype: &str) -> Option<KernelType> {
        find_in(self.0.get_or_init(read), fstype)
    }

    /// Whether the kernel mounts this type without a block device.
    pub(crate) fn is_nodev(&self, fstype: &str) -> bool {
        self.find(fstype).is_some_and(|known| !known.needs_device)
    }

    /// Whether the type, which was mounted just now and so is loaded, is mounted from a block device.
    pub(crate) fn is_mounted_from_device(&self, fstype: &str) -> bool {
        self.find(fstype).or_else(|| find_in(&read(), fstype)).is_none_or(|known| known.needs_device)
    }
}

fn read() -> String {
    let mut text = String::with_capacity(4 << 10);
    let read = std::fs::File::open("/proc/filesystems").and_then(|mut file| file.read_to_string(&mut text));
    if let Err(error) = read {
        tracing::debug!("the kernel's file system types aren't known: {error}");
    }
    text
}

fn find_in(text: &str, fstype: &str) -> Option<KernelType> {
    text.lines().find_map(|line| {
        let (flag, name) = line.split_once('\t')?;
        (name == fstype).then_some(KernelType { needs_device: flag != "nodev" })
    })
}
