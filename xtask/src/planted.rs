//! Measures the fuzzer on planted bugs: how many seeds find each, in so many runs, blind and guided.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{plugins, step};

/// Bugs that may be looked at while the fuzzer is tuned, in `tests/planted/src/open.rs`, and those that may not.
const HALVES: [(&str, &str); 2] = [("open", "tests/planted/src/open.rs"), ("frozen", "tests/planted/src/frozen.rs")];
const GUIDES: [&str; 3] = ["blind", "edges", "comparisons"];

/// Searches for each bug with so many seeds, and prints how many found it.
pub(crate) fn run(mountgate: &Path, seeds: u64, runs: u64, guides: &[String], filter: Option<&str>) -> Result<()> {
    let is_asked = |guide: &str| guides.is_empty() || guides.iter().any(|asked| asked == guide);
    let folder = tempfile::tempdir()?;
    for (half, file) in HALVES {
        step(&format!(
            "planted bugs, {half}: seeds of {seeds} that find it within {runs} runs, median of the runs that it takes"
        ));
        println!("  {:<28} {:>18} {:>18} {:>18} {:>6}", "", GUIDES[0], GUIDES[1], GUIDES[2], "clean");
        let mut found_by_most = [0; 3];
        let names = names(file)?;
        for name in names.iter().filter(|name| filter.is_none_or(|filter| name.contains(filter))) {
            let mut row = format!("  {name:<28}");
            for (number, guide) in GUIDES.iter().enumerate() {
                if !is_asked(guide) {
                    row.push_str(&format!(" {:>18}", ""));
                    continue;
                }
                let mut taken = Vec::new();
                for seed in 1..=seeds {
                    taken.extend(search(mountgate, folder.path(), name, false, guide, seed, runs)?);
                }
                taken.sort_unstable();
                found_by_most[number] += usize::from(u64::try_from(taken.len())? * 2 > seeds);
                let median = taken.get(taken.len() / 2).map_or_else(|| "-".to_owned(), u64::to_string);
                row.push_str(&format!(" {:>7} {median:>10}", format!("{}/{seeds}", taken.len())));
            }
            let clean = search(mountgate, folder.path(), name, true, "comparisons", 1, runs)?;
            println!("{row} {:>6}", if clean.is_none() { "silent" } else { "FOUND" });
        }
        println!(
            "  found by more than half of the seeds: blind {}, edges {}, comparisons {} of {}",
            found_by_most[0],
            found_by_most[1],
            found_by_most[2],
            names.len()
        );
    }
    Ok(())
}

/// The names of the bugs of a file.
fn names(file: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(file)?;
    let (_, list) = text.split_once("BUGS: ").context("it lists no bugs")?;
    let (list, _) = list.split_once("];").context("the list has no end")?;
    Ok(list.lines().filter_map(|line| Some(line.trim().strip_prefix("(\"")?.split('"').next()?.to_owned())).collect())
}

/// After how many runs a search finds something.
fn search(
    mountgate: &Path,
    folder: &Path,
    bug: &str,
    clean: bool,
    guide: &str,
    seed: u64,
    runs: u64,
) -> Result<Option<u64>> {
    let directory = folder.join(format!("{bug}-{clean}"));
    if !directory.exists() {
        fs::create_dir(&directory)?;
        let text = format!(
            "[[policy]]\nname = \"planted\"\nplugin = \"planted-bugs.wasm\"\nrewrites = [\"options\"]\nsettings = {{ bug = {bug:?}, clean = {clean} }}\n"
        );
        fs::write(directory.join("policies.toml"), text)?;
        fs::copy(format!("{}/planted-bugs.wasm", plugins::FOLDER), directory.join("planted-bugs.wasm"))?;
        let locked = Command::new(mountgate).args(["policy", "lock"]).arg(&directory).stdout(Stdio::null()).status()?;
        ensure!(locked.success());
    }
    let mut fuzz = Command::new(mountgate);
    fuzz.args([
        "fuzz",
        "--json",
        "--first",
        // With other settings it has another bug, or isn't clean.
        "--without",
        "settings-unusable",
        "--guide",
        guide,
        "--seed",
        &seed.to_string(),
        "--runs",
        &runs.to_string(),
        "--policies",
    ]);
    fuzz.arg(&directory).arg("--output").arg(folder).env("MOUNTGATE_CACHE", folder.join("cache"));
    let output = fuzz.stderr(Stdio::null()).output()?;
    let report: Value =
        serde_json::from_slice(&output.stdout).with_context(|| format!("{bug}, {guide}, seed {seed}: no report"))?;
    ensure!(report["changed"] == 0, "{bug}: an instrumented plugin has another verdict: {report}");
    let is_found = report["findings"].as_array().is_some_and(|list| !list.is_empty());
    Ok(is_found.then(|| report["runs"].as_u64()).flatten())
}
