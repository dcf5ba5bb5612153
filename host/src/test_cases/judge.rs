//! Decides a case and compares the decision with what is expected.

use std::sync::Arc;

use serde::Serialize;

use super::file::{Expectation, TestCase, Word};
use crate::decision::case::{Case, Resolution};
use crate::decision::chain::Chain;
use crate::decision::ruling::{Decision, Ruling};
use crate::decision::trace::TraceEntry;
use crate::error::Error;
use crate::model::request::MountRequest;
use crate::mount_table::snapshot::Snapshot;
use crate::mount_table::table::MountTable;

/// Something that isn't as it's expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    pub(crate) field: &'static str,
    pub(crate) expected: String,
    pub(crate) got: String,
}

/// What came of a case.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) got: Expectation,
    /// What the policy or the host said, for people.
    pub(crate) reason: Option<String>,
    /// What each policy was asked and said.
    pub(crate) trace: Vec<TraceEntry>,
}

/// Decides a case.
///
/// # Errors
/// A case that says something impossible, or a host that fails.
pub(crate) fn decide(
    chain: &Chain<'_>,
    case: &TestCase,
    request: MountRequest,
    table: MountTable,
) -> anyhow::Result<Outcome> {
    let snapshot = Snapshot::recorded(table, case.paths());
    let source = case.source(&request, &snapshot).map_err(anyhow::Error::msg)?;
    let target = Some(case.target(&request, &snapshot).map_err(anyhow::Error::msg)?);
    let option_paths = case.option_paths(&request, &snapshot).map_err(anyhow::Error::msg)?;
    let decided = chain.decide(
        &Case {
            request,
            requester: case.requester(),
            resolution: Resolution::Recorded { source, target, option_paths },
            snapshot: Arc::new(snapshot),
            locks: None,
        },
        false,
    );
    match decided {
        Ok(decision) => Ok(outcome_of(decision)),
        Err(Error::Refused(refusals)) => {
            let code = refusals.iter().next().map(|refusal| refusal.code.to_owned());
            let got = Expectation { code, ..expectation(Word::Refuse) };
            Ok(Outcome { got, reason: Some(refusals.to_string()), trace: Vec::new() })
        }
        Err(error) => Err(error.into()),
    }
}

fn expectation(verdict: Word) -> Expectation {
    Expectation { verdict, policy: None, code: None, edits: None, final_request: None }
}

fn outcome_of(decision: Decision) -> Outcome {
    let verdict = match decision.ruling {
        Ruling::Allow(_) => Word::Allow,
        Ruling::Deny { .. } => Word::Deny,
        Ruling::Fail { .. } => Word::Fail,
    };
    let (policy, denial) = decision.denial().map(|(policy, denial)| (policy.to_owned(), denial)).unzip();
    let got = Expectation {
        policy,
        code: denial.as_ref().map(|denial| denial.code.clone()),
        edits: Some(decision.edits.iter().map(|owned| owned.edit.to_string()).collect()),
        final_request: Some(decision.final_request.to_string()),
        ..expectation(verdict)
    };
    Outcome { got, reason: denial.map(|denial| denial.reason), trace: decision.trace }
}

/// What isn't as it's expected. Only what is named is compared.
pub(crate) fn differences(expected: &Expectation, got: &Expectation) -> Vec<Difference> {
    let edits = |list: &Vec<String>| list.join(" ");
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let fields = [
        ("verdict", Some(expected.verdict.name().to_owned()), got.verdict.name().to_owned()),
        ("policy", expected.policy.clone(), text(&got.policy)),
        ("code", expected.code.clone(), text(&got.code)),
        ("edits", expected.edits.as_ref().map(edits), got.edits.as_ref().map(edits).unwrap_or_default()),
        ("final", expected.final_request.clone(), text(&got.final_request)),
    ];
    let differs = |(field, expected, got): (&'static str, Option<String>, String)| {
        expected.filter(|expected| *expected != got).map(|expected| Difference { field, expected, got })
    };
    fields.into_iter().filter_map(differs).collect()
}

/// What a case should expect from now on: the fields that it names and those that tell a denial.
pub(crate) fn blessed(expected: &Expectation, got: &Expectation) -> Expectation {
    Expectation {
        verdict: got.verdict,
        policy: got.policy.clone(),
        code: got.code.clone(),
        edits: expected.edits.as_ref().and(got.edits.clone()),
        final_request: expected.final_request.as_ref().and(got.final_request.clone()),
    }
}
