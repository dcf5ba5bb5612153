//! Looks for requests that make policies misbehave, guided by what the plugins reach.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;

use super::corpus::Corpus;
use super::coverage::{self, Counted, Coverage, compared, reached};
use super::dictionary::Dictionary;
use super::generate::Generator;
use super::input::Input;
use super::judge::{GROWING, Judge, REPEATED, decide};
use super::mutate::Mutator;
use super::oracles::{self, Extent, Oracle, Symptom};
use super::settings::{Attempt, Failing, attempt, smallest, varied};
use super::settings_corpus::SettingsCorpus;
use super::shrink::shrink;
use super::solve::solved;
use super::tables::Tables;
use crate::decision::chain::Chain;
use crate::decision::ruling::Decision;
use crate::decision::trace::TraceEntry;
use crate::gate::Gate;
use crate::model::requester::Label;
use crate::policy::engine::Trial;

/// Something that a policy did wrong, with the smallest request that shows it.
#[derive(Debug)]
pub struct Finding {
    /// What was wrong.
    pub symptom: Symptom,
    /// A request that shows it.
    pub input: Input,
    /// Where two decisions were compared: the other request.
    pub again: Option<Input>,
    /// The policy that was asked by itself; none where the whole chain was.
    pub alone: Option<String>,
    /// What each policy was asked and said.
    pub trace: Vec<TraceEntry>,
    /// What all policies make of it.
    pub verdict: &'static str,
    /// How often it was seen.
    pub times: u64,
    /// The settings that the policy must have, where they aren't its own.
    pub settings: Option<Value>,
}

/// What a search begins with, and how long it looks.
#[derive(Debug)]
pub struct Plan<'p> {
    /// The tables that requests meet.
    pub tables: &'p Tables,
    /// Words to make requests of.
    pub dictionary: &'p Dictionary,
    /// Inputs to begin with.
    pub corpus: Vec<Input>,
    /// Settings to begin with, each of the policy of this name.
    pub settings: Vec<(String, Value)>,
    /// Labels that every request has.
    pub labels: &'p [Label],
    /// The same seed makes the same requests.
    pub seed: u64,
    /// How many runs.
    pub runs: u64,
    /// How long.
    pub time: Option<Duration>,
    /// Which findings are left out.
    pub without: &'p [Without],
}

/// Findings that are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Without {
    /// Of this policy; of any where it's left out.
    pub policy: Option<String>,
    /// The code of their kind.
    pub code: String,
}

/// The same policies three times: as they are, and with plugins that note what they reach and what they compare. Without the last two,
/// the search is blind.
pub struct Policies<'g> {
    /// As they are: they alone make a finding.
    pub plain: &'g Gate,
    /// Those that note which edges they take.
    pub edges: Option<&'g Gate>,
    /// Those that note comparisons as well.
    pub comparisons: Option<&'g Gate>,
    /// Policies that deny what must never be allowed.
    pub properties: Option<&'g Gate>,
    /// The policies as they are, to be given other settings.
    pub trials: &'g [Trial<'g>],
    /// The same, with plugins that note which edges they take.
    pub edge_trials: &'g [Trial<'g>],
}

impl<'g> Policies<'g> {
    /// All policies as they are with the properties, or one by itself.
    fn judge(&self, alone: Option<usize>) -> Judge<'g> {
        let properties = self.properties.filter(|_| alone.is_none());
        Judge {
            chain: chain(self.plain, alone),
            properties: properties.map(|gate| self.plain.chain_with(gate.policies())),
        }
    }
}

/// What a search knows of one policy.
#[derive(Debug)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct Reached {
    pub policy: String,
    /// Whether the chain has asked it.
    pub in_chain: bool,
    /// How many edges of its plugin were taken.
    pub edges: usize,
}

/// The result of a search.
#[derive(Debug)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct Summary {
    pub runs: u64,
    pub elapsed: Duration,
    pub findings: Vec<Finding>,
    pub reached: Vec<Reached>,
    /// How many inputs reached something new.
    pub corpus: usize,
    /// How many of them an instrumented plugin judged otherwise than the plugin as it is: there should be none.
    pub changed: usize,
}

/// What is done while a search runs.
pub trait Watcher {
    /// Hears the number of runs and of findings now and then.
    fn progress(&mut self, runs: u64, findings: usize);
    /// Hears of each finding at once, before it's made smaller.
    fn seen(&mut self, finding: &Finding);
    /// Hears of each finding when it's as small as it gets.
    fn found(&mut self, finding: &Finding);
    /// Hears of each input that reached something new.
    fn kept(&mut self, input: &Input);
    /// Hears of settings of a policy that made its plugin reach something new.
    fn kept_settings(&mut self, policy: &str, settings: &Value);
    /// Inputs that others have found in the meantime.
    fn arrived(&mut self) -> Vec<Input>;
    /// Whether to stop.
    fn stops(&self) -> bool;
}

/// Runs until a bound is reached, or the watcher stops it.
pub fn run(policies: &Policies<'_>, plan: Plan<'_>, watcher: &mut impl Watcher) -> Summary {
    let start = Instant::now();
    let mut search = Search::new(policies, &plan);
    let bounds = (plan.runs, plan.time);
    search.given.extend(plan.corpus);
    search.begin_with_settings(plan.settings);
    let mut runs = 0;
    let over = |runs: u64, stops: bool| {
        stops || runs >= bounds.0 || (runs.is_multiple_of(64) && bounds.1.is_some_and(|time| start.elapsed() >= time))
    };
    while !over(runs, watcher.stops()) {
        search.step(runs, watcher);
        runs += 1;
        if runs >= search.settings_due {
            search.try_settings(watcher);
            search.settings_due = runs + search.settings_pause;
        }
        if runs.is_multiple_of(1024) {
            watcher.progress(runs, search.findings.len());
        }
        if runs.is_multiple_of(ARRIVALS) {
            search.given.extend(watcher.arrived());
        }
    }
    let names = policies.plain.policies().iter().map(|policy| policy.name.clone());
    let reached = names.enumerate().map(|(number, policy)| Reached {
        policy,
        in_chain: search.in_chain[number],
        edges: search.coverage.edges(number),
    });
    Summary {
        runs,
        elapsed: start.elapsed(),
        reached: reached.collect(),
        corpus: search.corpus.len(),
        changed: search.changed,
        findings: search.findings,
    }
}

/// What is wrong with how inputs are decided, by the chain and by each policy alone.
pub fn examine(policies: &Policies<'_>, plan: &Plan<'_>, inputs: &[Input], watcher: &mut impl Watcher) -> Vec<Finding> {
    let mut search = Search::new(policies, plan);
    let count = policies.plain.policies().len();
    for input in inputs {
        for alone in std::iter::once(None).chain((0..count).map(Some)) {
            for symptom in policies.judge(alone).symptoms(input, Extent::Growth) {
                search.note(input, symptom, alone, watcher);
            }
        }
    }
    search.findings
}

/// The numbers of the inputs that reach something that none before them does: of the known ones first, then of the others.
pub fn merge(policies: &Policies<'_>, known: &[Input], others: &[Input]) -> Vec<usize> {
    let guided = policies.edges.unwrap_or(policies.plain);
    let mut coverage = Coverage::default();
    let mut reach = |input: &Input| {
        let count = guided.policies().len();
        let mut is_new = false;
        for alone in std::iter::once(None).chain((0..count).map(Some)) {
            let decision = decide_anew(guided, alone, input);
            is_new |= !coverage.count(&reached(guided.policies(), decision.as_ref())).new.is_empty();
        }
        is_new
    };
    for input in known {
        reach(input);
    }
    others.iter().enumerate().filter_map(|(number, input)| reach(input).then_some(number)).collect()
}

/// The settings that reach something that none before them does: of the known ones first, then of the others, the small ones first.
pub fn merge_settings<'s>(
    policies: &Policies<'_>,
    known: &[(String, Value)],
    others: &'s [(String, Value)],
) -> Vec<&'s (String, Value)> {
    let mut corpus = SettingsCorpus::new(policies.trials);
    let mut others: Vec<&(String, Value)> = others.iter().collect();
    others.sort_by_cached_key(|(_, settings)| settings.to_string().len());
    let mut is_new = |(name, settings): &(String, Value)| {
        let number = policies.plain.policies().iter().position(|policy| policy.name == *name);
        number.is_some_and(|number| corpus.add(policies.edge_trials, number, settings))
    };
    for settings in known {
        is_new(settings);
    }
    others.into_iter().filter(|settings| is_new(settings)).collect()
}

struct Search<'s> {
    without: &'s [Without],
    labels: &'s [Label],
    policies: &'s Policies<'s>,
    tables: &'s Tables,
    generator: Generator<'s>,
    mutator: Mutator<'s>,
    corpus: Corpus,
    coverage: Coverage,
    /// Inputs that somebody else has made, to be tried first by the chain and by each policy.
    given: VecDeque<Input>,
    /// Inputs that were made of comparisons, to be tried next, each with the policy that has made them.
    derived: VecDeque<(Input, Option<usize>)>,
    /// Chooses who is asked.
    turns: Rng,
    in_chain: Vec<bool>,
    findings: Vec<Finding>,
    changed: usize,
    dictionary: &'s Dictionary,
    settings: SettingsCorpus,
    /// When a policy is given other settings, and how long after them come the next.
    settings_due: u64,
    settings_pause: u64,
    /// Settings that somebody else has made, each with the number of its policy, to be tried first.
    given_settings: VecDeque<(usize, Value)>,
}

/// How many inputs wait to be tried. What is compared in a loop makes more than can be.
const MAX_DERIVED: usize = 4096;
/// One run in so many is a request that has nothing to do with those before.
const FRESH: u64 = 8;
/// After so many runs others may have found something.
const ARRIVALS: u64 = 4096;
/// After so many runs a policy is given other settings.
const SETTINGS: u64 = 32;
/// After so many where many settings in a row reached nothing new.
const MAX_SETTINGS: u64 = 256;
/// How many requests it gets with them.
const REQUESTS: usize = 4;
/// How many causes of one kind are told of one policy.
const MAX_CAUSES: usize = 8;

impl<'s> Search<'s> {
    fn new(policies: &'s Policies<'s>, plan: &Plan<'s>) -> Self {
        let seed = plan.seed;
        Self {
            policies,
            tables: plan.tables,
            without: plan.without,
            labels: plan.labels,
            generator: Generator::new(seed, plan.dictionary, plan.tables),
            mutator: Mutator::new(seed, plan.dictionary),
            corpus: Corpus::new(seed),
            coverage: Coverage::default(),
            given: VecDeque::new(),
            derived: VecDeque::new(),
            turns: Rng::with_seed(seed ^ 0x7475_726e),
            in_chain: vec![false; policies.plain.policies().len()],
            findings: Vec::new(),
            changed: 0,
            dictionary: plan.dictionary,
            settings: SettingsCorpus::new(policies.trials),
            settings_due: SETTINGS,
            settings_pause: SETTINGS,
            given_settings: VecDeque::new(),
        }
    }

    /// Tries settings that somebody else has made, before others.
    fn begin_with_settings(&mut self, settings: Vec<(String, Value)>) {
        let policies = self.policies.plain.policies();
        let number = |name: &String| policies.iter().position(|policy| policy.name == *name);
        let known = settings.into_iter().filter_map(|(name, settings)| Some((number(&name)?, settings)));
        self.given_settings.extend(known.filter(|(number, _)| *number < self.policies.trials.len()));
    }

    /// Gives a policy other settings, and if it takes them, some requests.
    fn try_settings(&mut self, watcher: &mut impl Watcher) {
        let trials = self.policies.trials;
        if trials.is_empty() {
            return;
        }
        let is_given = !self.given_settings.is_empty();
        let (number, settings) = match self.given_settings.pop_front() {
            Some(given) => given,
            None => {
                let number = self.turns.usize(0..trials.len());
                let schema = serde_json::from_str(trials[number].schema()).unwrap_or_default();
                let base = self.settings.pick(&mut self.turns, number);
                (number, varied(&mut self.turns, base, &schema, self.dictionary))
            }
        };
        let trial = &trials[number];
        let Some(policy) = self.policies.plain.policies().get(number) else { return };
        if !is_given && !self.policies.edge_trials.is_empty() {
            self.settings_pause = (self.settings_pause + 1).min(MAX_SETTINGS);
        }
        if self.settings.add(self.policies.edge_trials, number, &settings) {
            self.settings_pause = SETTINGS;
            watcher.kept_settings(&policy.name, &settings);
        }
        let inputs: Vec<Input> = (0..REQUESTS)
            .map(|_| match self.corpus.pick(&self.coverage) {
                Some((one, other)) => self.mutator.mutate(one, other, self.tables),
                None => self.generator.input(),
            })
            .collect();
        let gate = self.policies.plain;
        let failing = match attempt(trial, gate, &settings, &inputs) {
            Attempt::Refused => return,
            Attempt::Usable => return self.settings.take(number, settings),
            Attempt::Fails(failing) => *failing,
        };
        // What fails with its own settings is found without this.
        let is_own = matches!(
            attempt(trial, gate, &trial.own_settings(), std::slice::from_ref(&failing.input)),
            Attempt::Fails(_)
        );
        let symptom = Symptom::of_settings(&policy.name, failing.oracle, String::new());
        let is_known = self.findings.iter().any(|known| known.symptom.is_of_kind(&symptom));
        if is_own || is_known || self.is_meant(&symptom) {
            return;
        }
        let alone = Some(policy.name.clone());
        let of = |settings: Value, Failing { message, input, .. }: Failing| Finding {
            symptom: Symptom { message, ..symptom.clone() },
            input,
            again: None,
            alone: alone.clone(),
            trace: Vec::new(),
            verdict: "",
            times: 1,
            settings: Some(settings),
        };
        watcher.seen(&of(settings.clone(), failing.clone()));
        let (settings, failing) = smallest(trial, gate, settings, failing);
        let finding = of(settings, failing);
        watcher.found(&finding);
        self.findings.push(finding);
    }

    /// Whether a finding is left out.
    fn is_meant(&self, symptom: &Symptom) -> bool {
        self.without.iter().any(|without| {
            without.code == symptom.oracle.code()
                && without.policy.as_ref().is_none_or(|policy| *policy == symptom.policy)
        })
    }

    fn step(&mut self, run: u64, watcher: &mut impl Watcher) {
        let (mut input, alone) = self.next(run);
        input.add_labels(self.labels);
        let guided = self.policies.edges.unwrap_or(self.policies.plain);
        let mut decision = decide(&chain(guided, alone), &input).ok();
        let mut reached = reached(guided.policies(), decision.as_ref());
        if self.coverage.may_be_new(&reached) {
            decision = decide_anew(guided, alone, &input);
            let used = std::mem::replace(&mut reached, coverage::reached(guided.policies(), decision.as_ref()));
            self.coverage.compare(&used, &reached);
        }
        let Counted { rarest, new } = self.coverage.count(&reached);
        let is_new = !new.is_empty();
        if alone.is_none() {
            for entry in decision.iter().flat_map(|decision| &decision.trace) {
                let number = guided.policies().iter().position(|policy| policy.name == entry.policy);
                if let Some(asked) = number.and_then(|number| self.in_chain.get_mut(number)) {
                    *asked = true;
                }
            }
        }
        let mut found = Vec::new();
        let judge = self.policies.judge(alone);
        if let (Some(rarest), false) = (rarest, is_new) {
            let policies = guided.policies();
            let anew = || coverage::reached(policies, decide_anew(guided, alone, &input).as_ref());
            self.corpus.make_smaller(&input, rarest, &reached, anew);
        }
        if let (Some(rarest), true) = (rarest, is_new) {
            self.corpus.add(input.clone(), rarest, new);
            watcher.kept(&input);
            let plain = decide(&chain(self.policies.plain, alone), &input).ok();
            self.changed += usize::from(!oracles::agree(plain.as_ref(), decision.as_ref()));
            // An instrumented plugin has more fuel.
            found.extend(plain.as_ref().map(|plain| judge.wrong(&input, plain)).unwrap_or_default());
            self.compare(&input, alone);
        }
        found.extend(decision.as_ref().map(|decision| judge.wrong(&input, decision)).unwrap_or_default());
        found.retain(|symptom| !self.is_meant(symptom));
        // Of those that reached nothing new, not the first of eight: it's made from nothing, and says little.
        if found.is_empty() {
            if is_new {
                found.extend(judge.repeated(&input));
            } else if let (Some(decision), true) = (&decision, run % REPEATED == 1) {
                // These only look: what they find is found again by the policies as they are.
                let guided = Judge { chain: chain(guided, alone), properties: None };
                found.extend(guided.compared_in_turn(&input, decision, run / REPEATED));
                self.policies
                    .edges
                    .iter()
                    .flat_map(|gate| gate.policies())
                    .for_each(|policy| drop(policy.take_notes()));
            }
        }
        found.retain(|symptom| !self.is_meant(symptom));
        if (is_new || run % GROWING == 1)
            && found.is_empty()
            && let Some((symptom, grown)) = judge.growing(&input)
        {
            match symptom.oracle {
                Oracle::FuelGrows => found.push(symptom),
                // So large, it's wrong by itself.
                _ => self.note(&grown, symptom, alone, watcher),
            }
        }
        for symptom in found {
            self.note(&input, symptom, alone, watcher);
        }
    }

    /// The next input, and the policy that is asked by itself; the whole chain, without one.
    fn next(&mut self, run: u64) -> (Input, Option<usize>) {
        let count = self.policies.plain.policies().len();
        if let Some(given) = self.given.pop_front() {
            if count > 1 {
                self.derived.extend((0..count).map(|alone| (given.clone(), Some(alone))));
            }
            return (given, None);
        }
        if let Some(next) = self.derived.pop_front() {
            return next;
        }
        // Each policy by itself as well: what stands before it may deny all that would reach it.
        let alone = if count > 1 { self.turns.usize(0..=count).checked_sub(1) } else { None };
        if run.is_multiple_of(FRESH) {
            return (self.generator.input(), alone);
        }
        let Some((one, other)) = self.corpus.pick(&self.coverage) else { return (self.generator.input(), alone) };
        (self.mutator.mutate(one, other, self.tables), alone)
    }

    /// Sees what a new input is compared with, and makes inputs of that.
    fn compare(&mut self, input: &Input, alone: Option<usize>) {
        let Some(gate) = self.policies.comparisons else { return };
        let compared_with = |input: &Input| {
            let _ = decide(&chain(gate, alone), input);
            compared(gate.policies())
        };
        let seen = compared_with(input);
        let room = MAX_DERIVED.saturating_sub(self.derived.len());
        let mut derived = solved(input, &seen, compared_with);
        derived.truncate(room);
        derived.extend(self.mutator.learn(input, &seen, room - derived.len()));
        self.derived.extend(derived.into_iter().map(|input| (input, alone)));
    }

    /// Notes a finding, if the policies as they are show it.
    fn note(&mut self, input: &Input, symptom: Symptom, alone: Option<usize>, watcher: &mut impl Watcher) {
        if self.is_meant(&symptom) {
            return;
        }
        if let Some(known) = self.findings.iter_mut().find(|known| known.symptom.is_like(&symptom)) {
            known.times += 1;
            return;
        }
        if self.findings.iter().filter(|known| known.symptom.is_of_kind(&symptom)).count() >= MAX_CAUSES {
            return;
        }
        let judge = self.policies.judge(alone);
        let extent = symptom.oracle.extent();
        let Some(symptom) = judge.symptoms(input, extent).into_iter().find(|shown| shown.is_like(&symptom)) else {
            return;
        };
        let verdict =
            |input: &Input| decide(&self.policies.plain.chain(), input).map_or("refuse", |decision| decision.word());
        let alone = alone.and_then(|number| Some(self.policies.plain.policies().get(number)?.name.clone()));
        let of = |symptom: Symptom, input: Input| Finding {
            again: judge.other(&input, symptom.oracle),
            trace: decide(&judge.chain, &input).map(|decision| decision.trace).unwrap_or_default(),
            verdict: verdict(&input),
            alone: alone.clone(),
            times: 1,
            settings: None,
            symptom,
            input,
        };
        watcher.seen(&of(symptom.clone(), input.clone()));
        let shows = |input: &Input| judge.symptoms(input, extent).iter().any(|found| found.is_like(&symptom));
        let input = shrink(input.clone(), shows);
        let finding = of(symptom, input);
        watcher.found(&finding);
        self.findings.push(finding);
    }
}

/// Decides an input in fresh instances.
pub(super) fn decide_anew(gate: &Gate, alone: Option<usize>, input: &Input) -> Option<Decision> {
    let always_fresh = |is_always_fresh| gate.policies().iter().for_each(|policy| policy.always_fresh(is_always_fresh));
    always_fresh(true);
    let decision = decide(&chain(gate, alone), input).ok();
    always_fresh(false);
    decision
}

/// The chain of all policies, or of one.
pub(super) fn chain(gate: &Gate, alone: Option<usize>) -> Chain<'_> {
    alone.map_or_else(|| gate.chain(), |number| gate.chain_of(number))
}
