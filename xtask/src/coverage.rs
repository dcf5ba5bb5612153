//! What of the reference plugins' own code the requests in `tests/coverage/corpus` reach.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::plugins::SHIPPED;
use crate::{plugins, run, step};

/// The policies, with settings of each kind.
const POLICIES: &str = "tests/coverage/policies.toml";
const CORPUS: &str = "tests/coverage/corpus";
/// Where the plugins with names and lines are.
pub(crate) const FOLDER: &str = "target/coverage";

/// Builds the plugins with debug information and prints what is reached. With `runs`, the corpus grows first.
pub(crate) fn print(mountgate: &Path, runs: Option<u64>, missing: bool) -> Result<()> {
    plugins::build_with_lines(FOLDER)?;
    fs::copy(POLICIES, Path::new(FOLDER).join("policies.toml"))
        .context("tests/coverage/policies.toml can't be copied")?;
    run(Command::new(mountgate).args(["policy", "lock", "--yes", FOLDER]).stdout(Stdio::null()))?;
    if let Some(runs) = runs {
        let grown = tempfile::tempdir()?;
        let mut fuzz = Command::new(mountgate);
        fuzz.args(["fuzz", "--policies", FOLDER, "--runs", &runs.to_string(), "--output"]).arg(grown.path());
        fuzz.arg("--corpus").arg(grown.path().join("corpus")).args(["--corpus", CORPUS]).status()?;
        // The small ones that reach what none before them does.
        let all = grown.path().join("all");
        fs::create_dir(&all)?;
        run(Command::new(mountgate)
            .args(["fuzz", "--policies", FOLDER, "--", "-merge=1"])
            .arg(&all)
            .arg(CORPUS)
            .arg(grown.path().join("corpus")))?;
        fs::remove_dir_all(CORPUS)?;
        fs::create_dir(CORPUS)?;
        fs::create_dir(format!("{CORPUS}/settings"))?;
        run(Command::new("cp").arg("-r").arg(all.join(".")).arg(CORPUS))?;
        step("leaving out what reaches nothing of the plugins' own code that the rest doesn't");
        thin_out(mountgate)?;
    }
    let mut coverage = of_corpus(mountgate);
    coverage.args(["--report", &format!("html={FOLDER}/index.html,lcov={FOLDER}/lcov.info")]);
    if missing {
        coverage.arg("--missing");
    }
    run(&mut coverage)
}

/// What the corpus reaches of the plugins' own code.
fn of_corpus(mountgate: &Path) -> Command {
    let mut coverage = Command::new(mountgate);
    coverage.args(["policy", "coverage", FOLDER, "--corpus", CORPUS]);
    for plugin in SHIPPED {
        coverage.arg("--source").arg(format!("plugins/{plugin}/src"));
    }
    coverage
}

/// Takes files away, many at once as long as that goes well, for as long as the branches and lines that are reached stay as many.
fn thin_out(mountgate: &Path) -> Result<()> {
    let reached = || -> Result<Vec<u64>> {
        let output = of_corpus(mountgate).arg("--json").output()?;
        let json: Value = serde_json::from_slice(&output.stdout).context("no report")?;
        let plugins = json["plugins"].as_array().context("no plugins")?;
        let number = |plugin: &Value, of: &str| plugin[of]["reached"].as_u64().unwrap_or(0);
        Ok(plugins.iter().flat_map(|plugin| ["branches", "lines"].map(|of| number(plugin, of))).collect())
    };
    let all = reached()?;
    let mut left: Vec<PathBuf> = Vec::new();
    for folder in [CORPUS.to_owned(), format!("{CORPUS}/settings")] {
        for entry in fs::read_dir(folder)? {
            left.extend(Some(entry?.path()).filter(|path| path.is_file()));
        }
    }
    left.sort();
    let mut many = left.len() / 2;
    while many > 0 {
        let mut kept = Vec::new();
        for some in left.chunks(many) {
            let texts = some.iter().map(fs::read).collect::<std::io::Result<Vec<_>>>()?;
            some.iter().try_for_each(fs::remove_file)?;
            if reached()? != all {
                some.iter().zip(texts).try_for_each(|(path, text)| fs::write(path, text))?;
                kept.extend_from_slice(some);
            }
        }
        left = kept;
        many /= 2;
    }
    Ok(())
}
