//! Looks for requests that make policies misbehave.

use std::time::{Duration, Instant};

use super::generate::Generator;
use super::input::Input;
use super::judge::{REPEATED, symptoms};
use super::oracles::{Oracle, Symptom};
use super::shrink;
use super::tables::Tables;
use crate::decision::chain::Chain;

/// Something that a policy did wrong, with the smallest request that shows it.
#[derive(Debug)]
pub struct Finding {
    /// What was wrong.
    pub symptom: Symptom,
    /// A request that shows it.
    pub input: Input,
    /// For [`Oracle::TwoVerdicts`]: the other request, which differs in nothing that matters.
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

/// The result of a search.
#[derive(Debug)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct Summary {
    pub runs: u64,
    pub elapsed: Duration,
    pub findings: Vec<Finding>,
}

/// Runs until a bound is reached. `progress` hears the number of runs and of findings now and then.
pub fn run(
    chain: &Chain<'_>,
    tables: &Tables,
    generator: &mut Generator<'_>,
    bounds: Bounds,
    mut progress: impl FnMut(u64, usize),
) -> Summary {
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
    Summary { runs, elapsed: start.elapsed(), findings }
}
