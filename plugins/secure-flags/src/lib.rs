//! Adds `nosuid`, `nodev`, `noexec`, `ro` or `nosymfollow` to requests, by target, source or file system type.

use mountgate_sdk::{Edit, Kind, MountOption, Mounts, Operation, Policy, Problem, Review, Verdict, is_within};
use serde::Deserialize;

/// The settings; `settings.schema.json` describes them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Each rule that applies adds its flags.
    pub rules: Vec<Rule>,
}

/// Which flags to add, and to which requests. An empty condition excludes no request.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// The flags.
    pub add: Vec<Flag>,
    /// Only targets at or below these paths.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Only sources at or below these paths.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Only these file system types.
    #[serde(default)]
    pub fstypes: Vec<String>,
    /// No targets at or below these paths.
    #[serde(default)]
    pub except_targets: Vec<String>,
    /// No sources at or below these paths.
    #[serde(default)]
    pub except_sources: Vec<String>,
    /// None of these file system types.
    #[serde(default)]
    pub except_fstypes: Vec<String>,
}

/// A flag that takes a right away, see mount(8).
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of the manual page")]
pub enum Flag {
    Ro,
    Nosuid,
    Nodev,
    Noexec,
    Nosymfollow,
}

impl Flag {
    fn pair(self) -> (&'static str, &'static str) {
        match self {
            Self::Ro => ("ro", "rw"),
            Self::Nosuid => ("nosuid", "suid"),
            Self::Nodev => ("nodev", "dev"),
            Self::Noexec => ("noexec", "exec"),
            Self::Nosymfollow => ("nosymfollow", "symfollow"),
        }
    }
}

/// The plugin.
pub struct SecureFlags;

impl Policy for SecureFlags {
    const NAME: &'static str = "secure-flags";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KIND: Kind = Kind::Mutating;
    const HELP: &'static str = "adds nosuid, nodev, noexec, ro or nosymfollow";
    const SCHEMA: &'static str = include_str!("../settings.schema.json");
    type Settings = Settings;

    fn problems(settings: &Settings) -> Vec<Problem> {
        let nothing = settings.rules.iter().enumerate().filter(|(_, rule)| rule.add.is_empty());
        nothing
            .map(|(i, _)| Problem { path: format!("rules[{i}].add"), message: "it adds nothing".to_owned() })
            .collect()
    }

    fn evaluate(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Result<Verdict, String> {
        let takes_flags =
            matches!(review.request.operation, Operation::Mount | Operation::Bind(_) | Operation::Remount(_));
        if !takes_flags {
            return Ok(Verdict::Allow);
        }
        let facts = Facts::of(review, mounts);
        let mut missing: Vec<&str> = Vec::new();
        for rule in settings.rules.iter().filter(|rule| rule.applies(&facts)) {
            for (strict, lax) in rule.add.iter().map(|flag| flag.pair()) {
                if last_of(&review.request.options, strict, lax) != Some(strict) && !missing.contains(&strict) {
                    missing.push(strict);
                }
            }
        }
        if missing.is_empty() {
            return Ok(Verdict::Allow);
        }
        let add = |name: &str| Edit::AddOption(MountOption { name: name.to_owned(), value: None });
        Ok(Verdict::Rewrite(missing.into_iter().map(add).collect()))
    }
}

/// What the conditions of a rule are compared with.
struct Facts {
    target: String,
    source: Option<String>,
    fstype: Option<String>,
}

impl Facts {
    /// A remount request has no source and no type, so they come from the mount.
    fn of(review: &Review, mounts: &impl Mounts) -> Self {
        let request = &review.request;
        let target = review.target.path.clone();
        if let Operation::Remount(_) = request.operation {
            let mount = mounts.covering(&target).filter(|mount| mount.target == target);
            let (source, fstype) = mount.map(|mount| (mount.source, mount.fstype)).unzip();
            return Self { target, source, fstype };
        }
        let found = review.source.as_ref().map(|found| found.path.clone());
        Self { target, source: found.or_else(|| request.source.clone()), fstype: request.fstype.clone() }
    }
}

impl Rule {
    fn applies(&self, facts: &Facts) -> bool {
        let among = |list: &[String], path: Option<&str>| {
            path.is_some_and(|path| list.iter().any(|folder| is_within(path, folder)))
        };
        let (target, source) = (Some(facts.target.as_str()), facts.source.as_deref());
        let is_type = |list: &[String]| facts.fstype.as_ref().is_some_and(|fstype| list.contains(fstype));
        (self.targets.is_empty() || among(&self.targets, target))
            && (self.sources.is_empty() || among(&self.sources, source))
            && (self.fstypes.is_empty() || is_type(&self.fstypes))
            && !among(&self.except_targets, target)
            && !among(&self.except_sources, source)
            && !is_type(&self.except_fstypes)
    }
}

/// Which of two contradicting words counts: the last one.
fn last_of<'w>(options: &[MountOption], one: &'w str, other: &'w str) -> Option<&'w str> {
    options.iter().rev().find_map(|option| match option.name.as_str() {
        name if name == one => Some(one),
        name if name == other => Some(other),
        _ => None,
    })
}

mountgate_sdk::export!(SecureFlags);

#[cfg(test)]
mod tests;
