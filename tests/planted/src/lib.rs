//! A plugin with bugs of many kinds, one at a time: `bug` names it, and `clean` takes it out. The fuzzer is measured with it.
//!
//! The first half may be looked at while the fuzzer is tuned. The second half is frozen: it tells what the fuzzer is worth on bugs that
//! nobody has tuned it for.

mod frozen;
mod open;

use mountgate_sdk::{Code, Kind, Mounts, Policy, Review, Verdict};
use schemars::JsonSchema;
use serde::Deserialize;

/// The settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Which bug it has.
    bug: String,
    /// Whether it's taken out.
    #[serde(default)]
    clean: bool,
}

/// What a bug does.
pub(crate) enum Effect {
    /// Nothing: the request has nothing to do with it.
    None,
    /// It traps.
    Trap,
    /// It answers this.
    Answer(Verdict),
}

impl From<bool> for Effect {
    fn from(is_met: bool) -> Self {
        if is_met { Self::Trap } else { Self::None }
    }
}

/// A bug: what it does with a request.
pub(crate) type Bug = fn(&Review) -> Effect;

/// The plugin.
pub struct Planted;

impl Policy for Planted {
    const NAME: &'static str = "planted-bugs";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KIND: Kind = Kind::Mutating;
    const HELP: &'static str = "has a bug";
    const CODES: &'static [Code] = &[];
    const CHANGES: &'static [&'static str] = &["options"];
    type Settings = Settings;

    fn evaluate(settings: &Settings, review: &Review, _: &impl Mounts) -> Result<Verdict, String> {
        let bugs = open::BUGS.iter().chain(&frozen::BUGS);
        let bug = bugs.copied().find(|(name, _)| *name == settings.bug).map(|(_, bug)| bug);
        let bug = bug.ok_or_else(|| format!("there is no bug {}", settings.bug))?;
        // These do what they do before they answer.
        if settings.clean && ["loop-on-a-path", "quadratic-fuel"].contains(&settings.bug.as_str()) {
            return Ok(Verdict::Allow);
        }
        match bug(review) {
            Effect::None => Ok(Verdict::Allow),
            _ if settings.clean => Ok(Verdict::Allow),
            Effect::Trap => panic!("the bug {}", settings.bug),
            Effect::Answer(verdict) => Ok(verdict),
        }
    }
}

mountgate_sdk::export!(Planted);
