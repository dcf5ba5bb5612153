//! `mountgate plugin bench`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::global::Global;
use super::input::read_plain;
use super::policy_test::{case_files, decide_each, not_sound};
use crate::gate::Gate;
use crate::json;
use crate::model::untrusted::for_people;

/// Measure how long the policies of a directory take for its cases: time and fuel of each evaluation
#[derive(Debug, Args)]
#[command(after_help = "\
The cases in DIR/cases are decided again and again, each evaluation in a fresh instance. The time depends on the machine; the fuel
doesn't, and says how far a policy is from its limit.

Examples:
  mountgate plugin bench policies
  mountgate plugin bench --rounds 1000 --json policies")]
pub(super) struct BenchArgs {
    /// The policy directory, if not the one of --policies
    pub(super) directory: Option<PathBuf>,
    /// How often all cases are decided
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// What the evaluations of one policy took.
#[derive(Default)]
struct Taken {
    microseconds: Vec<f64>,
    fuel: Vec<u64>,
}

/// The same, for people and programs.
#[derive(Serialize)]
struct Row {
    policy: String,
    evaluations: usize,
    median_us: f64,
    p99_us: f64,
    median_fuel: u64,
    most_fuel: u64,
    fuel_limit: u64,
}

pub(super) fn run(global: &Global, directory: &Path, args: &BenchArgs) -> anyhow::Result<()> {
    let cache = global.cache();
    let opened = global.open_directory(directory, &cache)?;
    let limits: BTreeMap<String, u64> =
        opened.policies.iter().map(|entry| (entry.name.clone(), entry.limits.fuel)).collect();
    let begun = Instant::now();
    let gate = Gate::new(opened, &cache)?;
    let loading = begun.elapsed();
    let mut taken: BTreeMap<String, Taken> = BTreeMap::new();
    let mut files = Vec::new();
    for file in case_files(directory)? {
        let text = String::from_utf8(read_plain(&file)?).with_context(|| format!("{} isn't UTF-8", file.display()))?;
        files.push((file, text));
    }
    // The first round warms the machine up.
    for round in 0..=args.rounds {
        for (file, text) in &files {
            decide_each(&gate, directory, file, text, |_, _, outcome| {
                for entry in outcome.trace.iter().filter(|_| round > 0) {
                    let taken = taken.entry(entry.policy.clone()).or_default();
                    taken.microseconds.push(entry.elapsed.as_secs_f64() * 1e6);
                    taken.fuel.push(entry.fuel);
                }
            })?;
        }
    }
    let rows: Vec<Row> = gate
        .policies()
        .iter()
        .filter_map(|policy| {
            let taken = taken.get_mut(&policy.name)?;
            taken.microseconds.sort_by(f64::total_cmp);
            taken.fuel.sort_unstable();
            let count = taken.fuel.len();
            Some(Row {
                policy: policy.name.clone(),
                evaluations: count,
                median_us: taken.microseconds[count / 2],
                p99_us: taken.microseconds[count * 99 / 100],
                median_fuel: taken.fuel[count / 2],
                most_fuel: taken.fuel[count - 1],
                fuel_limit: limits.get(&policy.name).copied().unwrap_or_default(),
            })
        })
        .collect();
    if rows.is_empty() {
        return Err(not_sound(&directory.join("cases"), "no case reaches a policy".to_owned()));
    }
    let mut out = anstream::stdout().lock();
    let loading_us = loading.as_secs_f64() * 1e6;
    if global.json {
        let object = serde_json::json!({ "loading_us": loading_us, "policies": rows });
        return Ok(json::write_line(&mut out, &object)?);
    }
    writeln!(
        out,
        "{:<24} {:>11} {:>10} {:>10} {:>12} {:>12} {:>6}",
        "policy", "evaluations", "median µs", "p99 µs", "median fuel", "most fuel", "limit"
    )?;
    for row in &rows {
        let share = row.most_fuel as f64 * 100.0 / row.fuel_limit.max(1) as f64;
        writeln!(
            out,
            "{:<24} {:>11} {:>10.1} {:>10.1} {:>12} {:>12} {share:>5.1}%",
            for_people(&row.policy),
            row.evaluations,
            row.median_us,
            row.p99_us,
            row.median_fuel,
            row.most_fuel
        )?;
    }
    writeln!(out, "loading the directory took {loading_us:.0} µs")?;
    Ok(())
}
