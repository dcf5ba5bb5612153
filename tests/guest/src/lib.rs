//! A plugin that does what its settings tell it to, right or wrong, to show that the host holds.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

use mountgate_sdk::{
    Code, Denial, Edit, Kind, MountOption, Mounts, Observer, Outcome, Policy, Review, Status, Verdict, deny, is_within,
    log,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// What to do, and when.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The first that applies is done; without one, the request is allowed.
    pub rules: Vec<Rule>,
}

/// One misdeed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// Only for targets at or below this path.
    #[serde(default)]
    pub target: Option<String>,
    /// Only with an option of this name.
    #[serde(default)]
    pub option: Option<String>,
    /// What to do.
    pub act: Act,
    /// The paths that `judge-names` denies.
    #[serde(default)]
    pub names: Vec<String>,
}

/// A misdeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each does what it's called")]
pub enum Act {
    Trap,
    Loop,
    TakeMemory,
    Recurse,
    AnswerWith100Mb,
    TwoVerdicts,
    NeverSettle,
    DropNosuid,
    ChangeTarget,
    ChangeTargetToProc,
    DenyWithoutReason,
    CallWithoutEnd,
    FloodTheLog,
    GiveUp,
    Deny,
    DriveTheTerminal,
    /// Traps the second time that an instance is asked.
    JudgeOnce,
    /// Never frees a million bytes.
    KeepMemory,
    /// Denies what lies above, at or below some paths, by its name alone.
    JudgeNames,
    /// Writes to the log how a request ended.
    Observe,
    /// Traps when it's told how a request ended.
    ObserveAndTrap,
}

const NAME_DENIED: Code = Code::new("name-denied");
const TOLD_TO: Code = Code::new("told-to");

/// Whether this instance was asked before.
static JUDGED: AtomicBool = AtomicBool::new(false);

/// The plugin.
pub struct Misbehaving;

impl Policy for Misbehaving {
    const NAME: &'static str = "misbehaving-guest";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KIND: Kind = Kind::Mutating;
    const HELP: &'static str = "does what its settings tell it to";
    const CODES: &'static [Code] = &[NAME_DENIED, TOLD_TO];
    type Settings = Settings;

    fn evaluate(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Result<Verdict, String> {
        let Some(rule) = settings.rules.iter().find(|rule| rule.applies(review)) else { return Ok(Verdict::Allow) };
        if let Act::JudgeNames = rule.act {
            return Ok(judge_names(&rule.names, review));
        }
        misbehave(rule.act, review, mounts)
    }

    fn observer<M: Mounts>(settings: &Settings) -> Option<Observer<Settings, M>> {
        let told_to = |act: Act| settings.rules.iter().any(|rule| rule.act == act);
        match (told_to(Act::Observe), told_to(Act::ObserveAndTrap)) {
            (_, true) => Some(|_, _, _| unreachable!("as told")),
            (true, _) => Some(observe),
            _ => None,
        }
    }
}

fn observe(_: &Settings, outcome: &Outcome, mounts: &impl Mounts) {
    let how = match &outcome.status {
        Status::Applied(_) => "applied",
        Status::Failed(_) => "failed",
        Status::Denied(_) => "denied",
    };
    let covered = mounts.covering(&outcome.request.target).map(|mount| mount.target).unwrap_or_default();
    log::write(log::Level::Warn, &format!("{how}; {} is on {covered}", outcome.request.target), &[]);
}

impl Rule {
    fn applies(&self, review: &Review) -> bool {
        let at_target = self.target.as_deref().is_none_or(|target| is_within(&review.target.path, target));
        let named = |name: &str| review.request.options.iter().any(|option| option.name == name);
        at_target && self.option.as_deref().is_none_or(named)
    }
}

/// How a policy judges that compares the names of a request, and not what they stand for.
fn judge_names(denied: &[String], review: &Review) -> Verdict {
    let ends = [Some(&review.target), review.source.as_ref()];
    let is_denied = |path: &str| denied.iter().any(|denied| is_within(path, denied) || is_within(denied, path));
    match ends.into_iter().flatten().find(|end| is_denied(&end.path)) {
        Some(end) => deny(&NAME_DENIED, "target", format!("{} is denied", end.path)),
        None => Verdict::Allow,
    }
}

#[expect(clippy::panic, reason = "that's what it's told to do")]
fn misbehave(act: Act, review: &Review, mounts: &impl Mounts) -> Result<Verdict, String> {
    let add = |name: &str| Edit::AddOption(MountOption { name: name.to_owned(), value: None });
    let no = || deny(&TOLD_TO, "target", "it was told to");
    Ok(match act {
        Act::Trap => panic!("as told"),
        Act::Loop => loop {
            black_box(0);
        },
        Act::TakeMemory => {
            let mut taken = Vec::new();
            loop {
                taken.push(black_box(Vec::<u8>::with_capacity(1 << 20)));
            }
        }
        Act::Recurse => deny(&TOLD_TO, "target", format!("{}", recurse(black_box(1)))),
        Act::AnswerWith100Mb => deny(&TOLD_TO, "target", "x".repeat(100 << 20)),
        Act::TwoVerdicts if review.requester.pid.is_multiple_of(2) => Verdict::Allow,
        Act::TwoVerdicts | Act::Deny => no(),
        Act::NeverSettle => {
            let last =
                review.request.options.iter().rev().find(|option| matches!(option.name.as_str(), "sync" | "async"));
            let next = if last.is_some_and(|option| option.name == "sync") { "async" } else { "sync" };
            Verdict::Rewrite(vec![add(next)])
        }
        Act::DropNosuid => Verdict::Rewrite(vec![Edit::DropOption("nosuid".to_owned())]),
        Act::ChangeTarget => Verdict::Rewrite(vec![Edit::SetTarget("/srv".to_owned())]),
        Act::ChangeTargetToProc => Verdict::Rewrite(vec![Edit::SetTarget("/proc/sys".to_owned())]),
        Act::DenyWithoutReason => raw_denial(""),
        Act::CallWithoutEnd => loop {
            black_box(mounts.count());
        },
        Act::FloodTheLog => {
            for i in 0..1000 {
                log::write(log::Level::Warn, &format!("line {i}"), &[]);
            }
            Verdict::Allow
        }
        Act::JudgeOnce if JUDGED.swap(true, Ordering::Relaxed) => panic!("asked twice"),
        Act::KeepMemory => {
            black_box(Vec::<u8>::with_capacity(1_000_000).leak());
            Verdict::Allow
        }
        Act::JudgeNames | Act::JudgeOnce | Act::Observe | Act::ObserveAndTrap => Verdict::Allow,
        Act::GiveUp => return Err("it doesn't know".to_owned()),
        Act::DriveTheTerminal => raw_denial("\u{1b}[2J"),
    })
}

/// A denial past the SDK, which would mend it.
fn raw_denial(reason: &str) -> Verdict {
    Verdict::Deny(Denial { code: "told-to".to_owned(), reason: reason.to_owned(), field: None, hint: None })
}

/// Uses stack without end, in a way that can't be made a loop.
#[expect(unconditional_recursion, reason = "that's what it's told to do")]
fn recurse(n: u64) -> u64 {
    recurse(black_box(n + 1)) ^ n
}

mountgate_sdk::export!(Misbehaving);
