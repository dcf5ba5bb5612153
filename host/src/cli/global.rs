//! Flags that every command takes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anstream::ColorChoice;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

use super::lent::{self, Caller, Choices};
use crate::error::Error;
use crate::executor::sandbox;
use crate::host::root::HostRoot;
use crate::model::refusals::Refusals;
use crate::model::requester::{Label, Requester};
use crate::policy::cache::Cache;
use crate::policy::directory::open::PolicyDirectory;
use crate::policy::directory::signature::TRUSTED_KEYS;

/// Flags that every command takes.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// The policy directory  [default: /etc/mountgate]
    #[arg(long, global = true, value_name = "DIR", env = "MOUNTGATE_POLICIES")]
    policies: Option<PathBuf>,
    /// The folder where the host's / is mounted  [default: /rootfs if a host is there, else /]
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) host_root: Option<PathBuf>,
    /// A label of the caller, which policies can read. It isn't verified
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(super) label: Vec<Label>,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Say more on stderr: the trace of the decision; twice for debugging
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// Run for real, but in a throw-away user and mount namespace: nothing reaches the host
    #[arg(long, global = true)]
    pub(super) sandbox: bool,
    /// The folder of the keys that policies must be signed with, if it holds any  [default: /etc/mountgate/trusted-keys]
    #[arg(long, global = true, value_name = "DIR", env = "MOUNTGATE_TRUSTED_KEYS")]
    pub(super) trusted_keys: Option<PathBuf>,
    /// Append what happens to the request to this file, one line of JSON each
    #[arg(long, global = true, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// Where compiled plugins are kept; an empty value keeps none  [default: /var/cache/mountgate for root, else the user's own]
    #[arg(long, global = true, value_name = "DIR", env = "MOUNTGATE_CACHE", value_parser = any_path())]
    cache: Option<PathBuf>,
}

/// See `include/linux/proc_ns.h`.
const INITIAL_CGROUP_NAMESPACE: u64 = 0xeffffffb;

impl Global {
    /// The cache of compiled plugins.
    pub(super) fn cache(&self) -> Cache {
        match &self.cache {
            Some(path) if path.as_os_str().is_empty() => Cache::none(),
            Some(path) => Cache::open(path),
            // With lent rights, the caller's own folders are the caller's.
            None => Cache::open(&if lent::how().is_some() { Cache::system_path() } else { Cache::default_path() }),
        }
    }

    /// The policy directory.
    pub(super) fn policies(&self) -> &Path {
        self.policies.as_deref().unwrap_or(Path::new("/etc/mountgate"))
    }

    /// What of this decides about requests, and was chosen.
    pub(super) fn choices(&self) -> Choices {
        let mut choices = Choices::default();
        choices.note_path("--policies", "MOUNTGATE_POLICIES", self.policies.as_ref());
        choices.note_path("--cache", "MOUNTGATE_CACHE", self.cache.as_ref());
        choices.note_path("--trusted-keys", "MOUNTGATE_TRUSTED_KEYS", self.trusted_keys.as_ref());
        choices.note("--host-root", self.host_root.is_some());
        choices.note("--sandbox", self.sandbox);
        choices.note("--audit", self.audit.is_some());
        choices
    }

    /// The flags that the program for registries takes as well.
    pub(super) fn for_registry(&self) -> Vec<OsString> {
        let color = self.color.to_possible_value().map(|value| value.get_name().to_owned());
        let mut flags: Vec<OsString> = ["--color".into(), color.unwrap_or_default().into()].into();
        if self.json {
            flags.push("--json".into());
        }
        for (flag, path) in [("--trusted-keys", &self.trusted_keys), ("--cache", &self.cache)] {
            flags.extend(path.iter().flat_map(|path| [flag.into(), path.clone().into_os_string()]));
        }
        flags
    }

    /// Whether output has colours.
    pub(super) fn color_choice(&self) -> ColorChoice {
        match self.color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        }
    }

    /// The host that a command is about. A sandbox is entered here, while the process has one thread only: a process with
    /// more can't enter a user namespace.
    ///
    /// What is learned about the host's mounts is kept in the cache.
    pub(super) fn open_host(&self, cache: &Cache) -> Result<Arc<HostRoot>, Error> {
        // The next sandbox has other mounts.
        let host = if self.sandbox { sandbox::enter()? } else { self.find_host()?.keeping_in(cache.private_folder()) };
        Ok(Arc::new(host))
    }

    /// The host that `--host-root` names, or the one that is found without it.
    pub(super) fn find_host(&self) -> Result<HostRoot, Error> {
        Ok(HostRoot::open(&self.host_root.clone().unwrap_or_else(HostRoot::default_folder))?)
    }

    /// Who asks, with the labels that it gives, and with all that policies are for.
    ///
    /// # Errors
    /// When that isn't known; or when a policy is for a control group, and that of the caller isn't known.
    pub(super) fn requester_for(&self, directory: &PolicyDirectory) -> Result<Requester, Error> {
        let is_asked_for = directory.policies.iter().any(|entry| entry.is_for_a_cgroup());
        let cgroup = is_asked_for.then(|| self.cgroup()).transpose()?;
        let Caller { uid, gid, groups } = lent::caller()?;
        Ok(Requester { uid, gid, groups, pid: std::process::id(), cgroup, labels: self.label.clone() })
    }

    /// The control group of this process, as the host names it: what a caller starts is in its group.
    fn cgroup(&self) -> Result<String, Error> {
        let unknown = |why: &str| {
            let message = format!("a policy is for a control group, and that of the caller isn't known: {why}");
            Error::from(Refusals::one(
                "requester",
                message,
                Some("run it in the host's cgroup namespace (cgroup_namespaces(7))"),
            ))
        };
        let host = self.host_root.clone().unwrap_or_else(HostRoot::default_folder);
        let inode = |path: &Path| rustix::fs::stat(path).map(|found| found.st_ino);
        let own = inode(Path::new("/proc/self/ns/cgroup")).map_err(|errno| unknown(&errno.to_string()))?;
        // Paths are relative to the namespace.
        if own != INITIAL_CGROUP_NAMESPACE && inode(&host.join("proc/1/ns/cgroup")) != Ok(own) {
            return Err(unknown("this process is in another cgroup namespace than the host"));
        }
        let text = std::fs::read_to_string("/proc/self/cgroup").map_err(|error| unknown(&error.to_string()))?;
        let group = text.lines().find_map(|line| line.strip_prefix("0::"));
        group.map(str::to_owned).ok_or_else(|| unknown("there is no unified hierarchy (cgroup v2)"))
    }

    /// A policy directory, checked.
    pub(super) fn open_directory(&self, path: &Path, cache: &Cache) -> Result<PolicyDirectory, Error> {
        let keys = self.trusted_keys.as_deref().unwrap_or(Path::new(TRUSTED_KEYS));
        Ok(PolicyDirectory::open_signed(path, cache, keys)?)
    }

    /// The policy directory, checked, and the cache of its plugins.
    pub(super) fn open_policies(&self) -> Result<(PolicyDirectory, Cache), Error> {
        let cache = self.cache();
        let mut directory = self.open_directory(self.policies(), &cache)?;
        if self.audit.is_some() {
            directory.host.audit.clone_from(&self.audit);
        }
        Ok((directory, cache))
    }
}

/// A path that may be empty.
fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}
