//! Denies a mount over an existing mount point, too many mounts below a path or from one source, and a second writable
//! mount of a block device.

use mountgate_sdk::{FileKind, Kind, Mounts, Operation, Policy, Problem, Review, Verdict, deny, is_within};
use serde::Deserialize;

/// The settings; `settings.schema.json` describes them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Settings {
    /// Whether a mount may cover an existing mount point.
    pub allow_stacking: bool,
    /// How many mounts may be below a path.
    pub below: Vec<Below>,
    /// How many mounts one source may have.
    pub max_per_source: Option<u64>,
    /// Whether a block device may be mounted writable more than once.
    pub allow_second_writer: bool,
}

/// A limit on the mounts below a path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct Below {
    pub path: String,
    pub max: u64,
}

/// The plugin.
pub struct MountLimits;

impl Policy for MountLimits {
    const NAME: &'static str = "mount-limits";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KIND: Kind = Kind::Validating;
    const HELP: &'static str = "denies mounts that are too many or in each other's way";
    const SCHEMA: &'static str = include_str!("../settings.schema.json");
    type Settings = Settings;

    fn problems(settings: &Settings) -> Vec<Problem> {
        let relative = settings.below.iter().enumerate().filter(|(_, below)| !below.path.starts_with('/'));
        relative
            .map(|(i, _)| Problem { path: format!("below[{i}].path"), message: "it isn't an absolute path".to_owned() })
            .collect()
    }

    fn evaluate(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Result<Verdict, String> {
        let (Operation::Mount | Operation::Bind(_) | Operation::Move) = review.request.operation else {
            return Ok(Verdict::Allow);
        };
        let target = &review.target.path;
        if !settings.allow_stacking && mounts.covering(target).is_some_and(|mount| mount.target == *target) {
            return Ok(deny("target-is-mount-point", "target", format!("something is already mounted on {target}")));
        }
        for below in settings.below.iter().filter(|below| is_within(target, &below.path) && *target != below.path) {
            let count = mounts.count_below(&below.path);
            if count.saturating_add(brought_along(review, mounts)) >= below.max {
                let reason = format!("there are {count} mounts below {}, and at most {} may be", below.path, below.max);
                return Ok(deny("too-many-below", "target", reason));
            }
        }
        Ok(source_denied(settings, review, mounts).unwrap_or(Verdict::Allow))
    }
}

/// How many mounts below the source are mounted with it.
fn brought_along(review: &Review, mounts: &impl Mounts) -> u64 {
    match (&review.request.operation, &review.source) {
        (Operation::Bind(true) | Operation::Move, Some(source)) => mounts.count_below(&source.path),
        _ => 0,
    }
}

fn source_denied(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Option<Verdict> {
    let Operation::Mount = review.request.operation else { return None };
    let found = review.source.as_ref();
    let source = found.map(|found| &found.path).or(review.request.source.as_ref())?;
    // A source without a slash is only a name. Two tmpfs mounts with the same name aren't related.
    if let Some(max) = settings.max_per_source.filter(|_| source.contains('/')) {
        let count = mounts.count_by_source(source);
        if count >= max {
            let reason = format!("{source} is mounted {count} times, and at most {max} may be");
            return Some(deny("too-many-of-source", "source", reason));
        }
    }
    let device = found.filter(|found| found.kind == FileKind::BlockDevice)?.device?;
    let read_only = review.request.options.iter().rev().find_map(|option| match option.name.as_str() {
        "ro" => Some(true),
        "rw" => Some(false),
        _ => None,
    });
    if settings.allow_second_writer || read_only == Some(true) {
        return None;
    }
    let is_writable = |options: &[String]| !options.iter().any(|option| option == "ro");
    // By number, and also by name: some file systems, such as btrfs, have their own device number.
    let written = review.request.source.as_ref().filter(|written| *written != source);
    let by_name = written.into_iter().chain([source]).flat_map(|name| mounts.by_source(name, 1000));
    let writer = mounts
        .by_device(device, 1000)
        .into_iter()
        .chain(by_name)
        .find(|mount| is_writable(&mount.options) && is_writable(&mount.super_options))?;
    let reason = format!("{source} is already mounted writable on {}", writer.target);
    Some(deny("second-writer", "source", reason))
}

mountgate_sdk::export!(MountLimits);

#[cfg(test)]
mod tests;
