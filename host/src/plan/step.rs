//! The steps of a plan, which print as the calls that will be made.

use std::fmt::Write as _;

use super::attributes::Attributes;
use crate::options::{MountOption, Options};
use crate::request::{Propagation, UnmountMode};

/// One step, in the host's mount namespace. What is done is done to the plan's pinned source and target; the paths
/// here are for those who read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Makes a mount of a file system, and shows it when it's complete.
    Mount { fstype: String, source: String, parameters: Vec<MountOption>, attributes: Attributes },
    /// Copies a mount or a tree of mounts, and shows it when it's complete.
    Bind { source: String, recursive: bool, attributes: Attributes },
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

/// A mount by the host's own mount(8), for types with a helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HelperMount {
    /// The host's mount(8), and systemd-run(1) where a scope is wanted.
    pub(crate) mount: String,
    pub(crate) scope: Option<Scope>,
    /// Whether `mount.TYPE` may run.
    pub(crate) helper: bool,
    pub(crate) fstype: String,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) options: Options,
}

/// A systemd scope for what a helper leaves running, so that it outlives the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The host's systemd-run(1).
    pub(crate) program: String,
    /// The scope's name.
    pub(crate) unit: String,
    /// Whether the mount fails where the scope can't be had.
    pub(crate) required: bool,
}

impl HelperMount {
    /// The command line, with the scope or without.
    pub(crate) fn argv(&self, scoped: bool) -> Vec<String> {
        let mut argv: Vec<&str> = Vec::new();
        let description = format!("--description=mountgate: {} on {}", self.fstype, self.target);
        let unit;
        if let Some(scope) = self.scope.as_ref().filter(|_| scoped) {
            unit = format!("--unit={}", scope.unit);
            argv.extend([&scope.program, "--scope", "--collect", &unit, &description, "--"]);
        }
        argv.push(&self.mount);
        if !self.helper {
            argv.push("-i");
        }
        // Both ends are real paths by now: mount(8) must not follow them again, nor look into fstab for them.
        argv.extend(["--no-canonicalize", "-t", &self.fstype]);
        let options = self.options.to_string();
        if !options.is_empty() {
            argv.extend(["-o", &options]);
        }
        argv.extend(["--source", &self.source, "--target", &self.target]);
        argv.into_iter().map(str::to_owned).collect()
    }
}

impl Step {
    /// The calls it makes, one line each, secrets masked.
    pub(crate) fn lines(&self, target: &str) -> Vec<String> {
        match self {
            Self::Mount { fstype, source, parameters, attributes } => {
                let mut lines = vec![call("fsopen", &[fstype]), call("fsconfig", &["source", source])];
                lines.extend(parameters.iter().map(parameter));
                lines.push(call("fsmount", &[&attributes.to_string()]));
                lines.push(call("move_mount", &[target]));
                lines
            }
            Self::Bind { source, recursive, attributes } => {
                let flag = if *recursive { "AT_RECURSIVE" } else { "" };
                let mut lines = vec![call("open_tree", &[source, "OPEN_TREE_CLONE", flag])];
                if !attributes.is_empty() {
                    lines.push(call("mount_setattr", &[flag, &attributes.to_string()]));
                }
                lines.push(call("move_mount", &[target]));
                lines
            }
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

/// `fsconfig(size, 1m)`, a secret masked.
pub(crate) fn parameter(option: &MountOption) -> String {
    let masked = option.masked();
    match &masked.value {
        Some(value) => call("fsconfig", &[&masked.name, value]),
        None => call("fsconfig", &[&masked.name]),
    }
}

/// `name(argument, …)`; empty arguments are left out.
pub(crate) fn call(name: &str, arguments: &[&str]) -> String {
    let mut text = format!("{name}(");
    for (i, argument) in arguments.iter().filter(|argument| !argument.is_empty()).enumerate() {
        let _ = write!(text, "{}{}", if i > 0 { ", " } else { "" }, argument.escape_debug());
    }
    text.push(')');
    text
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.,:=@%+-_".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("/mnt/x"), "/mnt/x");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_mount_prints_as_its_calls() {
        let step = Step::Mount {
            fstype: "tmpfs".to_owned(),
            source: "none".to_owned(),
            parameters: vec![MountOption::parse("size=1m"), MountOption::parse("password=x")],
            attributes: Attributes::of(&Options::parse("nosuid,ro")),
        };
        let lines = step.lines("/mnt/a b");
        assert_eq!(lines[0], "fsopen(tmpfs)");
        assert_eq!(
            lines[2..],
            ["fsconfig(size, 1m)", "fsconfig(password, ****)", "fsmount(ro,nosuid)", "move_mount(/mnt/a b)"]
        );
    }
}
