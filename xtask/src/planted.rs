//! Measures the fuzzer on planted bugs: how many seeds find each, in so many runs, blind and guided.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{plugins, step};

/// Bugs that may be looked at while the fuzzer is tuned, in `tests/planted/src/open.rs`, and those that may not.
const HALVES: [(&str, &str); 2] = [("open", "tests/planted/src/open.rs"), ("frozen", "tests/planted/src/frozen.rs")];
pub(crate) const GUIDES: [&str; 3] = ["blind", "edges", "comparisons"];

/// Bugs in plugins that aren't written in Rust: the language, and the file of the plugin in a project of `mountgate plugin new`.
const OTHERS: [(&str, &str, &str); 2] =
    [("label-in-js", "js", "policy.js"), ("nested-in-python", "python", "policy.py")];

/// A plugin with a bug, and how it's chosen.
struct Bug {
    name: String,
    plugin: PathBuf,
    /// Settings beside `clean`.
    settings: String,
}

/// Searches for each bug with so many seeds, and prints how many found it.
pub(crate) fn run(mountgate: &Path, seeds: u64, runs: u64, guides: &[String], filter: Option<&str>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let is_meant = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    let bench = Bench { mountgate, folder: folder.path(), seeds, runs, guides };
    for (half, file) in HALVES {
        let bug = |name: String| Bug {
            settings: format!("bug = {name:?}, "),
            plugin: PathBuf::from(format!("{}/planted-bugs.wasm", plugins::FOLDER)),
            name,
        };
        bench.compare(half, names(file)?.into_iter().filter(|name| is_meant(name)).map(bug))?;
    }
    let others = OTHERS.into_iter().filter(|(name, ..)| is_meant(name));
    let others = others.map(|(name, language, file)| built(mountgate, folder.path(), name, language, file));
    bench.compare("in other languages", others.collect::<Result<Vec<_>>>()?.into_iter())
}

/// Builds a plugin in another language.
fn built(mountgate: &Path, folder: &Path, name: &str, language: &str, file: &str) -> Result<Bug> {
    let cache = folder.join("cache");
    let mountgate = |arguments: &[&str]| {
        let mut command = Command::new(mountgate);
        command.args(arguments).current_dir(folder).env("MOUNTGATE_CACHE", &cache).stdout(Stdio::null());
        crate::run(&mut command)
    };
    mountgate(&["plugin", "new", "--lang", language, name])?;
    let extension = file.rsplit('.').next().unwrap_or_default();
    fs::copy(format!("tests/planted/other/{name}.{extension}"), folder.join(name).join(file))?;
    let plugin = folder.join(format!("{name}.wasm"));
    mountgate(&["plugin", "build", name, "--output", &plugin.display().to_string()])?;
    Ok(Bug { name: name.to_owned(), plugin, settings: String::new() })
}

/// How bugs are searched for.
struct Bench<'b> {
    mountgate: &'b Path,
    folder: &'b Path,
    seeds: u64,
    runs: u64,
    guides: &'b [String],
}

impl Bench<'_> {
    fn compare(&self, half: &str, bugs: impl Iterator<Item = Bug>) -> Result<()> {
        let Self { seeds, runs, guides, .. } = *self;
        let is_asked = |guide: &str| guides.is_empty() || guides.iter().any(|asked| asked == guide);
        step(&format!(
            "planted bugs, {half}: seeds of {seeds} that find it within {runs} runs, median of the runs that it takes"
        ));
        println!("  {:<28} {:>18} {:>18} {:>18} {:>6}", "", GUIDES[0], GUIDES[1], GUIDES[2], "clean");
        let (mut found_by_most, mut count) = ([0; 3], 0);
        for bug in bugs {
            count += 1;
            let mut row = format!("  {:<28}", bug.name);
            for (number, guide) in GUIDES.iter().enumerate() {
                if !is_asked(guide) {
                    row.push_str(&format!(" {:>18}", ""));
                    continue;
                }
                let mut taken = Vec::new();
                for seed in 1..=seeds {
                    taken.extend(self.search(&bug, false, guide, seed)?);
                }
                taken.sort_unstable();
                found_by_most[number] += usize::from(u64::try_from(taken.len())? * 2 > seeds);
                let median = taken.get(taken.len() / 2).map_or_else(|| "-".to_owned(), u64::to_string);
                row.push_str(&format!(" {:>7} {median:>10}", format!("{}/{seeds}", taken.len())));
            }
            let clean = self.search(&bug, true, "comparisons", 1)?;
            println!("{row} {:>6}", if clean.is_none() { "silent" } else { "FOUND" });
        }
        println!(
            "  found by more than half of the seeds: blind {}, edges {}, comparisons {} of {count}",
            found_by_most[0], found_by_most[1], found_by_most[2]
        );
        Ok(())
    }

    /// After how many runs a search finds something.
    fn search(&self, bug: &Bug, clean: bool, guide: &str, seed: u64) -> Result<Option<u64>> {
        let Self { mountgate, folder, runs, .. } = *self;
        let Bug { name, plugin, settings } = bug;
        let directory = folder.join(format!("{name}-{clean}"));
        if !directory.exists() {
            fs::create_dir(&directory)?;
            // A plugin that only validates can't be given any rewrites. A language's runtime takes more fuel.
            let more = if settings.is_empty() {
                "limits = { fuel = 1_000_000_000, deadline = \"10s\" }\n"
            } else {
                "rewrites = [\"options\"]\n"
            };
            let text = format!(
                "[[policy]]\nname = \"planted\"\nplugin = \"plugin.wasm\"\n{more}settings = {{ {settings}clean = {clean} }}\n"
            );
            fs::write(directory.join("policies.toml"), text)?;
            fs::copy(plugin, directory.join("plugin.wasm"))?;
            let locked =
                Command::new(mountgate).args(["policy", "lock"]).arg(&directory).stdout(Stdio::null()).status()?;
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
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{name}, {guide}, seed {seed}: no report"))?;
        ensure!(report["changed"] == 0, "{name}: an instrumented plugin has another verdict: {report}");
        let is_found = report["findings"].as_array().is_some_and(|list| !list.is_empty());
        Ok(is_found.then(|| report["runs"].as_u64()).flatten())
    }
}

/// The names of the bugs of a file.
fn names(file: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(file)?;
    let (_, list) = text.split_once("BUGS: ").context("it lists no bugs")?;
    let (list, _) = list.split_once("];").context("the list has no end")?;
    Ok(list.lines().filter_map(|line| Some(line.trim().strip_prefix("(\"")?.split('"').next()?.to_owned())).collect())
}
