//! A mount by the host's own mount(8), for types with a helper and for options that mount(8) carries out.

use crate::decision::approved::Approved;
use crate::host::root::HostRoot;
use crate::model::options::Options;
use crate::model::own_options::is_own;
use crate::model::refusals::Refusals;
use crate::model::rules::{Helper, HostRules, ScopeRule};

/// A mount by the host's own mount(8), for types with a helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HelperMount {
    /// The host's mount(8), and systemd-run(1) where a scope is wanted.
    pub(crate) mount: String,
    pub(crate) scope: Option<Scope>,
    /// Whether `mount.TYPE` may run.
    pub(crate) helper: bool,
    pub(crate) fstype: String,
    /// The type that is there afterwards.
    pub(crate) makes: String,
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
    /// The command of an approved mount.
    ///
    /// # Errors
    /// When the host lacks a program that it takes.
    pub(super) fn of(
        approved: &Approved<'_>,
        rules: &HostRules,
        fstype: String,
        source: String,
        helper: Option<&Helper>,
        notes: &mut Vec<String>,
    ) -> Result<Self, Refusals> {
        let makes = helper.map_or_else(|| fstype.clone(), |helper| helper.makes.clone());
        let helper = helper.is_some();
        let host = approved.host();
        let target = approved.target().found.path.clone();
        // A decision that is replayed elsewhere has no host to look at.
        let program = |name: &str| match host {
            Some(host) => host.program(name),
            None => Some(name.to_owned()),
        };
        let missing = |name: &str, hint: &'static str| {
            Refusals::one(
                "-t",
                format!("mounting {fstype} needs {name} on the host, and the host has none that can be trusted"),
                Some(hint),
            )
        };
        let mount = program("mount").ok_or_else(|| {
            missing("mount(8)", "mount(8) must be there, belong to root, and be writable by root alone")
        })?;
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
                    ));
                }
                None => None,
            }
        } else {
            None
        };
        if helper && scope.is_none() {
            notes.push(without_scope(&fstype));
        }
        let options = approved.request().options.iter().filter(|option| !is_own(&option.name)).cloned().collect();
        Ok(Self { mount, scope, helper, fstype, makes, source, target, options })
    }

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

/// A note that a helper runs without a scope of its own, and what follows from that.
pub(crate) fn without_scope(fstype: &str) -> String {
    format!(
        "mount.{fstype} runs without a systemd scope of its own: a daemon that it starts ends with the caller's \
         container"
    )
}

/// A name for a scope. It shows the target in the output of `systemctl`, and two callers have different names.
fn unit(target: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let place: String = target.chars().map(plain).take(80).collect();
    format!("mountgate{place}-{}.scope", std::process::id())
}
