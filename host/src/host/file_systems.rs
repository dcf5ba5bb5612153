//! The file system types that the host's kernel knows, see proc(5), `/proc/filesystems`.

use std::io::Read;
use std::sync::OnceLock;

/// The text of `/proc/filesystems`, read at the first question.
#[derive(Debug, Default)]
pub(crate) struct FileSystems(OnceLock<String>);

impl FileSystems {
    /// Whether the kernel mounts this type from a block device; nothing where the type isn't loaded.
    pub(crate) fn needs_device(&self, fstype: &str) -> Option<bool> {
        find_in(self.0.get_or_init(read), fstype)
    }

    /// Whether the kernel mounts this type without a block device.
    pub(crate) fn is_nodev(&self, fstype: &str) -> bool {
        self.needs_device(fstype) == Some(false)
    }

    /// Whether the type, which was mounted just now and so is loaded, is mounted from a block device.
    pub(crate) fn is_mounted_from_device(&self, fstype: &str) -> bool {
        self.needs_device(fstype).or_else(|| find_in(&read(), fstype)).unwrap_or(true)
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

fn find_in(text: &str, fstype: &str) -> Option<bool> {
    text.lines().find_map(|line| {
        let (flag, name) = line.split_once('\t')?;
        (name == fstype).then_some(flag != "nodev")
    })
}
