//! The one path: a request is decided, carried out, and told to the observers.

use std::sync::Arc;
use std::time::Duration;

use crate::decision::case::{Case, Resolution};
use crate::decision::chain::Chain;
use crate::decision::ruling::{Decision, Ruling};
use crate::decision::trace::TraceEntry;
use crate::error::{Error, with_causes};
use crate::executor::apply::{Applied, Executor};
use crate::executor::failure::ApplyError;
use crate::host::live_mounts::{snapshot, watched_snapshot};
use crate::host::locks::Locks;
use crate::host::namespaces::Namespace;
use crate::host::own_state::{OwnPlace, own_state};
use crate::host::root::HostRoot;
use crate::model::host_error::HostError;
use crate::model::request::MountRequest;
use crate::model::requester::Requester;
use crate::model::rules::HostRules;
use crate::mount_table::snapshot::Snapshot;
use crate::plan::mount_plan::PlanText;
use crate::policy::cache::Cache;
use crate::policy::directory::entry::PolicyEntry;
use crate::policy::directory::open::PolicyDirectory;
use crate::policy::engine::Engine;
use crate::policy::engine::contract_v0_1::Outcome;
use crate::policy::engine::policy::Policy;

/// A checked policy directory with its plugins ready to judge.
#[derive(Debug)]
pub struct Gate {
    directory: PolicyDirectory,
    policies: Vec<Policy>,
    own_state: Vec<OwnPlace>,
}

/// How a request ended.
#[derive(Debug)]
pub struct Ending {
    /// The decision.
    pub decision: Decision,
    /// The plan as a person reads it, where the request was allowed.
    pub plan: PlanText,
    /// What the executor did, where the request was allowed.
    pub applied: Option<Result<Applied, ApplyError>>,
    /// The policies as observers.
    pub observed: Vec<TraceEntry>,
    /// The host's mounts afterwards, where an executor ran.
    pub table: Option<Arc<Snapshot>>,
}

impl Gate {
    /// Makes the plugins of a policy directory ready.
    ///
    /// # Errors
    /// When a plugin can't be used, or the sandbox can't be set up.
    pub fn new(directory: PolicyDirectory, cache: &Cache) -> Result<Self, Error> {
        Self::load(&Engine::new().map_err(Error::Sandbox)?, directory, cache)
    }

    /// Makes the plugins of a policy directory ready in an engine.
    ///
    /// # Errors
    /// When a plugin can't be used.
    pub fn load(engine: &Engine, mut directory: PolicyDirectory, cache: &Cache) -> Result<Self, Error> {
        let policies = engine.load(&mut directory, cache)?;
        let audit = directory.host.audit.as_deref();
        let paths = [Some(directory.path.as_path()), cache.path(), audit, Some(directory.keys.as_path())];
        let own_state = own_state(paths.into_iter().flatten())?;
        Ok(Self { directory, policies, own_state })
    }

    /// The chain of this directory.
    pub fn chain(&self) -> Chain<'_> {
        Chain::new(&self.policies, &self.directory.host, &self.own_state)
    }

    /// A chain of one of its policies.
    pub(crate) fn chain_of(&self, policy: usize) -> Chain<'_> {
        let only = self.policies.get(policy..=policy).unwrap_or_default();
        Chain::new(only, &self.directory.host, &self.own_state)
    }

    /// A chain of other policies, with the rules of this host.
    pub(crate) fn chain_with<'g>(&'g self, policies: &'g [Policy]) -> Chain<'g> {
        Chain::new(policies, &self.directory.host, &self.own_state)
    }

    /// The policies as the directory describes them.
    pub(crate) fn entries(&self) -> &[PolicyEntry] {
        &self.directory.policies
    }

    /// The policies in order.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// Decides a request, carries it out where it's allowed, and tells every policy how it ended.
    ///
    /// # Errors
    /// When the host refuses the request by itself, or can't be read. Nothing was run then.
    pub fn carry_out(
        &self,
        host: &Arc<HostRoot>,
        request: MountRequest,
        requester: Requester,
        executor: &impl Executor,
    ) -> Result<Ending, Error> {
        if let Namespace::Closed(error) = host.namespace() {
            return Err(error.clone().into());
        }
        let HostRules { timeout, audit, .. } = &self.directory.host;
        carry_out(&self.chain(), host, (*timeout, audit.is_some()), request, requester, executor)
    }
}

fn carry_out(
    chain: &Chain<'_>,
    host: &Arc<HostRoot>,
    (timeout, keeps_table): (Duration, bool),
    request: MountRequest,
    requester: Requester,
    executor: &impl Executor,
) -> Result<Ending, Error> {
    let locks = Arc::new(Locks::new(host, timeout));
    // Told when others don't wait any more: whoever reads it may be slow.
    let mut changes: Vec<String> = Vec::new();
    let tell = |changes: &[String]| {
        changes.iter().for_each(|what| tracing::info!("the request was decided again: {what}"));
    };
    for _ in 0..MAX_DECISIONS {
        let before = Arc::new(watched_snapshot(host));
        let resolution = Resolution::OnHost(host);
        let (request, requester) = (request.clone(), requester.clone());
        let case = Case { request, requester, resolution, snapshot: before.clone(), locks: Some(locks.clone()) };
        let mut decision = chain.decide(&case, false)?;
        if keeps_table {
            // Now: afterwards it would have what is made.
            decision.snapshot.table().map_err(HostError::clone)?;
        }
        let Some(plan) = decision.take_plan() else {
            let observed = chain.observe(&outcome(&decision, None), &before);
            drop((locks, case));
            tell(&changes);
            return Ok(Ending { decision, plan: PlanText::default(), applied: None, observed, table: None });
        };
        let text = plan.text();
        let applied = executor.apply(plan);
        if let Err(ApplyError::Changed(what)) = &applied {
            changes.push(what.clone());
            if changes.len() == 1 {
                locks.take_turn();
            }
            continue;
        }
        let after = Arc::new(snapshot(host));
        let observed = chain.observe(&outcome(&decision, Some(&applied)), &after);
        drop((locks, case));
        tell(&changes);
        return Ok(Ending { decision, plan: text, applied: Some(applied), observed, table: Some(after) });
    }
    drop(locks);
    tell(&changes);
    let message = format!("the host's mounts changed in each of {MAX_DECISIONS} attempts between decision and mount");
    Err(Error::Unsettled(message))
}

/// How often a request is decided where the host changes meanwhile.
const MAX_DECISIONS: u32 = 32;

/// What the observers are told.
fn outcome(decision: &Decision, applied: Option<&Result<Applied, ApplyError>>) -> Outcome {
    let (request, requester) = (&decision.final_request, &decision.requester);
    match (applied, decision.denial()) {
        (Some(Ok(applied)), _) => Outcome::applied(request, requester, applied.mount_id),
        (Some(Err(error)), _) => Outcome::failed(request, requester, &with_causes(error)),
        (None, Some((policy, mut denial))) => {
            if matches!(decision.ruling, Ruling::Fail { .. }) {
                denial.reason = format!("{policy} failed: {}", denial.reason);
            }
            Outcome::denied(request, requester, &denial)
        }
        (None, None) => Outcome::failed(request, requester, "its plan was carried out before"),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::executor::failure::MountFailure;
    use crate::model::options::Options;
    use crate::model::request::Operation;
    use crate::plan::mount_plan::MountPlan;

    /// Records what it's given, and fails if told so.
    #[derive(Default)]
    struct Recorder {
        plans: RefCell<Vec<String>>,
        fails: bool,
    }

    impl Executor for Recorder {
        fn apply(&self, plan: MountPlan) -> Result<Applied, ApplyError> {
            self.plans.borrow_mut().push(plan.to_string());
            if self.fails {
                return Err(MountFailure {
                    step: "mount".into(),
                    reason: "no".into(),
                    code: "failed",
                    errno: None,
                    undone: Vec::new(),
                }
                .into());
            }
            Ok(Applied { mount_id: Some(7), notes: Vec::new() })
        }
    }

    fn attempt(target: &str, recorder: &Recorder) -> Result<Ending, Error> {
        let rules = HostRules::default();
        let host = Arc::new(HostRoot::own()?);
        let request = MountRequest {
            operation: Operation::Mount,
            source: Some("tmpfs".to_owned()),
            target: target.to_owned(),
            fstype: Some("tmpfs".to_owned()),
            options: Options::default(),
        };
        carry_out(&Chain::new(&[], &rules, &[]), &host, (rules.timeout, false), request, Requester::default(), recorder)
    }

    #[test]
    fn an_approved_request_reaches_the_executor_once() {
        let recorder = Recorder::default();
        let ending = attempt("/tmp", &recorder).expect("it's allowed");
        assert!(matches!(ending.applied, Some(Ok(Applied { mount_id: Some(7), .. }))));
        assert_eq!(recorder.plans.borrow().len(), 1);
    }

    #[test]
    fn a_refused_request_never_reaches_it() {
        let recorder = Recorder::default();
        let error = attempt("/proc/1", &recorder).expect_err("the host refuses it");
        assert!(matches!(error, Error::Refused(_)));
        assert!(recorder.plans.borrow().is_empty());
    }

    #[test]
    fn a_failed_mount_keeps_its_reason() {
        let recorder = Recorder { fails: true, ..Recorder::default() };
        let ending = attempt("/tmp", &recorder).expect("it's allowed");
        assert!(matches!(ending.applied, Some(Err(ApplyError::Mount(failure))) if failure.reason == "no"));
    }
}
