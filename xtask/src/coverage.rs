//! What of the reference plugins' own code the requests in `tests/coverage/corpus` reach.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::plugins::SHIPPED;
use crate::{plugins, run};

/// The policies, with settings of each kind.
const POLICIES: &str = "tests/coverage/policies.toml";
const CORPUS: &str = "tests/coverage/corpus";
/// Of each plugin, so many percent of its own branches.
const LEAST: &str = "90";
const FOLDER: &str = "target/coverage";

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
        run(Command::new("cp").arg("-r").arg(all.join(".")).arg(CORPUS))?;
    }
    let mut coverage = Command::new(mountgate);
    coverage.args(["policy", "coverage", FOLDER, "--corpus", CORPUS, "--min", LEAST]);
    coverage.args(["--report", &format!("html={FOLDER}/index.html,lcov={FOLDER}/lcov.info")]);
    for plugin in SHIPPED {
        coverage.arg("--source").arg(format!("plugins/{plugin}/src"));
    }
    if missing {
        coverage.arg("--missing");
    }
    run(&mut coverage)
}
