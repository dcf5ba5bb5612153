//! What may stand in `policies.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::digest::digest_of;
use super::entry::{PluginFile, PolicyEntry};
use super::error::DirectoryError;
use super::reader::{CONFIG, Reader};
use super::record::Record;
use super::units::{parse_duration, parse_size};
use crate::model::edit::Field;
use crate::model::hint::Hint;
use crate::model::options::{MountOption, Options};
use crate::model::own_options::{IDMAP, IdMap, is_own, is_x_mount};
use crate::model::paths::lexical;
use crate::model::rules::{Helper, HostRules, ScopeRule, Symlinks, is_helper_type, is_type_name};
use crate::policy::callers::Callers;
use crate::policy::grant::Grant;
use crate::policy::limits::{Limits, MAX_MEMORY};
use crate::policy::mode::Mode;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDirectory {
    #[serde(default)]
    host: RawHost,
    #[serde(default)]
    policy: Vec<RawPolicy>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHost {
    helpers: Vec<Spanned<String>>,
    options: Vec<Spanned<String>>,
    targets: Vec<Spanned<String>>,
    sources: Vec<Spanned<String>>,
    symlinks: Symlinks,
    scope: ScopeRule,
    timeout: Option<Spanned<String>>,
    audit: Option<Spanned<String>>,
    #[serde(rename = "audit-required")]
    audit_required: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    name: Spanned<String>,
    plugin: Spanned<String>,
    sha256: Option<Spanned<String>>,
    #[serde(default)]
    rewrites: Vec<Field>,
    #[serde(default)]
    grants: Vec<Grant>,
    #[serde(rename = "for")]
    callers: Option<Spanned<Callers>>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default, rename = "fuzz-without")]
    fuzz_without: Option<Spanned<BTreeMap<String, String>>>,
    #[serde(default)]
    settings: toml::Table,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    fuel: Option<u64>,
    memory: Option<Spanned<String>>,
    deadline: Option<Spanned<String>>,
}

/// The content of a policy directory.
pub(super) struct Content {
    /// The digest of `policies.toml`.
    pub(super) config: String,
    pub(super) rules: HostRules,
    /// The chain in order, each policy with the digest that `policies.toml` gives.
    pub(super) policies: Vec<(PolicyEntry, Option<WrittenDigest>)>,
}

/// A digest in `policies.toml`.
pub(super) struct WrittenDigest {
    pub(super) text: String,
    pub(super) line: usize,
}

/// Reads the text of `policies.toml`, and the plugins that it lists.
///
/// # Errors
/// The first thing that is wrong with them, apart from digests.
pub(super) fn read(reader: &Reader, text: &str, record: &mut Record) -> Result<Content, DirectoryError> {
    let config = Config { reader, text };
    let raw: RawDirectory = toml::from_str(text).map_err(|error| {
        let message = error.message().to_owned();
        match error.span() {
            Some(span) => config.error(span, message, "docs/policy-directory.md lists every key"),
            None => reader.error(CONFIG, None, message, "docs/policy-directory.md lists every key"),
        }
    })?;
    let rules = config.host_rules(raw.host)?;
    let mut names = BTreeSet::new();
    let mut plugins = BTreeMap::new();
    let mut policies = Vec::new();
    for policy in raw.policy {
        policies.push(config.policy(policy, &mut names, &mut plugins, record)?);
    }
    if policies.is_empty() {
        return Err(reader.error(
            CONFIG,
            None,
            "it lists no policy, and so would allow everything".to_owned(),
            "add a [[policy]]; policies/baseline has examples",
        ));
    }
    reader.check_unlisted(&plugins.into_keys().collect())?;
    Ok(Content { config: digest_of(config.text.as_bytes()), rules, policies })
}

/// The text of `policies.toml`, for the lines in errors.
struct Config<'r> {
    reader: &'r Reader,
    text: &'r str,
}

impl Config<'_> {
    fn line(&self, span: Range<usize>) -> usize {
        self.text[..span.start.min(self.text.len())].matches('\n').count() + 1
    }

    fn error(&self, span: Range<usize>, message: String, hint: impl Into<Hint>) -> DirectoryError {
        self.reader.error(CONFIG, Some(self.line(span)), message, hint)
    }

    /// Checks one policy and opens its plugin, unless another policy has opened it.
    fn policy(
        &self,
        policy: RawPolicy,
        names: &mut BTreeSet<String>,
        plugins: &mut BTreeMap<String, (PluginFile, String)>,
        record: &mut Record,
    ) -> Result<(PolicyEntry, Option<WrittenDigest>), DirectoryError> {
        let span = policy.name.span();
        let name = policy.name.into_inner();
        if name.is_empty() || name.len() > 64 || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            let message = format!("{name:?} can't be the name of a policy");
            return Err(self.error(span, message, "use a short word such as \"protect-system\""));
        }
        if !names.insert(name.clone()) {
            let message = format!("there are two policies named {name:?}");
            return Err(self.error(span, message, "give each a name of its own: traces and errors go by it"));
        }
        let plugin_span = policy.plugin.span();
        let plugin = policy.plugin.into_inner();
        if plugin.contains('/') || !plugin.ends_with(".wasm") {
            let message = format!("plugin {plugin:?} isn't the name of a .wasm file in this directory");
            return Err(self.error(plugin_span, message, "put the plugin beside policies.toml and give its file name"));
        }
        if !plugins.contains_key(&plugin) {
            let opened = self.reader.plugin(&plugin, Some(self.line(plugin_span)), record)?;
            plugins.insert(plugin.clone(), opened);
        }
        let (file, digest) = plugins[&plugin].clone();
        let settings = serde_json::to_string(&policy.settings).map_err(|error| {
            self.error(span.clone(), format!("the settings of {name}: {error}"), "use text, numbers, lists")
        })?;
        let limits = self.limits(policy.limits, &policy.grants)?;
        if let Some(nobody) = policy.callers.as_ref().filter(|callers| callers.get_ref().is_empty()) {
            let message = format!("{name} is `for` nobody in particular");
            return Err(self.error(nobody.span(), message, "name a uid, a gid or a cgroup, or take `for` away"));
        }
        let is_bare = |without: &&Spanned<BTreeMap<String, String>>| {
            without.get_ref().values().any(|reason| reason.trim().is_empty())
        };
        if let Some(bare) = policy.fuzz_without.as_ref().filter(is_bare) {
            let message = format!("`fuzz-without` of {name} leaves findings out and doesn't say why");
            return Err(self.error(
                bare.span(),
                message,
                "write the reason, e.g. { restriction-denied = \"why that is meant\" }",
            ));
        }
        let written = policy.sha256.map(|sha| WrittenDigest { line: self.line(sha.span()), text: sha.into_inner() });
        let entry = PolicyEntry {
            name,
            plugin: self.reader.path.join(&plugin),
            file,
            digest,
            rewrites: policy.rewrites,
            grants: policy.grants,
            callers: policy.callers.map(Spanned::into_inner),
            mode: policy.mode,
            limits,
            fuzz_without: policy.fuzz_without.map(Spanned::into_inner).unwrap_or_default(),
            settings,
            line: self.line(span),
        };
        Ok((entry, written))
    }

    fn host_rules(&self, raw: RawHost) -> Result<HostRules, DirectoryError> {
        let word =
            |text: &str| !text.is_empty() && !text.contains(['=', ',', '/']) && !text.contains(char::is_whitespace);
        let helper = |text: &str| {
            let (fstype, makes) = text.split_once('=').unwrap_or((text, "any"));
            is_helper_type(fstype) && is_type_name(makes)
        };
        // What mount(8) doesn't know of these, it ignores. Those that mountgate carries out itself are never ignored.
        let is_map = |text: &str| MountOption::parse(text).name == IDMAP && IdMap::of(&Options::parse(text)).is_ok();
        let option =
            |text: &str| word(text) && (is_own(text) || !is_x_mount(text)) || text.contains('=') && is_map(text);
        let plain = |text: &str| text.starts_with('/') && lexical(text) == *text && !text.contains("/../");
        let checked = |list: Vec<Spanned<String>>, is_sound: &dyn Fn(&str) -> bool, hint: &'static str| {
            list.into_iter()
                .map(|text| match is_sound(text.get_ref()) {
                    true => Ok(text.into_inner()),
                    false => {
                        let message = format!(
                            "{:?} can't be named here: it would never match, or match too much",
                            text.get_ref()
                        );
                        Err(self.error(text.span(), message, hint))
                    }
                })
                .collect::<Result<Vec<String>, _>>()
        };
        let mut rules = HostRules {
            helpers: checked(
                raw.helpers,
                &helper,
                "write a file system type, as \"nfs\", for FUSE the daemon too, as \"fuse.sshfs\", and where the helper mounts another \
                 type, as \"efs=nfs4\"",
            )?
            .iter()
            .map(|text| Helper::parse(text))
            .collect(),
            options: checked(
                raw.options,
                &option,
                "write an option's name alone, as \"offset\"; of X-mount.*, mountgate carries out X-mount.mkdir and X-mount.idmap alone",
            )?,
            targets: checked(raw.targets, &plain, "write a whole path without `..`, as \"/dev/shm\"")?,
            sources: checked(raw.sources, &plain, "write a whole path without `..`, as \"/usr\"")?,
            symlinks: raw.symlinks,
            scope: raw.scope,
            ..HostRules::default()
        };
        if let Some(audit) = raw.audit {
            if !plain(audit.get_ref()) {
                let message = format!("{:?} isn't a whole path", audit.get_ref());
                return Err(self.error(audit.span(), message, "write it as \"/var/log/mountgate/audit.jsonl\""));
            }
            rules.audit = Some(audit.into_inner().into());
        }
        rules.audit_required = raw.audit_required;
        if let Some(timeout) = raw.timeout {
            rules.timeout = self.duration(&timeout)?;
        }
        Ok(rules)
    }

    fn limits(&self, raw: RawLimits, grants: &[Grant]) -> Result<Limits, DirectoryError> {
        let has_runtime = grants.contains(&Grant::Wasi);
        let mut limits = if has_runtime { Limits::of_a_runtime() } else { Limits::default() };
        if let Some(fuel) = raw.fuel {
            limits.fuel = fuel;
        }
        if let Some(memory) = raw.memory {
            limits.memory = parse_size(memory.get_ref()).filter(|size| *size <= MAX_MEMORY).ok_or_else(|| {
                self.error(
                    memory.span(),
                    format!("{:?} isn't an amount of memory up to 1GiB", memory.get_ref()),
                    "write it as \"16MiB\"",
                )
            })?;
        }
        if let Some(deadline) = raw.deadline {
            limits.deadline = self.duration(&deadline)?;
        }
        Ok(limits)
    }

    fn duration(&self, text: &Spanned<String>) -> Result<Duration, DirectoryError> {
        parse_duration(text.get_ref()).ok_or_else(|| {
            self.error(
                text.span(),
                format!("{:?} isn't a time", text.get_ref()),
                "write it as \"100ms\", \"30s\" or \"2m\"",
            )
        })
    }
}
