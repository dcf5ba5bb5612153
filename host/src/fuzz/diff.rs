//! Looks for requests about which two policy directories differ, guided by what the plugins of both reach.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::corpus::Corpus;
use super::coverage::{Counted, Coverage, Feature, compared, reached};
use super::generate::Generator;
use super::input::Input;
use super::judge::decide;
use super::mutate::Mutator;
use super::run::{Plan, Policies};
use super::shrink::shrink;
use crate::decision::ruling::{Decision, Ruling};
use crate::error::Error;
use crate::gate::Gate;
use crate::model::options::MountOption;
use crate::model::request::MountRequest;

/// What a policy directory makes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `allow`, `deny`, `fail` or `refuse`.
    pub word: &'static str,
    /// The policy that denied or failed.
    pub policy: Option<String>,
    /// The code of the denial, the failure or the refusal.
    pub code: Option<String>,
    /// What is carried out, where it's allowed.
    pub request: Option<MountRequest>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.word)?;
        if let Some(policy) = &self.policy {
            write!(f, " by {policy}")?;
        }
        if let Some(code) = &self.code {
            write!(f, " ({code})")?;
        }
        Ok(())
    }
}

/// A kind of difference: both answers, without what only this request has; and where both allow, what differs in what is carried out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    old: (&'static str, Option<String>, Option<String>),
    new: (&'static str, Option<String>, Option<String>),
    parts: Vec<String>,
}

/// A class of differences, with the smallest request that shows it.
#[derive(Debug)]
pub struct Difference {
    /// A request that shows it.
    pub input: Input,
    /// What the old directory makes of it.
    pub old: Answer,
    /// What the new directory makes of it.
    pub new: Answer,
    /// How often it was seen.
    pub times: u64,
}

/// The result of a search.
#[derive(Debug)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct Compared {
    pub runs: u64,
    pub elapsed: Duration,
    pub differences: Vec<Difference>,
}

/// What is done while a search runs.
pub trait Listener {
    /// Hears the number of runs and of classes now and then.
    fn progress(&mut self, runs: u64, classes: usize);
    /// Whether to stop.
    fn stops(&self) -> bool;
}

/// Compares two directories until a bound is reached.
pub fn compare(old: &Policies<'_>, new: &Policies<'_>, plan: Plan<'_>, listener: &mut impl Listener) -> Compared {
    let start = Instant::now();
    let mut search = Search {
        sides: [old, new],
        generator: Generator::new(plan.seed, plan.dictionary, plan.tables),
        mutator: Mutator::new(plan.seed, plan.dictionary),
        corpus: Corpus::new(plan.seed),
        coverage: Coverage::default(),
        random: Rng::with_seed(plan.seed ^ 0x6469_6666),
        waiting: plan.corpus.iter().cloned().collect(),
        found: BTreeMap::new(),
    };
    let mut runs = 0;
    let is_over = |runs: u64| {
        runs >= plan.runs || (runs.is_multiple_of(64) && plan.time.is_some_and(|time| start.elapsed() >= time))
    };
    while !is_over(runs) && !listener.stops() {
        search.step(&plan);
        runs += 1;
        if runs.is_multiple_of(1024) {
            listener.progress(runs, search.found.len());
        }
    }
    let mut differences: Vec<Difference> = search.found.into_values().collect();
    // Another reason for the same verdict comes last.
    differences
        .sort_by_key(|difference| difference.old.word == difference.new.word && difference.old.request.is_none());
    Compared { runs, elapsed: start.elapsed(), differences }
}

struct Search<'s> {
    sides: [&'s Policies<'s>; 2],
    generator: Generator<'s>,
    mutator: Mutator<'s>,
    corpus: Corpus,
    coverage: Coverage,
    random: Rng,
    /// Inputs to be tried next.
    waiting: VecDeque<Input>,
    found: BTreeMap<Class, Difference>,
}

/// How many inputs wait to be tried.
const MAX_WAITING: usize = 4096;
/// The features of one pair of verdicts are so far from those of the next. No component has as many modules.
const PAIR: usize = 1 << 16;

impl Search<'_> {
    fn step(&mut self, plan: &Plan<'_>) {
        let mut input = self.next(plan);
        input.add_labels(plan.labels);
        let (mut features, mut words, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        let mut first = 0;
        for side in self.sides {
            let gate = side.edges.unwrap_or(side.plain);
            let decision = decide(&gate.chain(), &input);
            let of_side = reached(gate.policies(), decision.as_ref().ok());
            features.extend(of_side.into_iter().map(|(policy, module, number)| (policy + first, module, number)));
            first += gate.policies().len();
            let answer = answer(decision);
            words.push(rank(answer.word));
            answers.push(answer);
        }
        // An edge counts once for each pair of verdicts.
        let pair = words[0] * RANKS + words[1];
        let of_pair = |(policy, module, number): Feature| (policy, module.wrapping_add(PAIR * (pair + 1)), number);
        let paired: Vec<Feature> = features.iter().copied().map(of_pair).collect();
        features.extend(paired);
        let Counted { rarest, new } = self.coverage.count(&features);
        if let (Some(rarest), false) = (rarest, new.is_empty()) {
            self.corpus.add(input.clone(), rarest, new);
            self.learn(&input);
        }
        if class(&answers[0], &answers[1]).is_some() {
            self.note(&input);
        }
    }

    fn next(&mut self, plan: &Plan<'_>) -> Input {
        if let Some(input) = self.waiting.pop_front() {
            return input;
        }
        if self.random.u8(0..8) == 0 {
            return self.generator.input();
        }
        match self.corpus.pick(&self.coverage) {
            Some((one, other)) => self.mutator.mutate(one, other, plan.tables),
            None => self.generator.input(),
        }
    }

    /// Makes inputs of what the plugins of both compare.
    fn learn(&mut self, input: &Input) {
        for gate in self.sides.iter().filter_map(|side| side.comparisons) {
            let _ = decide(&gate.chain(), input);
            let seen = compared(gate.policies());
            let room = MAX_WAITING.saturating_sub(self.waiting.len());
            self.waiting.extend(self.mutator.learn(input, &seen, room));
        }
    }

    /// Notes a difference, if the plugins as they are show it.
    fn note(&mut self, input: &Input) {
        let (old, new) = (self.sides[0].plain, self.sides[1].plain);
        let both = |input: &Input| (answer_of(old, input), answer_of(new, input));
        let (one, other) = both(input);
        let Some(class_of_input) = class(&one, &other) else { return };
        if let Some(known) = self.found.get_mut(&class_of_input) {
            known.times += 1;
            return;
        }
        let shows = |input: &Input| {
            let (one, other) = both(input);
            class(&one, &other).as_ref() == Some(&class_of_input)
        };
        let input = shrink(input.clone(), shows);
        let (old, new) = both(&input);
        self.found.insert(class_of_input, Difference { input, old, new, times: 1 });
    }
}

/// What a directory makes of an input.
fn answer_of(gate: &Gate, input: &Input) -> Answer {
    answer(decide(&gate.chain(), input))
}

fn answer(decision: Result<Decision, Error>) -> Answer {
    let mut answer = Answer { word: "allow", policy: None, code: None, request: None };
    match decision {
        Ok(decision) => match &decision.ruling {
            Ruling::Allow(_) => answer.request = Some(decision.final_request.clone()),
            Ruling::Deny { policy, denial } => {
                answer = Answer {
                    word: "deny",
                    policy: Some(policy.clone()),
                    code: Some(denial.code.clone()),
                    request: None,
                }
            }
            Ruling::Fail { policy, failure } => {
                answer = Answer {
                    word: "fail",
                    policy: Some(policy.clone()),
                    code: Some(failure.kind.code().to_owned()),
                    request: None,
                }
            }
        },
        Err(Error::Refused(refusals)) => {
            let code = refusals.iter().next().map(|refusal| refusal.code.to_owned());
            answer = Answer { word: "refuse", code, policy: None, request: None };
        }
        Err(error) => {
            answer = Answer { word: "refuse", code: Some(error.code().to_owned()), policy: None, request: None }
        }
    }
    answer
}

/// How many words there are.
const RANKS: usize = 4;

fn rank(word: &str) -> usize {
    ["allow", "deny", "fail", "refuse"].iter().position(|known| *known == word).unwrap_or(0)
}

/// The class of a difference; none if there is no difference.
fn class(old: &Answer, new: &Answer) -> Option<Class> {
    if old == new {
        return None;
    }
    let key = |answer: &Answer| (answer.word, answer.policy.clone(), answer.code.clone());
    let parts = match (&old.request, &new.request) {
        (Some(old), Some(new)) => differing(old, new),
        _ => Vec::new(),
    };
    Some(Class { old: key(old), new: key(new), parts })
}

/// The fields that differ, and of the options the names that one has and the other hasn't; `order`, if both have the same ones.
fn differing(old: &MountRequest, new: &MountRequest) -> Vec<String> {
    let fields = [
        ("source", old.source != new.source),
        ("target", old.target != new.target),
        ("fstype", old.fstype != new.fstype),
        ("operation", old.operation != new.operation),
    ];
    let differing = fields.into_iter().filter(|(_, differs)| *differs);
    let mut parts: Vec<String> = differing.map(|(field, _)| field.to_owned()).collect();
    let lacking = |one: &MountRequest, other: &MountRequest, sign: char| -> BTreeSet<String> {
        let is_lacking = |option: &&MountOption| !other.options.iter().any(|known| known == *option);
        one.options.iter().filter(is_lacking).map(|option| format!("{sign}{}", option.name)).collect()
    };
    parts.extend(lacking(old, new, '-'));
    parts.extend(lacking(new, old, '+'));
    if parts.is_empty() {
        parts.push("order".to_owned());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::options::Options;
    use crate::model::request::Operation;

    fn allowed(target: &str, options: &str) -> Answer {
        let request = MountRequest {
            operation: Operation::Mount,
            source: Some("tmpfs".to_owned()),
            target: target.to_owned(),
            fstype: Some("tmpfs".to_owned()),
            options: Options::parse(options),
        };
        Answer { word: "allow", policy: None, code: None, request: Some(request) }
    }

    #[test]
    fn classes_tell_what_differs_and_not_where() {
        let class_of = |old: (&str, &str), new: (&str, &str)| class(&allowed(old.0, old.1), &allowed(new.0, new.1));
        assert_eq!(class_of(("/a", "ro"), ("/a", "ro")), None);
        let one = class_of(("/a", "ro"), ("/a", "ro,nodev"));
        assert_eq!(one, class_of(("/b", "size=1"), ("/b", "size=1,nodev")));
        assert!(one.is_some() && one != class_of(("/b", "ro"), ("/b", "ro,nosuid")));
        assert_eq!(class_of(("/a", ""), ("/b", "")), class_of(("/c", ""), ("/d", "")));
        let order = class_of(("/a", "ro,nodev"), ("/a", "nodev,ro"));
        assert_eq!(order.map(|class| class.parts), Some(vec!["order".to_owned()]));
        let deny = |code: &str| Answer {
            word: "deny",
            policy: Some("p".to_owned()),
            code: Some(code.to_owned()),
            request: None,
        };
        assert!(class(&deny("a"), &deny("a")).is_none() && class(&deny("a"), &deny("b")).is_some());
    }
}
