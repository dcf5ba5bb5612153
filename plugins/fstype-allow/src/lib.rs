//! Denies every file system type that isn't listed.

use mountgate_sdk::{Code, Kind, Mounts, Operation, Policy, Problem, Review, Verdict, deny_with_hint};
use schemars::JsonSchema;
use serde::Deserialize;

/// The settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The types that may be mounted, by their exact names.
    pub allow: Vec<String>,
}

const FSTYPE_NOT_ALLOWED: Code = Code::new("fstype-not-allowed");

/// The plugin.
pub struct FstypeAllow;

impl Policy for FstypeAllow {
    const NAME: &'static str = "fstype-allow";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KIND: Kind = Kind::Validating;
    const HELP: &'static str = "denies file system types that aren't listed";
    const CODES: &'static [Code] = &[FSTYPE_NOT_ALLOWED];
    type Settings = Settings;

    fn problems(settings: &Settings) -> Vec<Problem> {
        let empty = settings.allow.iter().enumerate().filter(|(_, fstype)| fstype.is_empty());
        empty.map(|(i, _)| Problem { path: format!("allow[{i}]"), message: "it's empty".to_owned() }).collect()
    }

    fn evaluate(settings: &Settings, review: &Review, _: &impl Mounts) -> Result<Verdict, String> {
        // Other operations add no file system.
        let Operation::Mount = review.request.operation else { return Ok(Verdict::Allow) };
        let fstype = review.request.fstype.as_deref().unwrap_or_default();
        if settings.allow.iter().any(|allowed| allowed == fstype) {
            return Ok(Verdict::Allow);
        }
        Ok(deny_with_hint(
            &FSTYPE_NOT_ALLOWED,
            "fstype",
            format!("file systems of type {fstype} may not be mounted"),
            format!("allowed are: {}", settings.allow.join(", ")),
        ))
    }
}

mountgate_sdk::export!(FstypeAllow);

#[cfg(test)]
mod tests {
    use mountgate_sdk::MountList;
    use mountgate_sdk::testing::{bind, mount};

    use super::*;

    fn is_allowed(review: &Review) -> bool {
        let settings = Settings { allow: vec!["tmpfs".to_owned()] };
        FstypeAllow::evaluate(&settings, review, &MountList::default()) == Ok(Verdict::Allow)
    }

    #[test]
    fn only_listed_types_are_mounted() {
        assert!(is_allowed(&mount("tmpfs", "tmpfs", "/mnt")));
        assert!(!is_allowed(&mount("ext4", "/dev/sda1", "/mnt")));
        assert!(!is_allowed(&mount("tmpfs2", "x", "/mnt")));
    }

    #[test]
    fn a_bind_brings_no_new_file_system() {
        assert!(is_allowed(&bind("/a", "/mnt")));
    }
}
