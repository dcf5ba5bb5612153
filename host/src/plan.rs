//! An approved request as steps that print as exactly what will run.

use std::fmt;
use std::time::Duration;

use crate::chain::Approved;
use crate::error::Error;
use crate::host_root::HostRoot;
use crate::invariants::HostRules;
use crate::mount_table::Snapshot;
use crate::options::{MountOption, Options};
use crate::request::{MountRequest, Operation, Propagation, UnmountMode};

/// Steps for an executor. Only the chain can make one.
#[derive(Debug, Clone)]
pub struct MountPlan {
    steps: Vec<Step>,
    request: MountRequest,
    programs: Programs,
    timeout: Duration,
    notes: Vec<String>,
}

/// One step, in the host's mount namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Mounts a file system.
    Mount {
        fstype: String,
        source: String,
        target: String,
        options: Options,
        /// Whether `mount.TYPE` may run.
        helper: bool,
        /// Whether it runs in a systemd scope of its own, so that a daemon outlives the caller.
        scope: bool,
    },
    /// Makes a tree visible at a second place.
    Bind { source: String, target: String, recursive: bool },
    /// Sets the per-mount options of what was just bound.
    RemountBind { target: String, options: Options },
    /// Changes a mount's options.
    Remount { target: String, options: Options, mount_point_only: bool },
    /// Moves a mount.
    Move { source: String, target: String },
    /// Changes a mount's propagation.
    SetPropagation { target: String, propagation: Propagation },
    /// Takes a mount away.
    Unmount { target: String, mode: UnmountMode, helper: bool },
}

/// The host's own programs, by their paths on the host.
#[derive(Debug, Clone)]
struct Programs {
    mount: String,
    umount: String,
    systemd_run: String,
}

/// Where a host keeps the programs of util-linux and systemd.
const PROGRAM_FOLDERS: [&str; 5] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/run/current-system/sw/bin"];

impl Programs {
    fn of(host: Option<&HostRoot>) -> Self {
        let find =
            |name: &str| host.and_then(|host| host.program(name, &PROGRAM_FOLDERS)).unwrap_or_else(|| name.to_owned());
        Self { mount: find("mount"), umount: find("umount"), systemd_run: find("systemd-run") }
    }
}

impl MountPlan {
    /// The steps for an approved request.
    pub(crate) fn of(approved: &Approved<'_>, rules: &HostRules, snapshot: &Snapshot) -> Result<Self, Error> {
        let request = approved.request();
        let target = approved.target().path.clone();
        let source = || match approved.source() {
            Some(found) => found.path.clone(),
            None => request.source.clone().unwrap_or_default(),
        };
        let mut notes = Vec::new();
        let steps = match request.operation {
            Operation::Mount => {
                let fstype = request.fstype.clone().unwrap_or_default();
                let helper = rules.helpers.contains(&fstype);
                let scope = helper && approved.host().is_some_and(HostRoot::is_booted_with_systemd);
                if helper && !scope && approved.host().is_some() {
                    notes.push(format!(
                        "the host wasn't booted with systemd: a daemon that mount.{fstype} starts ends with the \
                         caller's container"
                    ));
                }
                vec![Step::Mount { fstype, source: source(), target, options: request.options.clone(), helper, scope }]
            }
            Operation::Bind { recursive } => {
                let mut steps = vec![Step::Bind { source: source(), target: target.clone(), recursive }];
                if !request.options.is_empty() {
                    let covering = approved.source().and_then(|found| found.covering_mount);
                    let options = bind_options(&request.options, covering, snapshot);
                    steps.push(Step::RemountBind { target, options });
                }
                steps
            }
            Operation::Remount { mount_point_only } => {
                vec![Step::Remount { target, options: request.options.clone(), mount_point_only }]
            }
            Operation::Move => vec![Step::Move { source: source(), target }],
            Operation::SetPropagation(propagation) => vec![Step::SetPropagation { target, propagation }],
            Operation::Unmount(mode) => vec![Step::Unmount { target, mode, helper: !rules.helpers.is_empty() }],
        };
        Ok(Self {
            steps,
            request: request.clone(),
            programs: Programs::of(approved.host()),
            timeout: rules.timeout,
            notes,
        })
    }

    /// The request that it carries out, as approved.
    pub fn request(&self) -> &MountRequest {
        &self.request
    }

    /// What somebody who reads the output should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The real path of the mount point.
    pub(crate) fn target(&self) -> &str {
        self.steps.first().map_or("/", Step::target)
    }

    /// Whether a new mount comes of it.
    pub(crate) fn makes_mount(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Mount { .. } | Step::Bind { .. }))
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The command line of a step.
    pub(crate) fn argv(&self, step: &Step) -> Vec<String> {
        step.argv(&self.programs)
    }

    /// What will run, one line a step, secrets masked.
    pub fn lines(&self) -> Vec<String> {
        let masked = |step: &Step| match step.clone() {
            Step::Mount { fstype, source, target, options, helper, scope } => {
                Step::Mount { fstype, source, target, options: options.masked(), helper, scope }
            }
            other => other,
        };
        let line = |step| self.argv(&masked(step)).iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        self.steps.iter().map(line).collect()
    }
}

impl fmt::Display for MountPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

impl Step {
    /// What takes it back, where it can be taken back.
    pub(crate) fn undo(&self) -> Option<Self> {
        match self {
            Self::Mount { target, .. } | Self::Bind { target, .. } => Some(Self::Unmount {
                target: target.clone(),
                mode: UnmountMode { lazy: true, ..UnmountMode::default() },
                helper: false,
            }),
            Self::Move { source, target } => Some(Self::Move { source: target.clone(), target: source.clone() }),
            _ => None,
        }
    }

    fn target(&self) -> &str {
        match self {
            Self::Mount { target, .. }
            | Self::Bind { target, .. }
            | Self::RemountBind { target, .. }
            | Self::Remount { target, .. }
            | Self::Move { target, .. }
            | Self::SetPropagation { target, .. }
            | Self::Unmount { target, .. } => target,
        }
    }

    fn argv(&self, programs: &Programs) -> Vec<String> {
        let mut argv = Vec::new();
        let mut words = |list: &[&str]| argv.extend(list.iter().map(|word| (*word).to_owned()));
        // `-i`: no helper runs. `--options-source disable`: fstab isn't read for what is missing.
        let mount: &str = &programs.mount;
        match self {
            Self::Mount { fstype, source, target, options, helper, scope } => {
                let description = format!("--description=mountgate: {fstype} on {target}");
                if *scope {
                    words(&[&programs.systemd_run, "--scope", "--collect", "--quiet", &description, "--"]);
                }
                words(&[mount]);
                if !helper {
                    words(&["-i"]);
                }
                words(&["-t", fstype]);
                if !options.is_empty() {
                    words(&["-o", &options.to_string()]);
                }
                words(&["--", source, target]);
            }
            Self::Bind { source, target, recursive } => {
                words(&[mount, if *recursive { "--rbind" } else { "--bind" }, "--", source, target]);
            }
            Self::RemountBind { target, options } => {
                words(&[mount, "--options-source", "disable", "-o", &format!("remount,bind,{options}"), "--", target]);
            }
            Self::Remount { target, options, mount_point_only } => {
                let how = if *mount_point_only { "remount,bind" } else { "remount" };
                let options = if options.is_empty() { how.to_owned() } else { format!("{how},{options}") };
                words(&[mount, "-i", "--options-source", "disable", "-o", &options, "--", target]);
            }
            Self::Move { source, target } => words(&[mount, "--move", "--", source, target]),
            Self::SetPropagation { target, propagation } => {
                let r = if propagation.recursive { "r" } else { "" };
                words(&[mount, &format!("--make-{r}{}", propagation.kind.name()), "--", target]);
            }
            Self::Unmount { target, mode, helper } => {
                words(&[&programs.umount, "--no-canonicalize"]);
                for (flag, set) in [("-i", !helper), ("-l", mode.lazy), ("-f", mode.force), ("-R", mode.recursive)] {
                    if set {
                        words(&[flag]);
                    }
                }
                words(&["--", target]);
            }
        }
        argv
    }
}

/// What a bind is remounted with: the options of the request and, since mount(2) replaces all per-mount flags at once,
/// the restrictions of the mount that the source lies on, unless the request takes them back by name.
fn bind_options(requested: &Options, covering: Option<u64>, snapshot: &Snapshot) -> Options {
    let table = snapshot.table().ok();
    let inherited = covering.and_then(|id| table.and_then(|table| table.by_id(id)));
    let mut options = Options::default();
    for (strict, lax) in crate::options::RESTRICTIONS {
        let is_inherited = inherited.is_some_and(|mount| mount.options().any(|option| *option == *strict.as_bytes()));
        if is_inherited && requested.last_of(strict, lax).is_none() {
            options.push(MountOption::flag(strict));
        }
    }
    for option in requested.iter() {
        options.push(option.clone());
    }
    options
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
    use crate::mount_table::MountTable;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("/mnt/x"), "/mnt/x");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_bind_keeps_the_restrictions_of_its_source() {
        let table = MountTable::parse(b"7 1 0:1 / /a ro,nosuid,nodev - tmpfs t rw\n".to_vec()).expect("small");
        let snapshot = Snapshot::of(table);
        let options = bind_options(&Options::parse("noexec,dev"), Some(7), &snapshot);
        assert_eq!(options.to_string(), "ro,nosuid,noexec,dev");
    }
}
