//! What a developer runs: `cargo xtask COMMAND`.

mod bench;
mod coverage;
mod demo;
mod dist;
mod docs;
mod elsewhere;
mod imports;
mod package;
mod parsers;
mod planted;
mod plugins;
mod profile;
mod setup;
mod test;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Parser;

/// Sets up, builds and runs mountgate's own development.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Xtask {
    /// Make Rust plugins buildable on this machine: rustup's target, else Debian's packages.
    Setup {
        /// Also install the programs that the tests run. Needs root and Debian's packages.
        #[arg(long)]
        tests: bool,
    },
    /// Build the reference plugins and put them into the policy directories.
    Plugins,
    /// Set up, build, and run a gated mount for real in a sandbox.
    Demo,
    /// Set up, build, and run every test; or only the integration tests that the arguments select.
    Test {
        /// For the integration tests, e.g. a part of a test's name.
        #[arg(trailing_var_arg = true)]
        arguments: Vec<String>,
    },
    /// Compare mountgate with its peers, side by side in one run. Needs root.
    Bench {
        /// Only the benchmarks with this in their name: process, mount, list, decision, languages, fuzz.
        filter: Option<String>,
    },
    /// Measure the fuzzer on planted bugs.
    Planted {
        /// How many seeds each search is made with.
        #[arg(long, default_value_t = 20)]
        seeds: u64,
        /// How many runs each search has.
        #[arg(long, default_value_t = 200_000)]
        runs: u64,
        /// Only with this guide: blind, edges, comparisons. May be given several times.
        #[arg(long, value_parser = planted::GUIDES)]
        guide: Vec<String>,
        /// The program that searches, if not the shipped one.
        #[arg(long)]
        program: Option<PathBuf>,
        /// Only bugs with this in their name.
        filter: Option<String>,
    },
    /// Say what of the reference plugins' own code the requests in tests/coverage/corpus reach.
    Coverage {
        /// Look for requests that reach more, in so many runs, and keep them.
        #[arg(long, value_name = "RUNS")]
        grow: Option<u64>,
        /// List the ways that nothing takes.
        #[arg(long)]
        missing: bool,
        /// The program that runs the plugins, if not the one that is built for development.
        #[arg(long)]
        program: Option<PathBuf>,
    },
    /// Search on an emulated machine as well, and compare the digests. Needs root and Debian's packages.
    Elsewhere {
        /// How many runs both searches have.
        #[arg(long, default_value_t = 2000)]
        runs: u64,
        /// The policy directory.
        #[arg(long, default_value = "policies/baseline")]
        policies: PathBuf,
        /// The program that searches, if not the shipped one.
        #[arg(long)]
        program: Option<PathBuf>,
    },
    /// Search for inputs on which the host's own parsers fail, with libFuzzer.
    Parsers {
        /// How many runs each search has.
        #[arg(long, default_value_t = 200_000)]
        runs: u64,
        /// How many seconds each search takes, instead.
        #[arg(long, conflicts_with = "runs")]
        seconds: Option<u64>,
        /// Make the corpora in fuzz/corpus anew of what reaches each edge.
        #[arg(long)]
        keep: bool,
        /// Only parsers with this in their name, e.g. mountinfo.
        filter: Option<String>,
    },
    /// Build the documentation as a site, and check its links.
    Docs,
    /// Build the program as it's shipped, and say where it is.
    Dist,
    /// Build what a release consists of, and pack it with its checksum into target/package.
    Package,
    /// Print how the files of a crate import each other: files, arrows, circles.
    Imports {
        /// The folder of the crate's source.
        #[arg(default_value = "host/src")]
        folder: PathBuf,
    },
    /// Write the manual pages to a folder.
    Man {
        /// The folder.
        #[arg(default_value = "target/man")]
        folder: PathBuf,
    },
}

fn main() -> Result<()> {
    if let Some(status) = parsers::in_place_of_rustc() {
        std::process::exit(status?.code().unwrap_or(1));
    }
    std::env::set_current_dir(root()).context("the workspace isn't where it was built")?;
    match Xtask::parse() {
        Xtask::Setup { tests } => {
            setup::run()?;
            if tests { setup::test_tools() } else { Ok(()) }
        }
        Xtask::Plugins => plugins::build().map(drop),
        Xtask::Demo => demo::run(),
        Xtask::Test { arguments } => test::run(&arguments),
        Xtask::Bench { filter } => bench::run(filter.as_deref()),
        Xtask::Planted { seeds, runs, guide, program, filter } => {
            plugins::build()?;
            let program = program.map_or_else(dist::program, Ok)?;
            planted::run(&program, seeds, runs, &guide, filter.as_deref())
        }
        Xtask::Coverage { grow, missing, program } => {
            let program = program.map_or_else(mountgate, Ok)?;
            coverage::print(&program, grow, missing)
        }
        Xtask::Elsewhere { runs, policies, program } => {
            plugins::build()?;
            let program = program.map_or_else(dist::program, Ok)?;
            elsewhere::compare(&program, &policies, runs)
        }
        Xtask::Parsers { runs, seconds, keep, filter } => {
            let bound = seconds.map_or(parsers::Bound::Runs(runs), parsers::Bound::Seconds);
            setup::test_tools()?;
            parsers::search(bound, keep, filter.as_deref())
        }
        Xtask::Docs => docs::build(),
        Xtask::Dist => dist::program().map(|program| println!("{}", program.display())),
        Xtask::Package => package::build(),
        Xtask::Imports { folder } => imports::print(&folder),
        Xtask::Man { folder } => run(Command::new(mountgate()?).arg("man").arg(folder)),
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Builds the program and says where it is.
fn mountgate() -> Result<PathBuf> {
    step("building mountgate (the first time takes some minutes)");
    run(cargo().args(["build", "--locked", "--package", "mountgate"]))?;
    built("mountgate")
}

/// Where cargo put a program of this workspace.
fn built(name: &str) -> Result<PathBuf> {
    // This program is one of them.
    let here = std::env::current_exe().context("this program can't be found")?;
    Ok(here.with_file_name(name))
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?} can't be started"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

fn step(what: &str) {
    eprintln!("==> {what}");
}
