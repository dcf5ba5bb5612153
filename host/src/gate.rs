//! The one path: a request is decided, carried out, and told to the observers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::audit::{Report, ReportOutcome, Secrets};
use crate::chain::{Case, Chain, Decision, Ruling, Sight, TraceEntry};
use crate::error::{Error, HostError};
use crate::executor::{Applied, ApplyError, Executor};
use crate::exit::ExitStatus;
use crate::host_root::{HostRoot, Namespace};
use crate::mount_table::Snapshot;
use crate::policy::{Cache, Engine, Outcome, Policy, PolicyDirectory};
use crate::request::{MountRequest, Requester};
use crate::target_lock::TargetLocks;
use crate::verdict::Denial;

/// A checked policy directory with its plugins ready to judge.
#[derive(Debug)]
pub struct Gate {
    directory: PolicyDirectory,
    policies: Vec<Policy>,
    own_state: Vec<PathBuf>,
}

/// What came of a request.
#[derive(Debug)]
pub struct Ending {
    /// Everything about it.
    pub report: Report,
    /// How the program should end.
    pub status: ExitStatus,
    /// The host's mounts afterwards, where it was carried out.
    pub table: Option<Arc<Snapshot>>,
    /// Why it wasn't carried out, where that was tried.
    pub failure: Option<ApplyError>,
}

impl Gate {
    /// Makes the plugins of a policy directory ready.
    ///
    /// # Errors
    /// When a plugin can't be used, or the sandbox can't be set up.
    pub fn new(directory: PolicyDirectory, cache: &Cache) -> Result<Self, Error> {
        Self::load(&Engine::new().map_err(no_engine)?, directory, cache)
    }

    /// The same with an engine that is there already.
    pub(crate) fn load(engine: &Engine, mut directory: PolicyDirectory, cache: &Cache) -> Result<Self, Error> {
        let policies = engine.load(&mut directory, cache)?;
        let paths = [Some(directory.path.as_path()), cache.path()];
        let own_state = paths.into_iter().flatten().map(Path::to_owned).collect();
        Ok(Self { directory, policies, own_state })
    }

    /// The chain of this directory.
    pub fn chain(&self) -> Chain<'_> {
        Chain::new(&self.policies, &self.directory.host, self.own_state.clone())
    }

    /// The policies in order.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// Decides a request and carries it out where it's allowed; tells every policy how it ended.
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
            return Err(error.again().into());
        }
        let locks = TargetLocks::new(host, self.directory.host.timeout);
        carry_out(&self.chain(), host, &locks, request, requester, executor)
    }
}

pub(crate) fn no_engine(error: anyhow::Error) -> HostError {
    HostError::new("mmap", "memory for the plugins' sandbox", std::io::Error::other(format!("{error:#}")))
}

fn carry_out(
    chain: &Chain<'_>,
    host: &Arc<HostRoot>,
    locks: &TargetLocks<'_>,
    request: MountRequest,
    requester: Requester,
    executor: &impl Executor,
) -> Result<Ending, Error> {
    let snapshot = Arc::new(host.snapshot());
    let case = Case { request, requester, sight: Sight::Host(host), snapshot: snapshot.clone(), locks: Some(locks) };
    let mut decision = chain.decide(&case, false)?;
    let mut report = Report::of(&decision);
    let status = decision_status(&decision);
    let denial = denial(&decision);
    let secrets = Secrets::of(&[&decision.request.options, &decision.final_request.options]);
    let told = |outcome: &Outcome, table: &Arc<Snapshot>| -> Vec<TraceEntry> {
        chain.observe(outcome, table).iter().map(|entry| secrets.mask_entry(entry)).collect()
    };
    let Some(plan) = decision.take_plan() else {
        let outcome = Outcome::denied(&decision.final_request, &decision.requester, &denial);
        report.observed(told(&outcome, &snapshot));
        return Ok(Ending { report, status, table: None, failure: None });
    };
    let result = executor.apply(plan);
    let table = Arc::new(host.snapshot());
    let (approved, requester) = (&decision.final_request, &decision.requester);
    match result {
        Ok(Applied { mount_id, notes }) => {
            report.note(notes.iter().map(|note| secrets.mask(note)));
            let outcome = Outcome::applied(approved, requester, mount_id);
            let done = ReportOutcome { status: "applied", mount_id, error: None };
            report.conclude(done, told(&outcome, &table));
            Ok(Ending { report, status: ExitStatus::Done, table: Some(table), failure: None })
        }
        Err(error) => {
            let words = crate::chain::chain_of(&error);
            let outcome = Outcome::failed(approved, requester, &words);
            let status = match &error {
                ApplyError::Host(_) => ExitStatus::HostFailed,
                ApplyError::Mount(_) => ExitStatus::MountFailed,
            };
            let failed = ReportOutcome { status: "failed", mount_id: None, error: Some(words) };
            report.conclude(failed, told(&outcome, &table));
            Ok(Ending { report, status, table: Some(table), failure: Some(error) })
        }
    }
}

/// The exit status that a decision alone leads to.
pub fn decision_status(decision: &Decision) -> ExitStatus {
    match decision.ruling {
        Ruling::Allow(_) => ExitStatus::Done,
        Ruling::Deny { .. } => ExitStatus::Denied,
        Ruling::Fail { .. } => ExitStatus::PolicyFailed,
    }
}

fn denial(decision: &Decision) -> Denial {
    match &decision.ruling {
        Ruling::Deny { denial, .. } => denial.clone(),
        Ruling::Fail { policy, failure } => Denial {
            code: failure.kind.code().to_owned(),
            reason: format!("{policy} failed: {}", failure.message),
            field: None,
            hint: None,
        },
        Ruling::Allow(_) => Denial { code: String::new(), reason: String::new(), field: None, hint: None },
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::executor::{Applied, MountFailure};
    use crate::invariants::HostRules;
    use crate::options::Options;
    use crate::plan::MountPlan;
    use crate::request::Operation;

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
                return Err(MountFailure { step: "mount".into(), reason: "no".into(), undone: Vec::new() }.into());
            }
            Ok(Applied { mount_id: Some(7), notes: Vec::new() })
        }
    }

    fn attempt(target: &str, recorder: &Recorder) -> Result<Ending, Error> {
        let rules = HostRules::default();
        let host = Arc::new(HostRoot::own()?);
        let locks = TargetLocks::new(&host, std::time::Duration::from_secs(1));
        let request = MountRequest {
            operation: Operation::Mount,
            source: Some("tmpfs".to_owned()),
            target: target.to_owned(),
            fstype: Some("tmpfs".to_owned()),
            options: Options::default(),
        };
        carry_out(&Chain::new(&[], &rules, Vec::new()), &host, &locks, request, Requester::default(), recorder)
    }

    #[test]
    fn an_approved_request_reaches_the_executor_once() {
        let recorder = Recorder::default();
        let ending = attempt("/tmp", &recorder).expect("it's allowed");
        assert_eq!(ending.status, ExitStatus::Done);
        assert_eq!(recorder.plans.borrow().len(), 1);
    }

    #[test]
    fn a_refused_request_never_reaches_it() {
        let recorder = Recorder::default();
        let error = attempt("/proc/1", &recorder).expect_err("the host refuses it");
        assert_eq!(error.exit_status(), ExitStatus::Usage);
        assert!(recorder.plans.borrow().is_empty());
    }

    #[test]
    fn a_failed_mount_ends_with_its_own_status() {
        let recorder = Recorder { fails: true, ..Recorder::default() };
        assert_eq!(attempt("/tmp", &recorder).expect("it's allowed").status, ExitStatus::MountFailed);
    }
}
