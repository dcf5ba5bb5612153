//! An approved request as steps that print as exactly what will be done, with the descriptors of what was approved.

mod attributes;
mod step;

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Duration;

pub(crate) use attributes::Attributes;
pub(crate) use step::{HelperMount, Scope, Step, call, parameter};

use crate::chain::Approved;
use crate::error::Error;
use crate::host_root::HostRoot;
use crate::invariants::{HostRules, Refusals, needs_mount_program};
use crate::options::{MountOption, Options};
use crate::request::{MountRequest, Operation};
use crate::resolve::{End, ResolvedPath};

/// Steps for an executor. Only the chain can make one.
#[derive(Debug)]
pub struct MountPlan {
    steps: Vec<Step>,
    request: MountRequest,
    source: Option<End>,
    target: End,
    timeout: Duration,
    notes: Vec<String>,
}

/// When a systemd scope is asked for, for types with a helper.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScopeRule {
    /// Without one, nothing is mounted.
    Require,
    /// One where the host was booted with systemd and gives one.
    #[default]
    Prefer,
    /// None.
    Never,
}

/// Where a host keeps the programs of util-linux and systemd.
const PROGRAM_FOLDERS: [&str; 5] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/run/current-system/sw/bin"];

impl MountPlan {
    /// The steps for an approved request.
    ///
    /// # Errors
    /// When the host lacks what it would take.
    pub(crate) fn of(approved: Approved<'_>, rules: &HostRules) -> Result<Self, Error> {
        let mut notes = Vec::new();
        let steps = steps(&approved, rules, &mut notes)?;
        let (request, source, target) = approved.into_parts();
        Ok(Self { steps, request, source, target, timeout: rules.timeout, notes })
    }

    /// The request that it carries out, as approved.
    pub fn request(&self) -> &MountRequest {
        &self.request
    }

    /// What somebody who reads the output should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What will be done, one line a call, secrets masked.
    pub fn lines(&self) -> Vec<String> {
        self.steps.iter().flat_map(|step| step.lines(self.target())).collect()
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The real path of the mount point.
    pub(crate) fn target(&self) -> &str {
        &self.target.found.path
    }

    /// What the host found at the source.
    pub(crate) fn found_source(&self) -> Option<&ResolvedPath> {
        self.source.as_ref().map(|end| &end.found)
    }

    /// The descriptors of both ends. A replayed decision has none.
    pub(crate) fn take_pins(&mut self) -> (Option<OwnedFd>, Option<OwnedFd>) {
        (self.source.as_mut().and_then(|end| end.pin.take()), self.target.pin.take())
    }

    /// How long carrying it out may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl fmt::Display for MountPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

fn steps(approved: &Approved<'_>, rules: &HostRules, notes: &mut Vec<String>) -> Result<Vec<Step>, Error> {
    let request = approved.request();
    let source = || match approved.source() {
        Some(end) => end.found.path.clone(),
        None => request.source.clone().unwrap_or_default(),
    };
    Ok(match request.operation {
        Operation::Mount => {
            let fstype = request.fstype.clone().unwrap_or_default();
            let helper = rules.helpers.contains(&fstype);
            if helper || request.options.iter().any(|option| needs_mount_program(&option.name)) {
                vec![Step::Helper(helper_mount(approved, rules, fstype, source(), helper, notes)?)]
            } else {
                let (attributes, parameters) = split(&request.options);
                vec![Step::Mount { fstype, source: source(), parameters, attributes }]
            }
        }
        Operation::Bind { recursive } => {
            vec![Step::Bind { source: source(), recursive, attributes: Attributes::of(&request.options) }]
        }
        Operation::Remount { mount_point_only } => remount(&request.options, mount_point_only),
        Operation::Move => vec![Step::Move { source: source() }],
        Operation::SetPropagation(propagation) => vec![Step::SetPropagation(propagation)],
        Operation::Unmount(mode) => vec![Step::Unmount(mode)],
    })
}

/// Options as what the mount point has and what the file system is told. `ro` is both, as with mount(2); words that
/// only mount(8) has a use for are neither.
fn split(options: &Options) -> (Attributes, Vec<MountOption>) {
    let mut attributes = Attributes::default();
    let mut parameters = Vec::new();
    for option in options.iter() {
        if !attributes.take(option) && !is_comment(&option.name) {
            parameters.push(option.clone());
        }
    }
    if attributes.is_read_only() {
        parameters.push(MountOption::flag("ro"));
    }
    (attributes, parameters)
}

/// Words that say something to programs that read fstab, and nothing to the kernel; see mount(8).
fn is_comment(name: &str) -> bool {
    matches!(name, "defaults" | "_netdev" | "nofail" | "auto" | "noauto" | "comment")
        || name.starts_with("x-")
        || name.starts_with("X-")
}

/// What takes rights away comes first and what gives them back last: a remount that ends in the middle leaves the mount
/// stricter than it was approved, never laxer. Only what is named changes.
fn remount(options: &Options, mount_point_only: bool) -> Vec<Step> {
    let (attributes, mut parameters) = split(options);
    if attributes.is_writable() {
        parameters.push(MountOption::flag("rw"));
    }
    if mount_point_only || parameters.is_empty() {
        return vec![Step::SetAttributes(attributes)];
    }
    let change = |attributes: Attributes| (!attributes.is_empty()).then_some(Step::SetAttributes(attributes));
    [change(attributes.tightening()), Some(Step::Reconfigure { parameters }), change(attributes.loosening())]
        .into_iter()
        .flatten()
        .collect()
}

fn helper_mount(
    approved: &Approved<'_>,
    rules: &HostRules,
    fstype: String,
    source: String,
    helper: bool,
    notes: &mut Vec<String>,
) -> Result<HelperMount, Error> {
    let host = approved.host();
    let target = approved.target().found.path.clone();
    // A decision that is replayed elsewhere has no host to look at.
    let program = |name: &str| match host {
        Some(host) => host.program(name, &PROGRAM_FOLDERS),
        None => Some(name.to_owned()),
    };
    let missing = |name: &str, hint: &str| {
        Refusals::one("-t", format!("mounting {fstype} takes the host's {name}, and it has none to trust"), Some(hint))
    };
    let mount = program("mount")
        .ok_or_else(|| missing("mount(8)", "it must be there, belong to root, and be writable by nobody else"))?;
    let required = rules.scope == ScopeRule::Require;
    let scope = if helper && rules.scope != ScopeRule::Never {
        // systemd knows processes by their numbers in its own PID namespace: elsewhere they are other processes'.
        let knows_us = |host: &HostRoot| host.is_booted_with_systemd() && host.shares_pid_namespace();
        match program("systemd-run").filter(|_| host.is_none_or(knows_us)) {
            Some(program) => Some(Scope { program, unit: unit(&target), required }),
            None if required => {
                return Err(missing(
                    "systemd",
                    "the host wasn't booted with it, systemd-run(1) isn't there, or this process isn't in the host's PID \
                     namespace; [host] scope = \"prefer\" goes without",
                )
                .into());
            }
            None => None,
        }
    } else {
        None
    };
    if helper && scope.is_none() {
        notes.push(without_scope(&fstype));
    }
    let options = approved.request().options.clone();
    Ok(HelperMount { mount, scope, helper, fstype, source, target, options })
}

/// What it means that a helper runs without a scope of its own.
pub(crate) fn without_scope(fstype: &str) -> String {
    format!(
        "mount.{fstype} runs without a systemd scope of its own: a daemon that it starts ends with the caller's \
         container"
    )
}

/// A name for a scope that tells the target to whoever reads `systemctl`, and differs from one caller to the next.
fn unit(target: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let place: String = target.chars().map(plain).take(80).collect();
    format!("mountgate{place}-{}.scope", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_mount_points_or_the_file_systems() {
        let (attributes, parameters) = split(&Options::parse("ro,nosuid,size=1m,_netdev,sync,x-systemd.automount"));
        assert_eq!(attributes.to_string(), "ro,nosuid");
        let words: Vec<String> = parameters.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["size=1m", "sync", "ro"]);
    }

    #[test]
    fn a_remount_tightens_first_and_loosens_last() {
        let lines = |options: &str, only| -> Vec<String> {
            remount(&Options::parse(options), only).iter().flat_map(|step| step.lines("/m")).collect()
        };
        assert_eq!(lines("nosuid,dev", true), ["mount_setattr(/m, nosuid,dev)"]);
        assert_eq!(lines("nosuid", false), ["mount_setattr(/m, nosuid)"]);
        assert_eq!(
            lines("rw,nosuid,size=2m", false),
            [
                "mount_setattr(/m, nosuid)",
                "fspick(/m)",
                "fsconfig(size, 2m)",
                "fsconfig(rw)",
                "fsconfig(FSCONFIG_CMD_RECONFIGURE)",
                "mount_setattr(/m, rw)",
            ]
        );
    }
}
