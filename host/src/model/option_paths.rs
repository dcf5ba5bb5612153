//! The host's paths that options of a new mount name: the layers of an overlay, the journal of a file system, its further
//! devices. What is mounted shows them, or writes them.

use super::option_names::{is_context, is_dropped};
use super::options::MountOption;
use super::own_options::is_own;

/// A path in the value of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenPath {
    /// The option as the kernel takes it for this one path.
    pub(crate) option: &'static str,
    /// The path as it's written, without escapes.
    pub(crate) path: String,
}

/// The options whose value is a path, see the documentation of overlayfs, btrfs(5), ext4(5), xfs(5) and erofs.
const ONE_PATH: [&str; 8] =
    ["lowerdir+", "datadir+", "upperdir", "workdir", "device", "journal_path", "logdev", "rtdev"];

/// Options whose value looks like a path and is one in the file system itself.
const INSIDE: [&str; 4] = ["subvol", "aname", "subdir", "root"];

/// Whether an option names a folder to which an overlay writes.
pub(crate) fn is_upper_or_work(option: &str) -> bool {
    matches!(option, "upperdir" | "workdir")
}

/// The paths that are judged as sources are. An option that nothing is known of, and that the operator has named, isn't taken for
/// a path.
pub(crate) fn judged_paths(option: &MountOption, named: &[String]) -> Vec<WrittenPath> {
    let is_meant = |path: &WrittenPath| !path.option.is_empty() || !named.contains(&option.name);
    paths_in(option).into_iter().filter(is_meant).collect()
}

/// The paths that an option names. Of an option that isn't known, a value that begins with `/` is taken for one, unless no file
/// system is told of it.
pub(crate) fn paths_in(option: &MountOption) -> Vec<WrittenPath> {
    let name = option.name.as_str();
    let Some(value) = option.value.as_deref().filter(|value| !value.is_empty()) else { return Vec::new() };
    if name == "lowerdir" {
        return layers(value);
    }
    if is_dropped(name) || is_own(name) || is_context(name) {
        return Vec::new();
    }
    match ONE_PATH.iter().find(|known| **known == name) {
        Some(known) => vec![WrittenPath { option: known, path: value.to_owned() }],
        None if value.starts_with('/') && !INSIDE.contains(&name) => {
            vec![WrittenPath { option: "", path: value.to_owned() }]
        }
        None => Vec::new(),
    }
}

/// The layers in `lowerdir=`, the uppermost first: colons part them, two colons stand before the layers that hold only data,
/// and a backslash takes away what the next character means.
fn layers(value: &str) -> Vec<WrittenPath> {
    let mut layers = vec![WrittenPath { option: "lowerdir+", path: String::new() }];
    let mut chars = value.chars();
    let mut holds_data = false;
    while let (Some(c), Some(last)) = (chars.next(), layers.last_mut()) {
        match c {
            '\\' => last.path.extend(chars.next()),
            ':' if last.path.is_empty() => {
                holds_data = true;
                last.option = "datadir+";
            }
            ':' => {
                let option = if holds_data { "datadir+" } else { "lowerdir+" };
                layers.push(WrittenPath { option, path: String::new() });
            }
            c => last.path.push(c),
        }
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<(&'static str, String)> {
        paths_in(&MountOption::parse(text)).into_iter().map(|found| (found.option, found.path)).collect()
    }

    #[test]
    fn layers_are_parted_at_colons_that_arent_escaped() {
        let owned = |list: &[(&'static str, &str)]| -> Vec<_> {
            list.iter().map(|(option, path)| (*option, (*path).to_owned())).collect()
        };
        assert_eq!(of("lowerdir=/a:/b\\:c"), owned(&[("lowerdir+", "/a"), ("lowerdir+", "/b:c")]));
        assert_eq!(
            of("lowerdir=/a::/d1::/d2"),
            owned(&[("lowerdir+", "/a"), ("datadir+", "/d1"), ("datadir+", "/d2")])
        );
        assert_eq!(of("upperdir=/u:v"), owned(&[("upperdir", "/u:v")]));
    }

    #[test]
    fn a_path_in_the_file_system_itself_is_none_of_the_hosts() {
        assert_eq!(of("subvol=/a"), []);
        assert_eq!(of("size=1m"), []);
        assert_eq!(of("x-systemd.requires-mounts-for=/a"), []);
        assert_eq!(of("comment=/a"), []);
        assert_eq!(of("unheard-of=/etc"), [("", "/etc".to_owned())]);
        let judged = |text: &str| {
            judged_paths(&MountOption::parse(text), &["unheard-of".to_owned(), "lowerdir".to_owned()]).len()
        };
        assert_eq!((judged("unheard-of=/etc"), judged("lowerdir=/a:/b")), (0, 2));
    }
}
