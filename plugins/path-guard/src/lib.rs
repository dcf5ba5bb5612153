//! Denies requests by their target and source paths.
//!
//! It judges the paths that the host resolved, component by component. So a symbolic link can't hide a denied path, and
//! `/etc` doesn't match `/etcetera`. A path above a denied path is denied too, because a mount there hides, shows or
//! changes everything below it.

use mountgate_sdk::{Kind, Mounts, Operation, Policy, Problem, Review, Verdict, deny, is_within};
use serde::Deserialize;

/// The settings; `settings.schema.json` describes them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Settings {
    /// If this isn't empty, targets must be at or below one of these paths.
    pub allow_targets: Vec<String>,
    /// No target may be at, below or above one of these paths, and no source of a move.
    pub deny_targets: Vec<String>,
    /// If this isn't empty, sources with a slash must be at or below one of these paths.
    pub allow_sources: Vec<String>,
    /// No source may be at, below or above one of these paths.
    pub deny_sources: Vec<String>,
}

/// The plugin.
pub struct PathGuard;

impl Policy for PathGuard {
    const NAME: &'static str = "path-guard";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KIND: Kind = Kind::Validating;
    const HELP: &'static str = "denies requests by source and target path";
    const SCHEMA: &'static str = include_str!("../settings.schema.json");
    type Settings = Settings;

    fn problems(settings: &Settings) -> Vec<Problem> {
        let mut problems = Vec::new();
        let lists = [
            ("allow-targets", &settings.allow_targets, true),
            ("deny-targets", &settings.deny_targets, true),
            ("allow-sources", &settings.allow_sources, false),
            ("deny-sources", &settings.deny_sources, false),
        ];
        for (name, list, must_be_absolute) in lists {
            for (i, path) in list.iter().enumerate() {
                let message = if path.is_empty() {
                    "it's empty"
                } else if must_be_absolute && !path.starts_with('/') {
                    "it isn't an absolute path"
                } else if path.split('/').any(|part| part == ".." || part == ".") {
                    "it holds `.` or `..`"
                } else {
                    continue;
                };
                problems.push(Problem { path: format!("{name}[{i}]"), message: message.to_owned() });
            }
        }
        problems
    }

    fn evaluate(settings: &Settings, review: &Review, _: &impl Mounts) -> Result<Verdict, String> {
        for (field, place) in places(review) {
            if let Some(denied) = denied(place, &settings.deny_targets) {
                return Ok(deny("target-denied", field, words(place, denied)));
            }
            if !is_allowed(place, &settings.allow_targets) {
                let reason = format!("{place} isn't at or below an allowed target");
                return Ok(deny("target-not-allowed", field, reason));
            }
        }
        for (field, source) in sources(review) {
            // The source itself may be an export of a server, which isn't a path on the host.
            let is_sound =
                if field == "source" { !source.split('/').any(|part| part == "..") } else { is_plain(&source) };
            if !is_sound {
                return Ok(deny("source-not-plain", field, format!("{source} isn't a whole, plain path")));
            }
            if let Some(denied) = denied(&source, &settings.deny_sources) {
                return Ok(deny("source-denied", field, words(&source, denied)));
            }
            if !is_allowed(&source, &settings.allow_sources) {
                let reason = format!("{source} isn't at or below an allowed source");
                return Ok(deny("source-not-allowed", field, reason));
            }
        }
        Ok(Verdict::Allow)
    }
}

/// The places whose mounts change. A move also changes its source.
fn places(review: &Review) -> Vec<(&'static str, &str)> {
    let moved = review.source.as_ref().filter(|_| matches!(review.request.operation, Operation::Move));
    let mut places = vec![("target", review.target.path.as_str())];
    places.extend(moved.map(|source| ("source", source.path.as_str())));
    places
}

/// Whether a path is absolute, without `.`, `..` or an empty component.
fn is_plain(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

/// Every path that is mounted from, with the field that names it. A source without a slash is only a name.
fn sources(review: &Review) -> Vec<(&'static str, String)> {
    let mut sources = Vec::new();
    let written = review.request.source.iter().filter(|source| source.contains('/'));
    match &review.source {
        Some(found) => sources.push(("source", found.path.clone())),
        None => sources.extend(written.map(|source| ("source", source.clone()))),
    }
    for option in &review.request.options {
        let value = option.value.as_deref().unwrap_or_default();
        let (field, list) = match option.name.as_str() {
            "lowerdir" | "lowerdir+" | "datadir+" => ("options.lowerdir", true),
            "upperdir" => ("options.upperdir", false),
            "workdir" => ("options.workdir", false),
            // More devices: of btrfs, the journal of ext4, the journal and the real-time device of xfs.
            "device" | "journal_path" | "logdev" | "rtdev" => ("options.device", false),
            _ => continue,
        };
        let parts = value.split(|c| list && c == ':').filter(|part| !part.is_empty());
        sources.extend(parts.map(|part| (field, part.to_owned())));
    }
    sources
}

/// A denied path that equals this path, or lies above or below it.
fn denied<'s>(path: &str, list: &'s [String]) -> Option<&'s String> {
    list.iter().find(|denied| is_within(path, denied) || is_within(denied, path))
}

fn words(path: &str, denied: &str) -> String {
    match is_within(path, denied) {
        true if path == denied => format!("{path} is denied"),
        true => format!("{path} is denied, as all of {denied}"),
        false => format!("{path} holds {denied}, which is denied"),
    }
}

fn is_allowed(path: &str, list: &[String]) -> bool {
    list.is_empty() || list.iter().any(|allowed| is_within(path, allowed))
}

mountgate_sdk::export!(PathGuard);

#[cfg(test)]
mod tests;
