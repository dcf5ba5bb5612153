//! What must hold for every decision, whatever the request.

use std::fmt;

use super::input::Input;
use crate::decision::ruling::{Decision, Ruling};
use crate::decision::trace::{Phase, TraceEntry};
use crate::model::edit::{Edit, OwnedEdit};
use crate::model::ends::ResolvedPath;
use crate::model::failure::FailureKind;
use crate::model::paths::is_within;

/// What a policy did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oracle {
    /// The policy failed.
    Failed(FailureKind),
    /// The policy asked for more memory than it may have.
    HitLimit,
    /// The same input got two different verdicts.
    TwoVerdicts,
    /// A request was allowed, and the same request with one more restriction denied.
    RestrictionDenied,
    /// A request was denied, and allowed with an end that is written under another name.
    TwoNames,
    /// The fuel grew faster than the request.
    FuelGrows,
    /// A rewrite changed the request again when it was applied a second time.
    NotIdempotent,
    /// A rewrite made the request show or cover more than was asked for.
    Widened,
    /// The policies allow what a property denies.
    PropertyViolated,
    /// The plugin failed over settings that it was to prepare.
    PrepareFailed,
    /// The plugin accepted settings, and failed over a request with them.
    SettingsUnusable,
}

impl Oracle {
    /// A short word for it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Failed(kind) => kind.code(),
            Self::HitLimit => "hit-limit",
            Self::TwoVerdicts => "two-verdicts",
            Self::RestrictionDenied => "restriction-denied",
            Self::TwoNames => "two-names",
            Self::FuelGrows => "fuel-grows",
            Self::NotIdempotent => "not-idempotent",
            Self::Widened => "widened",
            Self::PropertyViolated => "property-violated",
            Self::PrepareFailed => "prepare-failed",
            Self::SettingsUnusable => "settings-unusable",
        }
    }

    /// Whether settings that were accepted mustn't lead to it. A policy may say that a path of its settings leads nowhere.
    pub(super) fn is_of_settings(self) -> bool {
        matches!(self, Self::Failed(kind) if kind != FailureKind::GaveUp && kind != FailureKind::NotPermitted && kind != FailureKind::HostRefused)
    }

    /// What must be decided to see it.
    pub(super) fn extent(self) -> Extent {
        match self {
            Self::TwoVerdicts | Self::RestrictionDenied | Self::TwoNames => Extent::Pair,
            Self::FuelGrows => Extent::Growth,
            _ => Extent::One,
        }
    }
}

/// What is decided to see whether something is wrong with an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// The input.
    One,
    /// And others that it's compared with.
    Pair,
    /// And larger and larger ones.
    Growth,
}

/// The codes of all oracles, and what they mean.
pub const EXPLAINED: [(&str, &str); 21] = [
    (
        "trap",
        "The plugin ended in a trap: a panic, an index out of range, an exception. The request was denied. Handle that input.",
    ),
    (
        "fuel",
        "The plugin used all its fuel: a loop without end, or more work than its limit allows. Bound the work, or raise `fuel`.",
    ),
    ("memory", "The plugin wanted more memory than it may have, and failed. Bound what it keeps, or raise `memory`."),
    (
        "hit-limit",
        "The plugin wanted more memory than it may have, and went on without. Its verdict may depend on the limit.",
    ),
    ("stack", "The plugin called itself too deeply. Replace the recursion, or bound its depth."),
    ("host-calls", "The plugin asked the mount table too often. Ask for lists in one call."),
    (
        "malformed",
        "The verdict can't be used: a denial without a reason, a code that isn't in kebab case, control characters.",
    ),
    ("gave-up", "The plugin answered with an error. The request was denied. Give a verdict instead."),
    ("not-permitted", "The plugin rewrote a field that isn't among `rewrites` of the policy."),
    ("weakened", "The plugin took a restriction away that the request had, such as `nosuid`. No policy may do that."),
    ("host-refused", "The plugin made a request of it that the host refuses."),
    ("not-converged", "The policies undo each other's rewrites, and the request never settles."),
    (
        "not-idempotent",
        "The rewrite changed the request again when it was applied to its own result. Applied twice, it must change nothing.",
    ),
    (
        "widened",
        "The rewrite set the source or the target to a folder above the one of the request: it shows or covers more than was asked for, and than \
         the policies before it have judged.",
    ),
    (
        "prepare-failed",
        "The plugin failed over settings that it was to check, in a trap or at a limit. Name what is wrong with them instead.",
    ),
    (
        "settings-unusable",
        "The plugin accepted settings, and failed over a request with them. Refuse such settings in `prepare`, or handle them.",
    ),
    (
        "property-violated",
        "The policies allow a request that a policy in `properties` denies. Either the policies allow too much, or the property says too much.",
    ),
    (
        "two-verdicts",
        "The same request got two verdicts; process id and mount ids differed, on which no verdict may depend.",
    ),
    (
        "two-names",
        "A request was denied, and allowed with its source or target written as a link to the same place. Judge `source.path`, `target.path` \
         and locations, not what the request says.",
    ),
    (
        "fuel-grows",
        "Twice as much of something in a request takes far more than twice the fuel: a caller can make decisions slow, or fail. Look for loops \
         within loops, and for searches in a list that is searched again for each element.",
    ),
    (
        "restriction-denied",
        "A request was allowed, and denied with `ro`, `nosuid`, `nodev` or `noexec` in addition. Whoever asks for less than is allowed should \
         get it. Where that is meant, use `--without restriction-denied`.",
    ),
];

/// Something wrong, by whom.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct Symptom {
    pub policy: String,
    pub oracle: Oracle,
    pub message: String,
    /// What tells it from others of its kind: the same cause is one finding.
    pub(super) cause: String,
}

impl Symptom {
    /// A fault of a policy with other settings than its own.
    pub(crate) fn of_settings(policy: &str, oracle: Oracle, message: String) -> Self {
        Self { policy: policy.to_owned(), oracle, message, cause: String::new() }
    }

    /// Whether it's the same fault of the same policy.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.is_of_kind(other) && self.cause == other.cause
    }

    /// Whether it's the same kind of fault of the same policy.
    pub(crate) fn is_of_kind(&self, other: &Self) -> bool {
        self.policy == other.policy && self.oracle == other.oracle
    }
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.policy, self.message, self.oracle.code())
    }
}

/// Judges one decision.
pub(super) fn judge(input: &Input, decision: &Decision) -> Vec<Symptom> {
    let mut symptoms = Vec::new();
    if let Ruling::Fail { policy, failure } = &decision.ruling {
        let message = failure.message.clone();
        // Where it trapped tells traps apart; what the request says doesn't.
        let cause = if failure.kind == FailureKind::Trap { without_particulars(&message) } else { String::new() };
        symptoms.push(Symptom { policy: policy.clone(), oracle: Oracle::Failed(failure.kind), message, cause });
        return symptoms;
    }
    if let Some(entry) = decision.trace.iter().find(|entry| entry.hit_limit) {
        let message = "it wanted more memory than it may have, and went on without".to_owned();
        symptoms.push(Symptom {
            policy: entry.policy.clone(),
            oracle: Oracle::HitLimit,
            message,
            cause: String::new(),
        });
    }
    symptoms.extend(not_idempotent(decision));
    symptoms.extend(widened(input, decision));
    symptoms
}

/// Which of the names of a place lies below another path, if that isn't just where the place is.
fn what_is_below<'n>(names: &'n [String], path: &str) -> Option<&'n String> {
    let is_there = names.iter().any(|name| is_within(name, path) && is_within(path, name));
    names.iter().find(|name| name.starts_with('/') && is_within(name, path) && !is_there)
}

/// The first rewrite that sets an end to a folder above what it was, by its name or by where that leads.
fn widened(input: &Input, decision: &Decision) -> Option<Symptom> {
    let real = |found: Option<&ResolvedPath>| found.map(|found| found.path.clone());
    let mut source: Vec<String> = input.request.source.iter().cloned().chain(real(input.source.as_ref())).collect();
    let mut target = vec![input.request.target.clone(), input.target.path.clone()];
    for OwnedEdit { policy, edit } in &decision.edits {
        let (end, before, after, more) = match edit {
            Edit::SetSource(after) => ("source", &mut source, after, "shows"),
            Edit::SetTarget(after) => ("target", &mut target, after, "covers"),
            _ => continue,
        };
        if let Some(before) = what_is_below(before, after) {
            return Some(Symptom {
                policy: policy.clone(),
                oracle: Oracle::Widened,
                message: format!("it changed the {end} {before} to {after}, which {more} more than was asked for"),
                cause: end.to_owned(),
            });
        }
        *before = vec![after.clone()];
    }
    None
}

/// What the decision of the properties says of an allowed request. One that can't judge it doesn't hold either.
pub(super) fn property(judged: &Decision) -> Option<Symptom> {
    match &judged.ruling {
        Ruling::Allow(_) => None,
        Ruling::Deny { policy, denial } => Some(Symptom {
            policy: policy.clone(),
            oracle: Oracle::PropertyViolated,
            message: format!("the policies allow what this property denies: {} ({})", denial.reason, denial.code),
            cause: denial.code.clone(),
        }),
        Ruling::Fail { policy, failure } => Some(Symptom {
            policy: policy.clone(),
            oracle: Oracle::PropertyViolated,
            message: format!("this property can't judge what the policies allow: {}", failure.message),
            cause: failure.kind.code().to_owned(),
        }),
    }
}

/// A message without its numbers, but for those of a place in a source, and without what is in quotes.
fn without_particulars(message: &str) -> String {
    let mut kept = String::new();
    let mut quote = None;
    let mut before = ' ';
    for c in message.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '`') => quote = Some(c),
            (None, c) if c.is_ascii_digit() && before != ':' && !kept.ends_with(|c: char| c.is_ascii_digit()) => {}
            (None, c) => kept.push(c),
        }
        before = c;
    }
    kept
}

/// Where one policy rewrites, the second round must change nothing, and there must be no third.
fn not_idempotent(decision: &Decision) -> Option<Symptom> {
    let rounds = decision.trace.iter().filter_map(|entry| entry.round).max()?;
    let rewrites = |entry: &&TraceEntry| entry.phase == Phase::Mutate && entry.verdict == "rewrite";
    let mut writers: Vec<&str> = decision.trace.iter().filter(rewrites).map(|entry| entry.policy.as_str()).collect();
    writers.dedup();
    match writers.as_slice() {
        [policy] if rounds > 2 => Some(Symptom {
            policy: (*policy).to_owned(),
            oracle: Oracle::NotIdempotent,
            message: "its rewrite changed the request again when it was applied a second time".to_owned(),
            cause: String::new(),
        }),
        _ => None,
    }
}

/// Whether two decisions have the same verdicts. What fails for want of fuel, stack or memory says nothing: an instrumented plugin needs
/// more of the first two, and is asked for less of the last.
pub(super) fn agree(one: Option<&Decision>, other: Option<&Decision>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return one.is_none() && other.is_none() };
    let is_short_of = [FailureKind::Fuel, FailureKind::Stack, FailureKind::Memory];
    let ends_early = |decision: &Decision| matches!(&decision.ruling, Ruling::Fail { failure, .. } if is_short_of.contains(&failure.kind));
    let verdicts = |decision: &Decision| -> Vec<_> {
        let of = |entry: &TraceEntry| (entry.policy.clone(), entry.verdict, entry.denial.clone(), entry.edits.clone());
        decision.trace.iter().map(of).collect()
    };
    ends_early(one) || ends_early(other) || verdicts(one) == verdicts(other)
}

/// What is wrong if a request is allowed, and denied with this flag as well. Whoever asks for less than is allowed should get it.
pub(super) fn compare_restricted(one: &Decision, restricted: &Decision, flag: &str) -> Option<Symptom> {
    match (&one.ruling, &restricted.ruling) {
        (Ruling::Allow(_), Ruling::Deny { policy, denial }) => Some(Symptom {
            policy: policy.clone(),
            oracle: Oracle::RestrictionDenied,
            message: format!("it denied with {flag} what it allowed without ({})", denial.code),
            cause: denial.code.clone(),
        }),
        _ => None,
    }
}

/// What is wrong if a request is denied, and allowed with the same end under another name.
pub(super) fn compare_renamed(one: &Decision, renamed: &Decision, end: &str) -> Option<Symptom> {
    match (&one.ruling, &renamed.ruling) {
        (Ruling::Deny { policy, denial }, Ruling::Allow(_)) => Some(Symptom {
            policy: policy.clone(),
            oracle: Oracle::TwoNames,
            message: format!("it allowed with a link to the {end} what it denied without ({})", denial.code),
            cause: denial.code.clone(),
        }),
        _ => None,
    }
}

/// The policy whose fuel grows faster than what there are so many of in three decisions, each time twice as many.
pub(super) fn compare_growth(decisions: [&Decision; 3], counts: [usize; 3], what: &str) -> Option<Symptom> {
    let fuel = |decision: &Decision, policy: &str| -> u64 {
        // More rounds are other decisions, not more work.
        decision.trace.iter().filter(|entry| entry.policy == policy).map(|entry| entry.fuel).max().unwrap_or(0)
    };
    decisions[2].trace.iter().find_map(|entry| {
        let fuels = decisions.map(|decision| fuel(decision, &entry.policy));
        let [first, second] = [fuels[1].checked_sub(fuels[0])?, fuels[2].checked_sub(fuels[1])?];
        // Linear growth doubles the step, quadratic growth makes it four times as large. A step that is small beside the whole, such as a
        // collection of garbage, is none.
        let is_large = second > MUCH_FUEL && second.saturating_mul(3) > fuels[1];
        (is_large && second > first.saturating_mul(3)).then(|| Symptom {
            policy: entry.policy.clone(),
            oracle: Oracle::FuelGrows,
            message: format!("it took {}, {} and {} units of fuel for {counts:?} {what}", fuels[0], fuels[1], fuels[2]),
            cause: what.to_owned(),
        })
    })
}

/// Less than this isn't worth a word, in units of fuel.
const MUCH_FUEL: u64 = 50_000;

/// Compares two decisions about inputs that differ in nothing that a verdict may depend on.
pub(super) fn compare(one: &Decision, other: &Decision) -> Option<Symptom> {
    let differs =
        one.trace.iter().zip(&other.trace).find(|(one, other)| {
            (one.verdict, &one.denial, &one.edits) != (other.verdict, &other.denial, &other.edits)
        });
    let (one, other) = differs?;
    Some(Symptom {
        policy: one.policy.clone(),
        oracle: Oracle::TwoVerdicts,
        message: format!(
            "it answered {} and {} to the same request from processes with different ids",
            one.verdict, other.verdict
        ),
        cause: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_name_leads_is_not_above_it() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(what_is_below(&names(&["/srv/a/b", "/mnt"]), "/srv/a").map(String::as_str), Some("/srv/a/b"));
        assert_eq!(what_is_below(&names(&["/srv/a/link", "/srv/a"]), "/srv/a"), None);
        assert_eq!(what_is_below(&names(&["server", "/srv/ab"]), "/srv/a"), None);
    }

    #[test]
    fn causes_have_no_particulars() {
        let cause = without_particulars("panicked at src/lib.rs:17:9: no \"/mnt/7\" among 12 of `x`");
        assert_eq!(cause, "panicked at src/lib.rs:17:9: no  among  of ");
    }

    #[test]
    fn each_oracle_is_explained() {
        let failures = [
            FailureKind::Trap,
            FailureKind::Fuel,
            FailureKind::Memory,
            FailureKind::Stack,
            FailureKind::HostCalls,
            FailureKind::Malformed,
            FailureKind::GaveUp,
            FailureKind::NotPermitted,
            FailureKind::Weakened,
            FailureKind::HostRefused,
            FailureKind::NotConverged,
        ];
        let others = [
            Oracle::HitLimit,
            Oracle::TwoNames,
            Oracle::FuelGrows,
            Oracle::NotIdempotent,
            Oracle::Widened,
            Oracle::PropertyViolated,
            Oracle::PrepareFailed,
            Oracle::SettingsUnusable,
            Oracle::TwoVerdicts,
            Oracle::RestrictionDenied,
        ];
        let mut codes: Vec<&str> = failures.map(Oracle::Failed).into_iter().chain(others).map(Oracle::code).collect();
        let mut explained: Vec<&str> = EXPLAINED.iter().map(|(code, _)| *code).collect();
        codes.sort_unstable();
        explained.sort_unstable();
        assert_eq!(codes, explained);
    }
}
