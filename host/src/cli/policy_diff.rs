//! `mountgate policy diff`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::fuzz::input_file::{canonical, shell_word, write_whole};
use super::fuzz::{self, Bounds, Guide, Guides};
use super::global::Global;
use super::replay;
use crate::exit::ExitStatus;
use crate::fuzz::dictionary::Dictionary;
use crate::fuzz::diff::{Answer, Difference, Listener, compare};
use crate::fuzz::run::Plan;
use crate::fuzz::tables::Tables;
use crate::json;
use crate::model::untrusted::for_people;

/// Look for requests about which two policy directories differ
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mountgate policy diff /etc/mountgate new-policies
  mountgate policy diff policies/baseline policies/strict --runs 500000
  mountgate policy diff /etc/mountgate new-policies --replay /var/log/mountgate/audit.jsonl

Each class of differences is shown by its smallest request, which is written as a request file. That no difference is found doesn't mean
that there is none.

Exit status: 0 no difference found, 4 a policy directory isn't sound, 5 some found")]
pub(super) struct DiffArgs {
    /// The directory as it was
    old: PathBuf,
    /// The directory as it will be
    new: PathBuf,
    #[command(flatten)]
    bounds: Bounds,
    /// Folders of requests to begin with
    #[arg(long, value_name = "DIR")]
    corpus: Vec<PathBuf>,
    /// An audit file: its requests are decided first
    #[arg(long, value_name = "AUDIT")]
    replay: Option<PathBuf>,
    /// Where requests are written
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
}

pub(super) fn run(global: &Global, args: &DiffArgs) -> anyhow::Result<ExitStatus> {
    let (old, new) =
        (Guides::load(global, &args.old, Guide::Comparisons)?, Guides::load(global, &args.new, Guide::Comparisons)?);
    let replayed = match &args.replay {
        Some(file) => replay::differences(file, &old.plain, &new.plain)?,
        None => replay::Replayed::default(),
    };
    let entries = old.plain.entries().iter().chain(new.plain.entries());
    let dictionary = Dictionary::of(entries.map(|entry| entry.settings.as_str()));
    let tables = Tables::new([]);
    let mut corpus = replayed.inputs;
    for folder in &args.corpus {
        corpus.extend(fuzz::input_file::read_folder(folder)?.into_iter().map(|(_, input)| input));
    }
    let plan = Plan {
        tables: &tables,
        dictionary: &dictionary,
        corpus,
        settings: Vec::new(),
        labels: &global.label,
        seed: args.bounds.seed,
        runs: args.bounds.runs,
        time: args.bounds.max_time,
        without: &[],
    };
    let mut progress = Progress::new(args)?;
    let compared = compare(&old.policies(None), &new.policies(None), plan, &mut progress);
    progress.bar.finish_and_clear();
    let files = compared
        .differences
        .iter()
        .enumerate()
        .map(|(number, difference)| write(&args.output, number, difference))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut out = anstream::stdout().lock();
    let found = compared.differences.len() + replayed.flips.len();
    if global.json {
        let differences: Vec<Value> =
            compared.differences.iter().zip(&files).map(|(difference, file)| as_json(difference, file)).collect();
        let object = json!({ "runs": compared.runs, "seed": args.bounds.seed, "replayed": replayed.decided, "flips": replayed.flips,
                             "differences": differences });
        json::write_line(&mut out, &object)?;
    } else {
        for flip in &replayed.flips {
            writeln!(out, "line {}  {}\n  {} → {}", flip.line, for_people(&flip.request), flip.was, flip.is)?;
        }
        for (difference, file) in compared.differences.iter().zip(&files) {
            print(&mut out, args, difference, file)?;
        }
        if args.replay.is_some() {
            writeln!(out, "{} requests replayed: {} differ", replayed.decided, replayed.flips.len())?;
        }
        let (runs, seed) = (compared.runs, args.bounds.seed);
        match compared.differences.len() {
            0 => writeln!(out, "no difference found in {runs} runs with seed {seed}")?,
            classes => writeln!(out, "{classes} classes of differences found in {runs} runs with seed {seed}")?,
        }
    }
    Ok(if found == 0 { ExitStatus::Done } else { ExitStatus::Found })
}

fn print(out: &mut impl Write, args: &DiffArgs, difference: &Difference, file: &Path) -> anyhow::Result<()> {
    let request = difference.input.request.to_string();
    writeln!(out, "{} → {}", for_people(&difference.old.to_string()), for_people(&difference.new.to_string()))?;
    writeln!(out, "  {} times, e.g. {}", difference.times, for_people(&request))?;
    if let (Some(old), Some(new)) = (&difference.old.request, &difference.new.request) {
        let words = [old, new].map(|request| for_people(&request.to_string()).to_string());
        writeln!(out, "  - {}\n  + {}", words[0], words[1])?;
    }
    for directory in [&args.old, &args.new] {
        let words = [directory, file].map(|path| shell_word(&path.to_string_lossy()));
        writeln!(out, "  mountgate check --policies {} --request {}", words[0], words[1])?;
    }
    Ok(())
}

fn as_json(difference: &Difference, file: &Path) -> Value {
    let answer = |answer: &Answer| json!({ "verdict": answer.word, "policy": answer.policy, "code": answer.code, "final": answer.request.as_ref().map(ToString::to_string) });
    json!({ "old": answer(&difference.old), "new": answer(&difference.new), "times": difference.times, "file": file.to_string_lossy(),
            "request": difference.input.request })
}

fn write(folder: &Path, number: usize, difference: &Difference) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} can't be made", folder.display()))?;
    let path = folder.join(format!("difference-{}.json", number + 1));
    write_whole(&path, &canonical(&difference.input)?)?;
    Ok(path)
}

struct Progress {
    bar: ProgressBar,
    interrupted: &'static AtomicBool,
}

impl Progress {
    fn new(args: &DiffArgs) -> anyhow::Result<Self> {
        let bar = fuzz::progress(args.bounds.runs);
        Ok(Self { bar, interrupted: crate::sys::note_interrupts(false).context("SIGINT can't be handled")? })
    }
}

impl Listener for Progress {
    fn progress(&mut self, runs: u64, classes: usize) {
        self.bar.set_position(runs);
        self.bar.set_message(format!("{classes} classes"));
    }

    fn stops(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}
