//! The chain of policies, and the one place where a request becomes a plan.
//!
//! Mutating policies in rounds until nothing changes, the host's invariants after every change, then validating
//! policies on the final request.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::error::{Error, HostError};
use crate::host_root::HostRoot;
use crate::invariants::{self, HostRules, Refusals};
use crate::mount_table::Snapshot;
use crate::plan::MountPlan;
use crate::policy::{Evaluation, Failure, FailureKind, Kind, LogLine, Mode, Outcome, Policy, Review, ReviewParts};
use crate::request::{MountRequest, Operation, Requester};
use crate::resolve::{End, FileKind, ResolveError, ResolvedPath, lexical, resolve};
use crate::target_lock::TargetLocks;
use crate::verdict::{Denial, Edit, Verdict};

/// As many rounds as mutating policies get to settle.
const MAX_ROUNDS: u32 = 8;

/// An edit and the policy that asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct OwnedEdit {
    pub policy: String,
    pub edit: Edit,
}

/// Where a trace entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the phases of the chain, in order")]
pub enum Phase {
    Mutate,
    Invariants,
    Validate,
    Observe,
}

/// One policy's part in a decision.
#[derive(Debug, Clone, Serialize)]
pub struct TraceEntry {
    /// Its name.
    pub policy: String,
    /// When it was asked.
    pub phase: Phase,
    /// The round, where there are rounds.
    pub round: Option<u32>,
    /// `allow`, `deny`, `rewrite`, or `fail`.
    pub verdict: &'static str,
    /// The edits it asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
    /// Why it denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denial: Option<Denial>,
    /// How it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether it's only watched: its verdict isn't followed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub monitor: bool,
    /// Fuel used.
    pub fuel: u64,
    /// What it wrote.
    #[serde(skip)]
    pub log: Vec<LogLine>,
    /// How it failed, for programs.
    #[serde(skip)]
    pub failure: Option<Failure>,
    /// Whether it was refused memory, even if it went on without.
    #[serde(skip)]
    pub hit_limit: bool,
}

/// What the chain came to.
#[derive(Debug)]
pub enum Ruling {
    /// It may be carried out, once.
    Allow(Option<Box<MountPlan>>),
    /// A policy denied it.
    #[expect(missing_docs, reason = "named for what they are")]
    Deny { policy: String, denial: Denial },
    /// A policy failed, and so denied it.
    #[expect(missing_docs, reason = "named for what they are")]
    Fail { policy: String, failure: Failure },
}

/// A decision and how it came about.
#[derive(Debug)]
pub struct Decision {
    /// The request as it was made.
    pub request: MountRequest,
    /// The request as the policies left it.
    pub final_request: MountRequest,
    /// Who asked.
    pub requester: Requester,
    /// Every policy's part, in order.
    pub trace: Vec<TraceEntry>,
    /// The result.
    pub ruling: Ruling,
}

impl Decision {
    /// The plan, where it's allowed. It's there once: what was approved is carried out once.
    pub fn take_plan(&mut self) -> Option<MountPlan> {
        match &mut self.ruling {
            Ruling::Allow(plan) => plan.take().map(|plan| *plan),
            _ => None,
        }
    }
}

/// A request with all that a decision depends on.
#[derive(Debug)]
pub struct Case<'h> {
    /// The request.
    pub request: MountRequest,
    /// Who asks.
    pub requester: Requester,
    /// How paths are followed.
    pub sight: Sight<'h>,
    /// The host's mounts.
    pub snapshot: Arc<Snapshot>,
    /// The locks of the targets, for a request that will be carried out.
    pub locks: Option<&'h TargetLocks<'h>>,
}

impl<'h> Case<'h> {
    fn host(&self) -> Option<&'h HostRoot> {
        match self.sight {
            Sight::Host(host) => Some(host),
            Sight::Told { .. } => None,
        }
    }
}

/// How the paths of a request are followed.
#[derive(Debug)]
pub enum Sight<'h> {
    /// On the host.
    Host(&'h Arc<HostRoot>),
    /// Not at all: they are what a request file says, so that a decision can be replayed anywhere.
    Told {
        /// What the source was.
        source: Option<ResolvedPath>,
        /// What the target was.
        target: Option<ResolvedPath>,
    },
}

/// The ends of a request as the host found them.
#[derive(Debug)]
struct Ends {
    source: Option<End>,
    target: End,
}

impl Ends {
    fn found_source(&self) -> Option<&ResolvedPath> {
        self.source.as_ref().map(|end| &end.found)
    }
}

/// A request that every policy agreed to. Only this module can make one, and a plan is made of nothing else.
pub(crate) struct Approved<'h> {
    request: MountRequest,
    ends: Ends,
    host: Option<&'h HostRoot>,
}

impl Approved<'_> {
    pub(crate) fn request(&self) -> &MountRequest {
        &self.request
    }

    pub(crate) fn source(&self) -> Option<&End> {
        self.ends.source.as_ref()
    }

    pub(crate) fn target(&self) -> &End {
        &self.ends.target
    }

    pub(crate) fn host(&self) -> Option<&HostRoot> {
        self.host
    }

    pub(crate) fn into_parts(self) -> (MountRequest, Option<End>, End) {
        (self.request, self.ends.source, self.ends.target)
    }
}

/// Policies in order, and the rules that the host holds to whatever they say.
#[derive(Debug)]
pub struct Chain<'p> {
    policies: &'p [Policy],
    rules: &'p HostRules,
    /// Paths that mountgate itself lives by.
    own_state: Vec<PathBuf>,
}

impl<'p> Chain<'p> {
    /// A chain of these policies. `own_state` are the paths that no mount may hide.
    pub fn new(policies: &'p [Policy], rules: &'p HostRules, own_state: Vec<PathBuf>) -> Self {
        Self { policies, rules, own_state }
    }

    /// Decides a request. With `all`, the validating policies behind a denial are asked as well.
    ///
    /// # Errors
    /// When the host refuses the request by itself, or can't be read.
    pub fn decide(&self, case: &Case<'_>, all: bool) -> Result<Decision, Error> {
        let ends = self.look(case, &case.request)?;
        let snapshot = case.snapshot.clone();
        let mut state = State { request: case.request.clone(), ends, edits: Vec::new(), trace: Vec::new(), snapshot };
        let ruling = match self.mutate(case, &mut state) {
            Some(ruling) => Err(ruling),
            None => self.validate(case, &mut state, all).map_or(Ok(()), Err),
        };
        if let Some(why) = state.snapshot.failure() {
            return Err(HostError::new("read", "the host's mount table", std::io::Error::other(why.to_owned())).into());
        }
        let State { request, ends, trace, .. } = state;
        let final_request = request.clone();
        let ruling = match ruling {
            Err(ruling) => ruling,
            Ok(()) => {
                let approved = Approved { request, ends, host: case.host() };
                Ruling::Allow(Some(Box::new(MountPlan::of(approved, self.rules)?)))
            }
        };
        Ok(Decision { request: case.request.clone(), final_request, requester: case.requester.clone(), trace, ruling })
    }

    /// Tells every policy how a request ended, and returns what they wrote. Whatever they do changes nothing.
    pub fn observe(&self, outcome: &Outcome, after: &Arc<Snapshot>) -> Vec<TraceEntry> {
        self.policies
            .iter()
            .map(|policy| {
                let mut heard = entry(policy, Phase::Observe, None, policy.observe(outcome, after));
                if heard.failure.is_none() {
                    heard.verdict = "observed";
                }
                heard
            })
            .collect()
    }

    /// Checks a request and follows its paths.
    fn look(&self, case: &Case<'_>, request: &MountRequest) -> Result<Ends, Error> {
        invariants::check_request(self.rules, case.host(), request)?;
        let ends = Ends { target: self.target(case, request)?, source: self.source(case, request)? };
        self.check_ends(case, request, &ends)?;
        Ok(ends)
    }

    /// The same for a request that policies changed: an end that is still named as it was isn't looked at again.
    fn look_again(&self, case: &Case<'_>, request: &MountRequest, state: &mut State) -> Result<(), Error> {
        invariants::check_request(self.rules, case.host(), request)?;
        if request.target != state.request.target {
            state.ends.target = self.target(case, request)?;
            // Under a lock of its own: what was seen of the mounts before may be old.
            if let (Sight::Host(host), Some(_)) = (&case.sight, case.locks) {
                state.snapshot = Arc::new(host.snapshot());
            }
        }
        if request.source != state.request.source || request.fstype != state.request.fstype {
            state.ends.source = self.source(case, request)?;
        }
        self.check_ends(case, request, &state.ends)
    }

    fn check_ends(&self, case: &Case<'_>, request: &MountRequest, ends: &Ends) -> Result<(), Error> {
        invariants::check_resolved(self.rules, request, ends.found_source(), &ends.target.found)?;
        if case.host().is_some_and(HostRoot::is_own_namespace) {
            let real = |path: &PathBuf| path.canonicalize().ok().and_then(|path| path.to_str().map(str::to_owned));
            let state: Vec<String> = self.own_state.iter().filter_map(real).collect();
            invariants::check_own_state(self.rules, request, &state, ends.found_source(), &ends.target.found)?;
        }
        Ok(())
    }

    fn source(&self, case: &Case<'_>, request: &MountRequest) -> Result<Option<End>, Error> {
        let Some(path) = request.source.as_deref() else { return Ok(None) };
        let is_path = request.operation.source_is_path() || invariants::is_path(path);
        match &case.sight {
            Sight::Host(host) if is_path => match resolve(host, path, self.rules.symlinks) {
                // A move takes a mount away from there: that is a target too.
                Ok(found) if request.operation == Operation::Move => {
                    let is_old = case.locks.map_or(Ok(false), |locks| locks.hold(&found.found.path))?;
                    if is_old { self.source(case, request) } else { Ok(Some(found)) }
                }
                Ok(found) => Ok(Some(found)),
                // A file system without a device may have any word for its source.
                Err(ResolveError::Missing(_))
                    if request.fstype.as_deref().is_some_and(|fstype| is_nodev(host, fstype)) =>
                {
                    Ok(None)
                }
                Err(error) => Err(unresolved("SOURCE", &error)),
            },
            Sight::Host(_) => Ok(None),
            Sight::Told { source, .. } => {
                let told = source.clone().filter(|_| case.request.source == request.source);
                Ok(told.map(|found| End { found, pin: None }))
            }
        }
    }

    /// Follows the target, and holds its lock where the request will be carried out.
    fn target(&self, case: &Case<'_>, request: &MountRequest) -> Result<End, Error> {
        match &case.sight {
            Sight::Host(host) => loop {
                let end = resolve(host, &request.target, self.rules.symlinks)
                    .map_err(|error| unresolved("TARGET", &error))?;
                // Whoever had the lock before may have changed what is there.
                let is_old = case.locks.map_or(Ok(false), |locks| locks.hold(&end.found.path))?;
                if !is_old {
                    return Ok(end);
                }
            },
            Sight::Told { target, .. } => {
                let told = target.clone().filter(|_| case.request.target == request.target);
                let found = told.unwrap_or_else(|| ResolvedPath {
                    path: lexical(&request.target),
                    kind: FileKind::Directory,
                    device: None,
                    symlinks: Vec::new(),
                    covering_mount: None,
                });
                Ok(End { found, pin: None })
            }
        }
    }

    /// Asks the mutating policies in rounds. Returns a ruling only where it ends here.
    fn mutate(&self, case: &Case<'_>, state: &mut State) -> Option<Ruling> {
        let policies = || self.policies.iter().filter(|policy| policy.description.kind == Kind::Mutating);
        let mut unsettled: Vec<&Policy> = Vec::new();
        for round in 1..=MAX_ROUNDS {
            let mut review = None;
            let mut changed = Vec::new();
            for policy in policies() {
                let ready = review.get_or_insert_with(|| state.review(case));
                let evaluation = policy.evaluate(ready, &state.snapshot);
                let verdict = evaluation.result.clone();
                state.trace.push(entry(policy, Phase::Mutate, Some(round), evaluation));
                match verdict {
                    Err(failure) => return Some(Ruling::Fail { policy: policy.name.clone(), failure }),
                    _ if policy.mode == Mode::Monitor => {}
                    Ok(Verdict::Allow) => {}
                    Ok(Verdict::Deny(denial)) => return Some(Ruling::Deny { policy: policy.name.clone(), denial }),
                    Ok(Verdict::Rewrite(edits)) => match self.rewrite(case, state, policy, edits) {
                        Err(failure) => {
                            state.trace.push(violation(policy, round, &failure));
                            return Some(Ruling::Fail { policy: policy.name.clone(), failure });
                        }
                        Ok(true) => {
                            changed.push(policy);
                            review = None;
                        }
                        Ok(false) => {}
                    },
                }
            }
            if changed.is_empty() {
                return None;
            }
            unsettled = changed;
        }
        let names: Vec<&str> = unsettled.iter().map(|policy| policy.name.as_str()).collect();
        let last: Vec<String> = state.edits.iter().rev().take(4).map(|owned| owned.edit.to_string()).collect();
        let failure = Failure::new(
            FailureKind::NotConverged,
            format!(
                "the request didn't settle in {MAX_ROUNDS} rounds: {} kept changing it, at last {}",
                names.join(", "),
                last.join(" ")
            ),
        );
        for policy in &unsettled {
            state.trace.push(violation(policy, MAX_ROUNDS, &failure));
        }
        // The first of them stands for all: they are named in the message.
        Some(Ruling::Fail { policy: names.first().copied().unwrap_or_default().to_owned(), failure })
    }

    /// Carries out a policy's edits on the request. Says whether they changed anything.
    fn rewrite(&self, case: &Case<'_>, state: &mut State, policy: &Policy, edits: Vec<Edit>) -> Result<bool, Failure> {
        let mut request = state.request.clone();
        let mut effective = Vec::new();
        for edit in &edits {
            let before = request.clone();
            edit.apply(&mut request);
            if request != before {
                effective.push(OwnedEdit { policy: policy.name.clone(), edit: edit.clone() });
            }
        }
        invariants::check_edits(&policy.rewrites, &edits, &state.request, &request)?;
        if request == state.request {
            return Ok(false);
        }
        self.look_again(case, &request, state).map_err(|error| {
            let message = format!("it made a request that can't be carried out: {}", chain_of(&error));
            Failure::new(FailureKind::HostRefused, message)
        })?;
        state.request = request;
        state.edits.append(&mut effective);
        Ok(true)
    }

    /// Asks the validating policies about the final request.
    fn validate(&self, case: &Case<'_>, state: &mut State, all: bool) -> Option<Ruling> {
        let review = state.review(case);
        let mut first = None;
        for policy in self.policies.iter().filter(|policy| policy.description.kind == Kind::Validating) {
            let mut evaluation = policy.evaluate(&review, &state.snapshot);
            if let Ok(Verdict::Rewrite(edits)) = &evaluation.result {
                let message = format!("a validating policy answered with a rewrite of {} edits", edits.len());
                evaluation.result = Err(Failure::new(FailureKind::NoLeave, message));
            }
            let verdict = evaluation.result.clone();
            state.trace.push(entry(policy, Phase::Validate, None, evaluation));
            let policy_name = policy.name.clone();
            let ruling = match verdict {
                Err(failure) => Ruling::Fail { policy: policy_name, failure },
                Ok(Verdict::Deny(denial)) if policy.mode == Mode::Enforce => {
                    Ruling::Deny { policy: policy_name, denial }
                }
                Ok(_) => continue,
            };
            first.get_or_insert(ruling);
            if !all {
                break;
            }
        }
        first
    }
}

/// A request on its way through the chain.
struct State {
    request: MountRequest,
    ends: Ends,
    edits: Vec<OwnedEdit>,
    trace: Vec<TraceEntry>,
    snapshot: Arc<Snapshot>,
}

impl State {
    fn review(&self, case: &Case<'_>) -> Review {
        Review::new(ReviewParts {
            request: &self.request,
            original: &case.request,
            edits: &self.edits,
            source: self.ends.found_source(),
            target: &self.ends.target.found,
            requester: &case.requester,
        })
    }
}

fn entry(policy: &Policy, phase: Phase, round: Option<u32>, evaluation: Evaluation) -> TraceEntry {
    let mut entry = TraceEntry {
        policy: policy.name.clone(),
        phase,
        round,
        verdict: evaluation.result.as_ref().map_or("fail", Verdict::name),
        edits: Vec::new(),
        denial: None,
        error: None,
        monitor: policy.mode == Mode::Monitor,
        fuel: evaluation.fuel,
        log: evaluation.log,
        failure: None,
        hit_limit: evaluation.hit_limit,
    };
    match evaluation.result {
        Ok(Verdict::Allow) => {}
        Ok(Verdict::Deny(denial)) => entry.denial = Some(denial),
        Ok(Verdict::Rewrite(edits)) => entry.edits = edits.iter().map(Edit::masked).collect(),
        Err(failure) => {
            entry.error = Some(failure.to_string());
            entry.failure = Some(failure);
        }
    }
    entry
}

/// The trace entry of a rewrite that the invariants didn't let pass.
fn violation(policy: &Policy, round: u32, failure: &Failure) -> TraceEntry {
    TraceEntry {
        policy: policy.name.clone(),
        phase: Phase::Invariants,
        round: Some(round),
        verdict: "fail",
        edits: Vec::new(),
        denial: None,
        error: Some(failure.to_string()),
        monitor: false,
        fuel: 0,
        log: Vec::new(),
        failure: Some(failure.clone()),
        hit_limit: false,
    }
}

fn is_nodev(host: &HostRoot, fstype: &str) -> bool {
    host.kernel_type(fstype).is_some_and(|known| !known.needs_device)
}

fn unresolved(argument: &str, error: &ResolveError) -> Error {
    let hint = match error {
        ResolveError::Missing(_) => Some("it must be there before it's mounted on; make it first"),
        ResolveError::SymlinkRefused(_) => Some("give the real path"),
        _ => None,
    };
    Refusals::one(argument, error.to_string(), hint).into()
}

pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
