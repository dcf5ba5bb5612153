//! `mountgate policy coverage`

mod html;
mod lcov;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::fuzz::input_file::{read_folder, write_whole};
use super::fuzz::{self, Guides};
use super::global::Global;
use super::input::read_plain;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::fuzz::covered::{FileCoverage, PluginCoverage, Sources, Ways, cover};
use crate::json;
use crate::model::refusals::Refusals;
use crate::model::untrusted::for_people;

/// Say what of the plugins' code a corpus of requests reaches: functions, branches, lines
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mountgate policy coverage policies --corpus corpus
  mountgate policy coverage policies --corpus corpus --source my-plugin/src --missing
  mountgate policy coverage policies --corpus corpus --source my-plugin/src --report html=coverage.html,lcov=coverage.info --min 90

Functions have names, and lines are known, if the plugin is built with debug information. A branch is an instruction after which code goes
on in more than one way, and each way counts. The corpus is decided by all policies and by each alone, with the settings that they have.

Exit status: 0 done, 4 the policy directory isn't sound, 5 less is reached than --min asks for")]
pub(super) struct CoverageArgs {
    /// The policy directory, if not the one of --policies
    pub(super) directory: Option<PathBuf>,
    /// A folder of requests, as `mountgate fuzz --corpus` keeps them; may be given several times
    #[arg(long, value_name = "DIR", required = true)]
    corpus: Vec<PathBuf>,
    /// Count only code whose source is below this folder; may be given several times
    #[arg(long, value_name = "DIR")]
    source: Vec<PathBuf>,
    /// List the ways that no request takes, each with the place where it leads
    #[arg(long)]
    missing: bool,
    /// Fail if fewer branches of a plugin are reached, in percent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min: Option<u8>,
    /// Write a report: lcov=FILE, html=FILE, json=FILE
    #[arg(long, value_name = "FORM=FILE", value_delimiter = ',')]
    report: Vec<ReportFile>,
}

/// A report that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ReportFile {
    form: Form,
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Lcov,
    Html,
    Json,
}

impl std::str::FromStr for ReportFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = |word| match word {
            "lcov" => Some(Form::Lcov),
            "html" => Some(Form::Html),
            "json" => Some(Form::Json),
            _ => None,
        };
        let parts = text.split_once('=').filter(|(_, path)| !path.is_empty());
        let report = parts.and_then(|(word, path)| Some(Self { form: form(word)?, path: path.into() }));
        report.ok_or_else(|| "write it as lcov=FILE, html=FILE or json=FILE".to_owned())
    }
}

pub(super) fn run(global: &Global, directory: &Path, args: &CoverageArgs) -> anyhow::Result<ExitStatus> {
    let folders = args.source.iter().map(|source| folder(source)).collect::<anyhow::Result<Vec<_>>>()?;
    let sources = Sources::new(folders, |file| Some(String::from_utf8_lossy(&read_plain(file).ok()?).into_owned()));
    let mut inputs = Vec::new();
    for folder in &args.corpus {
        inputs.extend(read_folder(folder)?.into_iter().map(|(_, input)| input));
    }
    let settings = fuzz::settings(&args.corpus)?;
    let (engine, edges) = Guides::edges(global, directory)?;
    let plugins = cover(&edges, &fuzz::trials(global, &engine, &edges)?, &inputs, &settings, &sources)?;
    if !args.source.is_empty() && plugins.iter().all(|plugin| plugin.files.is_empty()) {
        let message = "no plugin has code of which it's known that its source lies there".to_owned();
        let hint = Some("build the plugins with debug information, and name the folder where they were built");
        return Err(Error::from(Refusals::one("--source", message, hint)).into());
    }
    let object = as_json(&plugins, inputs.len());
    for report in &args.report {
        let text = match report.form {
            Form::Lcov => lcov::text(&plugins),
            Form::Html => html::page(&plugins, inputs.len(), &sources),
            Form::Json => format!("{object}\n"),
        };
        write_whole(&report.path, &text)?;
    }
    let mut out = anstream::stdout().lock();
    if global.json {
        json::write_line(&mut out, &object)?;
    } else {
        for plugin in &plugins {
            print(&mut out, plugin, args.missing)?;
        }
        writeln!(out, "{} requests", inputs.len())?;
    }
    let is_enough = |plugin: &PluginCoverage| args.min.is_none_or(|min| plugin.branches.percent() >= f64::from(min));
    Ok(if plugins.iter().all(is_enough) { ExitStatus::Done } else { ExitStatus::Found })
}

/// A folder as debug information names it.
fn folder(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize().map_err(|error| {
        let message = format!("{} can't be found: {error}", path.display());
        Error::from(Refusals::one("--source", message, Some("name a folder of the plugin's source"))).into()
    })
}

/// A path from where one is, if it's below.
fn shown(path: &str) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let below = Path::new(path).strip_prefix(&here).unwrap_or(Path::new(path));
    for_people(&below.to_string_lossy()).into_owned()
}

fn print(out: &mut impl Write, plugin: &PluginCoverage, missing: bool) -> anyhow::Result<()> {
    let file = plugin.plugin.file_name().unwrap_or_default().to_string_lossy();
    writeln!(out, "{} ({})", for_people(&file), plugin.policies.join(", "))?;
    let line =
        |word, ways: Ways| format!("  {word:<10} {:>6} of {:<6} {:>5.1} %", ways.taken, ways.all, ways.percent());
    writeln!(out, "{}\n{}", line("functions", plugin.called()), line("branches", plugin.branches))?;
    if plugin.files.is_empty() {
        writeln!(out, "  lines      unknown: it has no debug information, or none of code that counts")?;
        return Ok(());
    }
    writeln!(out, "{}", line("lines", plugin.lines()))?;
    for (path, file) in &plugin.files {
        let (branches, lines) = (file.ways().percent(), file.reached().percent());
        writeln!(out, "    {:<50} branches {branches:>5.1} %  lines {lines:>5.1} %", shown(path))?;
        let branches =
            file.branches.iter().flat_map(|(line, branches)| branches.iter().map(move |branch| (line, branch)));
        for (line, branch) in branches.filter(|_| missing) {
            let from = format!("{}:{line}:{}", shown(path), branch.column);
            if branch.counts().all(|count| count == 0) {
                writeln!(out, "      {from}: not reached, {} ways", branch.ways.len())?;
                continue;
            }
            for way in branch.ways.iter().filter(|way| way.count == 0) {
                let to = match &way.to {
                    Some((file, line, column)) if file == path => format!(" to {line}:{column}"),
                    Some((file, line, column)) => format!(" to {}:{line}:{column}", shown(file)),
                    None => String::new(),
                };
                writeln!(out, "      {from}: the way{to} isn't taken")?;
            }
        }
    }
    Ok(())
}

fn as_json(plugins: &[PluginCoverage], requests: usize) -> Value {
    let ways = |ways: Ways| json!({ "reached": ways.taken, "all": ways.all });
    let file = |(path, file): (&String, &FileCoverage)| json!({ "path": path, "branches": ways(file.ways()), "lines": ways(file.reached()) });
    let plugin = |plugin: &PluginCoverage| {
        json!({ "plugin": plugin.plugin.to_string_lossy(), "policies": plugin.policies, "functions": ways(plugin.called()),
                "branches": ways(plugin.branches), "lines": ways(plugin.lines()), "files": plugin.files.iter().map(file).collect::<Vec<_>>() })
    };
    json!({ "requests": requests, "plugins": plugins.iter().map(plugin).collect::<Vec<_>>() })
}
