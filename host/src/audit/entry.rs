//! One line of an audit file.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::decision::ruling::Decision;
use crate::decision::trace::TraceEntry;
use crate::error::{Error, with_causes};
use crate::gate::{Ending, Gate};
use crate::model::edit::OwnedEdit;
use crate::model::ends::{OptionPath, ResolvedPath};
use crate::model::location::Place;
use crate::model::request::MountRequest;
use crate::model::requester::Requester;
use crate::model::secrets::Secrets;
use crate::model::verdict::Denial;
use crate::policy::mode::Mode;

/// The version of the form of a line.
pub(crate) const VERSION: u32 = 1;

/// A request, all that its decision depended on, and what came of it. Secrets are masked.
#[derive(Debug, Serialize)]
pub struct AuditEntry {
    version: u32,
    /// When the line was written, as RFC 3339 has it.
    time: String,
    /// The SHA-256 of the line before, in hexadecimal; none in the first line of a file.
    pub(super) previous: Option<String>,
    /// How many bytes of a torn line before this one were cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) torn: Option<u64>,
    mountgate: &'static str,
    request: MountRequest,
    requester: Requester,
    /// `allow`, `deny`, `fail` or `refuse`.
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(flatten)]
    denial: Option<Denial>,
    #[serde(flatten)]
    decided: Option<Decided>,
    policies: Vec<AuditedPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<AuditedOutcome>,
}

/// What a decision was made of.
#[derive(Debug, Serialize)]
struct Decided {
    #[serde(rename = "final")]
    final_request: MountRequest,
    source: Option<ResolvedPath>,
    target: ResolvedPath,
    option_paths: Vec<OptionPath>,
    places: Vec<Place>,
    /// The host's mounts, as mountinfo; nothing if the line would be too long with them.
    mounts: String,
    /// How long the line would have been with what was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    omitted: Option<u64>,
    /// Where the paths lead that policies have asked for.
    paths: BTreeMap<String, Option<String>>,
    edits: Vec<OwnedEdit>,
    trace: Vec<AuditedPart>,
    plan: Vec<String>,
}

/// One policy's part, with the time that it took.
#[derive(Debug, Serialize)]
struct AuditedPart {
    #[serde(flatten)]
    entry: TraceEntry,
    microseconds: u128,
}

/// A policy as it was then.
#[derive(Debug, Serialize)]
struct AuditedPolicy {
    name: String,
    /// The SHA-256 of its plugin.
    plugin: String,
    /// The SHA-256 of its settings.
    settings: String,
    mode: Mode,
}

/// What the executor did.
#[derive(Debug, Serialize)]
struct AuditedOutcome {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mount_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl AuditEntry {
    /// The line of a request that ended.
    pub(crate) fn of_ending(gate: &Gate, ending: &Ending) -> Self {
        let decision = &ending.decision;
        let secrets = Secrets::of(&[&decision.request, &decision.final_request]);
        let outcome = ending.applied.as_ref().map(|applied| match applied {
            Ok(applied) => AuditedOutcome { status: "applied", mount_id: applied.mount_id, error: None },
            Err(error) => {
                AuditedOutcome { status: "failed", mount_id: None, error: Some(secrets.mask(&with_causes(error))) }
            }
        });
        let denied = decision.denial();
        let (policy, denial) = denied.map(|(policy, denial)| (policy.to_owned(), denial.masked(&secrets))).unzip();
        Self {
            policy,
            denial,
            decided: Some(Decided::of(decision, &ending.plan.lines, &secrets)),
            outcome,
            ..Self::new(Some(gate), &decision.request, &decision.requester, decision.word())
        }
    }

    /// The line of a request that ended with an error before anything was run.
    pub(crate) fn of_error(gate: Option<&Gate>, request: &MountRequest, requester: &Requester, error: &Error) -> Self {
        let reason = Secrets::of(&[request]).mask(&with_causes(error));
        let denial = Denial { code: error.code().to_owned(), reason, field: None, hint: None };
        let word = if matches!(error, Error::Refused(_)) { "refuse" } else { "error" };
        Self { denial: Some(denial), ..Self::new(gate, request, requester, word) }
    }

    /// The same without what grows with the host's mounts and the names of paths. Callers make mounts, and their names.
    pub(super) fn without_mounts(mut self, too_long: u64) -> Self {
        if let Some(decided) = &mut self.decided {
            decided.omitted = Some(too_long);
            decided.mounts.clear();
            decided.places.clear();
            decided.paths.clear();
            decided.option_paths.clear();
        }
        self
    }

    /// Without a gate, the policies weren't ready, or nothing is known of what they said.
    fn new(gate: Option<&Gate>, request: &MountRequest, requester: &Requester, verdict: &'static str) -> Self {
        let policies = gate.into_iter().flat_map(Gate::entries).map(|entry| AuditedPolicy {
            name: entry.name.clone(),
            plugin: entry.digest.clone(),
            settings: hash(entry.settings.as_bytes()),
            mode: entry.mode,
        });
        Self {
            version: VERSION,
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            previous: None,
            torn: None,
            mountgate: env!("CARGO_PKG_VERSION"),
            request: request.masked(),
            requester: requester.clone(),
            verdict,
            policy: None,
            denial: None,
            decided: None,
            policies: policies.collect(),
            outcome: None,
        }
    }
}

impl Decided {
    fn of(decision: &Decision, plan: &[String], secrets: &Secrets) -> Self {
        let mounts = decision.snapshot.table().map(|table| table.to_mountinfo()).unwrap_or_default();
        let part =
            |entry: &TraceEntry| AuditedPart { microseconds: entry.elapsed.as_micros(), entry: entry.masked(secrets) };
        Self {
            final_request: decision.final_request.masked(),
            // What was found at an end that policies have renamed says nothing of the request as it was made.
            source: decision.source.clone().filter(|_| decision.final_request.source == decision.request.source),
            target: decision.target.clone(),
            option_paths: decision.option_paths.clone(),
            places: decision.places.clone(),
            mounts,
            omitted: None,
            paths: decision.snapshot.real_paths(),
            edits: decision
                .edits
                .iter()
                .map(|owned| OwnedEdit { policy: owned.policy.clone(), edit: owned.edit.masked() })
                .collect(),
            trace: decision.trace.iter().map(part).collect(),
            plan: plan.iter().map(|line| secrets.mask(line)).collect(),
        }
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
