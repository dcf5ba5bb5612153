//! Looks for requests that make policies misbehave: made at random with knowledge of mounts, judged by oracles, shrunk
//! to the smallest request that shows the same.

mod generate;
mod oracles;
mod shrink;

use std::time::{Duration, Instant};

use crate::chain::{Case, Chain, Decision, Sight};
use crate::error::Error;
use crate::request::{MountRequest, Requester};
use crate::resolve::ResolvedPath;

pub use generate::{Generator, Tables, Words};
pub use oracles::{Oracle, Symptom};

/// Everything that a decision depends on, small enough to be kept, changed and written down.
#[derive(Debug, Clone)]
pub struct Input {
    /// The request.
    pub request: MountRequest,
    /// What the source is.
    pub source: Option<ResolvedPath>,
    /// What the target is.
    pub target: ResolvedPath,
    /// Who asks.
    pub requester: Requester,
    /// Which table it meets.
    pub table: usize,
}

/// Something that a policy did wrong, with the smallest request that shows it.
#[derive(Debug)]
pub struct Finding {
    /// What was wrong.
    pub symptom: Symptom,
    /// A request that shows it.
    pub input: Input,
    /// For two verdicts: the request that's the same in all that matters.
    pub again: Option<Input>,
    /// How often it was seen.
    pub times: u64,
}

/// How long to look.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct Bounds {
    pub runs: u64,
    pub time: Option<Duration>,
}

/// What came of it.
#[derive(Debug)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct Outcome {
    pub runs: u64,
    pub elapsed: Duration,
    pub findings: Vec<Finding>,
}

/// One run in so many is decided a second time with another caller and other mount ids, to see the same verdict.
const REPEATED: u64 = 4;

/// Runs until a bound is reached. `progress` hears the number of runs and of findings now and then.
pub fn run(
    chain: &Chain<'_>,
    tables: &Tables,
    generator: &mut Generator<'_>,
    bounds: Bounds,
    mut progress: impl FnMut(u64, usize),
) -> Outcome {
    let start = Instant::now();
    let mut findings: Vec<Finding> = Vec::new();
    let mut runs = 0;
    let over = |runs: u64| {
        runs >= bounds.runs || (runs.is_multiple_of(64) && bounds.time.is_some_and(|time| start.elapsed() >= time))
    };
    while !over(runs) {
        let input = generator.input();
        let repeat = runs.is_multiple_of(REPEATED);
        for symptom in symptoms(chain, tables, &input, repeat) {
            match findings.iter_mut().find(|known| known.symptom.is_like(&symptom)) {
                Some(known) => known.times += 1,
                None => {
                    let input = shrink::shrink(chain, tables, input.clone(), &symptom);
                    let again = (symptom.oracle == Oracle::TwoVerdicts).then(|| input.with_other_incidentals());
                    findings.push(Finding { symptom, input, again, times: 1 });
                }
            }
        }
        runs += 1;
        if runs.is_multiple_of(1024) {
            progress(runs, findings.len());
        }
    }
    Outcome { runs, elapsed: start.elapsed(), findings }
}

/// All that is wrong with how this input is decided.
fn symptoms(chain: &Chain<'_>, tables: &Tables, input: &Input, repeat: bool) -> Vec<Symptom> {
    let Ok(decision) = decide(chain, tables, input) else { return Vec::new() };
    let mut symptoms = oracles::judge(&decision);
    if repeat && symptoms.is_empty() {
        let again = decide(chain, tables, &input.with_other_incidentals());
        symptoms.extend(again.ok().and_then(|again| oracles::compare(&decision, &again)));
    }
    symptoms
}

fn decide(chain: &Chain<'_>, tables: &Tables, input: &Input) -> Result<Decision, Error> {
    let case = Case {
        request: input.request.clone(),
        requester: input.requester.clone(),
        sight: Sight::Told { source: input.source.clone(), target: Some(input.target.clone()) },
        snapshot: tables.snapshot(input.table),
        locks: None,
    };
    chain.decide(&case, false)
}

impl Input {
    /// The same in all that a verdict may depend on: another process asks, and it meets the twin of its table, whose
    /// mounts have other ids.
    fn with_other_incidentals(&self) -> Self {
        let mut other = self.clone();
        other.requester.pid += 1;
        other.table ^= 1;
        for end in [other.source.as_mut(), Some(&mut other.target)].into_iter().flatten() {
            end.covering_mount = end
                .covering_mount
                .map(|id| if self.table.is_multiple_of(2) { id + generate::SHIFT } else { id - generate::SHIFT });
        }
        other
    }
}
