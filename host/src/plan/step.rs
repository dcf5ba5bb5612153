//! The steps of a plan, which print as the calls that will be made.

use super::attributes::Attributes;
use super::call::{call, parameter, quoted};
use super::helper_mount::HelperMount;
use crate::model::image::Image;
use crate::model::options::MountOption;
use crate::model::own_options::IdMap;
use crate::model::request::{Propagation, UnmountMode};

/// One step, in the host's mount namespace. What is done is done to the plan's pinned source and target; the paths
/// here are for those who read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Makes a mount of a file system, and shows it when it's complete.
    Mount {
        fstype: String,
        source: String,
        image: Option<Image>,
        parameters: Vec<MountOption>,
        attributes: Attributes,
        id_map: Option<IdMap>,
        propagation: Option<Propagation>,
    },
    /// Copies a mount or a tree of mounts, and shows the copy when it's complete.
    Bind { source: String, recursive: bool, propagation: Propagation, attributes: Attributes, id_map: Option<IdMap> },
    /// Makes the missing end of the mount point's path.
    MakeDirectory { missing: String, mode: u32 },
    /// Changes a mount point.
    SetAttributes(Attributes),
    /// Changes the file system behind a mount.
    Reconfigure { parameters: Vec<MountOption> },
    /// Moves a mount.
    Move { source: String },
    /// Changes how mount events travel.
    SetPropagation(Propagation),
    /// Takes a mount away.
    Unmount(UnmountMode),
    /// Has the host's mount(8) run a helper.
    Helper(HelperMount),
}

impl Step {
    /// The calls it makes, one line each, secrets masked.
    pub(crate) fn lines(&self, target: &str) -> Vec<String> {
        match self {
            Self::Mount { fstype, source, image, parameters, attributes, id_map, propagation } => {
                let device = image.map(|image| loop_device(source, image, attributes.is_read_only()));
                let source = if device.is_some() { "/dev/loop…" } else { source };
                let mut lines: Vec<String> = device.into_iter().collect();
                lines.extend([call("fsopen", &[fstype]), call("fsconfig", &["source", source])]);
                lines.extend(parameters.iter().map(parameter));
                lines.push(call("fsmount", &[&attributes.to_string()]));
                lines.extend(id_map.iter().map(|map| call("mount_setattr", &[&format!("idmap {map}")])));
                lines.push(call("move_mount", &[target]));
                lines.extend(propagation.iter().map(|to| call("mount_setattr", &[target, to.kind.name()])));
                lines
            }
            Self::Bind { source, recursive, propagation, attributes, id_map } => {
                let flag = if *recursive { "AT_RECURSIVE" } else { "" };
                let mut lines = vec![call("open_tree", &[source, "OPEN_TREE_CLONE", flag])];
                lines.push(call("mount_setattr", &[flag, &attributes.to_string(), propagation.kind.name()]));
                lines.extend(id_map.iter().map(|map| call("mount_setattr", &[flag, &format!("idmap {map}")])));
                lines.push(call("move_mount", &[target]));
                lines
            }
            Self::MakeDirectory { mode, .. } => vec![call("mkdirat", &[target, &format!("{mode:04o}")])],
            Self::SetAttributes(attributes) => vec![call("mount_setattr", &[target, &attributes.to_string()])],
            Self::Reconfigure { parameters } => {
                let mut lines = vec![call("fspick", &[target])];
                lines.extend(parameters.iter().map(parameter));
                lines.push(call("fsconfig", &["FSCONFIG_CMD_RECONFIGURE"]));
                lines
            }
            Self::Move { source } => vec![call("move_mount", &[source, target])],
            Self::SetPropagation(propagation) => {
                let flag = if propagation.recursive { "AT_RECURSIVE" } else { "" };
                vec![call("mount_setattr", &[target, flag, propagation.kind.name()])]
            }
            Self::Unmount(mode) => {
                let flags = [(mode.lazy, "MNT_DETACH"), (mode.force, "MNT_FORCE"), (mode.recursive, "AT_RECURSIVE")];
                let mut arguments = vec![target];
                arguments.extend(flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word));
                vec![call("umount2", &arguments)]
            }
            Self::Helper(mount) => {
                let masked = HelperMount { options: mount.options.masked(), ..mount.clone() };
                vec![masked.argv(true).iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")]
            }
        }
    }
}

/// The call that shows an image as a block device.
fn loop_device(source: &str, image: Image, read_only: bool) -> String {
    let part = |name: &str, bytes: u64| if bytes == 0 { String::new() } else { format!("{name} {bytes}") };
    let (offset, size) = (part("offset", image.offset), part("sizelimit", image.size_limit));
    let access = if read_only { "LO_FLAGS_READ_ONLY" } else { "" };
    call("ioctl", &["LOOP_CONFIGURE", source, &offset, &size, "LO_FLAGS_AUTOCLEAR", access])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::options::Options;

    #[test]
    fn a_mount_prints_as_its_calls() {
        let step = Step::Mount {
            fstype: "tmpfs".to_owned(),
            source: "none".to_owned(),
            image: None,
            parameters: vec![MountOption::parse("size=1m"), MountOption::parse("password=x")],
            attributes: Attributes::of(&Options::parse("nosuid,ro")),
            id_map: None,
            propagation: None,
        };
        let lines = step.lines("/mnt/a b");
        assert_eq!(lines[0], "fsopen(tmpfs)");
        assert_eq!(
            lines[2..],
            ["fsconfig(size, 1m)", "fsconfig(password, ****)", "fsmount(ro,nosuid)", "move_mount(/mnt/a b)"]
        );
    }
}
