//! The host's own parsers under libFuzzer, as cargo-fuzz runs it. Of the compiler it takes what stable Rust offers.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};

use crate::{built, cargo, step};

const TARGETS: &str = "fuzz/targets";
const CORPORA: &str = "fuzz/corpus";
/// What searches find: inputs of their own beside the kept ones, and those that show a fault.
const FOUND: &str = "target/parsers";
/// Says that this program is called by cargo in the place of rustc.
const IN_PLACE_OF_RUSTC: &str = "MOUNTGATE_XTASK_IS_RUSTC";

/// What cargo-fuzz gives the compiler as well: each edge is counted, and each comparison is told to libFuzzer.
const COVERAGE: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Where a search ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// What the tests ask of each parser: some seconds, with the kept inputs and nothing else, so that it's the same everywhere.
    Short,
    Runs(u64),
    Seconds(u64),
}

/// Searches for inputs on which something doesn't hold.
pub(crate) fn search(bound: Bound, keep: bool, filter: Option<&str>) -> Result<()> {
    for target in build(filter)? {
        let name = target.name.as_str();
        step(&format!("fuzzing the parser {name}"));
        let corpus = match bound {
            Bound::Short => target.scratch.path().join("corpus"),
            _ => PathBuf::from(format!("{FOUND}/{name}/corpus")),
        };
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(format!("{FOUND}/{name}"))?;
        let mut search = target.command()?;
        search.arg(match bound {
            Bound::Short => "-runs=20000".to_owned(),
            Bound::Runs(runs) => format!("-runs={runs}"),
            Bound::Seconds(seconds) => format!("-max_total_time={seconds}"),
        });
        search.args(["-seed=1", "-max_len=4096", "-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1"]);
        search.arg(format!("-artifact_prefix={FOUND}/{name}/")).arg(&corpus).arg(target.kept());
        target.run(search)?;
        if keep {
            target.keep(&corpus)?;
        }
    }
    Ok(())
}

/// The target of a parser, built.
struct Target {
    name: String,
    program: PathBuf,
    /// Where its files may be. libFuzzer ends without removing any.
    scratch: tempfile::TempDir,
}

impl Target {
    fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.env("TMPDIR", fs::canonicalize(self.scratch.path())?);
        Ok(command)
    }

    fn run(&self, mut command: Command) -> Result<()> {
        let log = self.scratch.path().join("log");
        command.stderr(fs::File::create(&log)?).stdout(Stdio::null());
        let status = command.status().with_context(|| format!("{} can't be started", self.program.display()))?;
        let text = fs::read_to_string(&log).unwrap_or_default();
        let is_progress =
            |line: &&str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if let Some(last) = text.lines().rfind(is_progress) {
            println!("  {}: {}", self.name, last.trim());
        }
        ensure!(status.success(), "{}\n{} failed: {status}", end_of(&text), self.name);
        Ok(())
    }

    fn kept(&self) -> PathBuf {
        Path::new(CORPORA).join(&self.name)
    }

    /// Makes the kept corpus anew of inputs that reach each edge once, the small ones first.
    fn keep(&self, found: &Path) -> Result<()> {
        let new = PathBuf::from(format!("{FOUND}/{}/kept", self.name));
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        fs::create_dir_all(&new)?;
        fs::create_dir_all(self.kept())?;
        let mut merge = self.command()?;
        merge.args(["-merge=1", "-use_counters=0", "-use_value_profile=0"]).arg(&new).arg(self.kept()).arg(found);
        self.run(merge)?;
        fs::remove_dir_all(self.kept())?;
        fs::rename(&new, self.kept()).context("the new corpus can't be put in place")
    }
}

/// The end of a log, which has what a fault is.
fn end_of(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Builds the targets, with only this workspace's own code counted: so the rest is built once for everything.
fn build(filter: Option<&str>) -> Result<Vec<Target>> {
    step("building the targets of the parsers");
    let this = std::env::current_exe().context("this program can't be found")?;
    let mut build = cargo();
    build.args(["build", "--locked", "--package", "mountgate-fuzz", "--features", "libfuzzer"]);
    build.env("RUSTC_WORKSPACE_WRAPPER", this).env(IN_PLACE_OF_RUSTC, "1");
    crate::run(&mut build)?;
    let mut names = Vec::new();
    for file in fs::read_dir(TARGETS)? {
        let path = file?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        names.extend(Some(name).filter(|name| filter.is_none_or(|filter| name.contains(filter))));
    }
    names.sort();
    ensure!(!names.is_empty(), "no parser has this in its name; {TARGETS} has one file for each");
    let target = |name: String| Ok(Target { program: built(&name)?, name, scratch: tempfile::tempdir()? });
    names.into_iter().map(target).collect()
}

/// Where cargo calls this program in the place of rustc: the compiler's end.
pub(crate) fn in_place_of_rustc() -> Option<Result<ExitStatus>> {
    std::env::var_os(IN_PLACE_OF_RUSTC)?;
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    // Cargo asks the compiler about itself first, for which it names no file.
    let is_crate = arguments.iter().any(|argument| argument == "--crate-name")
        && !arguments.iter().any(|argument| argument == "-");
    // A build script is a program without libFuzzer.
    let is_build_script = arguments.iter().any(|argument| argument == "build_script_build");
    if is_crate && !is_build_script {
        arguments.extend(COVERAGE.map(OsString::from));
        // libFuzzer asks at its start which functions there are, and a static program has no answer.
        arguments.retain(|argument| argument != "-Ctarget-feature=+crt-static");
    }
    let (rustc, arguments) = arguments.split_first()?;
    Some(Command::new(rustc).args(arguments).status().context("rustc can't be started"))
}
