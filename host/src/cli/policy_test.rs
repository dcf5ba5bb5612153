//! `mountgate policy test`

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use clap::{Args, Parser};
use quick_junit::{NonSuccessKind, Report, TestCase as JunitCase, TestCaseStatus, TestSuite};
use serde_json::json;
use toml_edit::{DocumentMut, Item};

use super::check::CheckCommand;
use super::global::Global;
use super::input::read_plain;
use crate::error::{Error, with_causes};
use crate::exit::ExitStatus;
use crate::gate::Gate;
use crate::json;
use crate::model::request::MountRequest;
use crate::model::untrusted::for_people;
use crate::mount_table::table::MountTable;
use crate::policy::directory::error::DirectoryError;
use crate::policy::engine::Engine;
use crate::test_cases::coverage::{Coverage, PolicyCode};
use crate::test_cases::file::{CaseFile, Expectation, Table, TestCase, Word, Words, line_of};
use crate::test_cases::judge::{Difference, Outcome, blessed, decide, differences};

/// Where the cases of a policy directory are.
const FOLDER: &str = "cases";

/// Decide the cases of a policy directory, and compare each decision with what is expected
#[derive(Debug, Args)]
#[command(after_help = "\
The cases are in DIR/cases/*.toml. docs/policy-directory.md shows their form.

Examples:
  mountgate policy test /etc/mountgate
  mountgate policy test --bless policies
  mountgate policy test --every-code --report junit=cases.xml policies

Exit status: 0 all as expected, 4 the directory or a case file isn't sound, 5 something differs")]
pub(super) struct TestArgs {
    /// The directory, if not the one of --policies
    pub(super) directory: Option<PathBuf>,
    /// Write what came of each case into its file, as what is expected from now on
    #[arg(long)]
    bless: bool,
    /// A denial code that no case reaches is a failure
    #[arg(long)]
    every_code: bool,
    /// Write a report for CI
    #[arg(long, value_name = "junit=FILE", value_parser = super::fuzz::junit)]
    report: Option<PathBuf>,
    /// Test again whenever a file of the directory changes
    #[arg(long)]
    watch: bool,
}

/// A case that was decided.
struct Tested {
    file: String,
    line: usize,
    name: String,
    differences: Vec<Difference>,
    reason: Option<String>,
    got: Expectation,
}

pub(super) fn run(global: &Global, directory: &Path, args: &TestArgs) -> anyhow::Result<ExitStatus> {
    if !args.watch {
        return once(global, directory, args);
    }
    loop {
        let before = stamp(directory);
        if let Err(error) = once(global, directory, args) {
            super::output::report_error(&error, global.json);
        }
        while stamp(directory) == before {
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// The newest change of a file in the directory or among its cases.
fn stamp(directory: &Path) -> Option<(SystemTime, usize)> {
    let folders = [directory.to_owned(), directory.join(FOLDER)];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let times: Vec<SystemTime> = files.filter_map(|file| file.metadata().ok()?.modified().ok()).collect();
    Some((times.iter().max().copied()?, times.len()))
}

fn once(global: &Global, path: &Path, args: &TestArgs) -> anyhow::Result<ExitStatus> {
    let cache = global.cache();
    let mut directory = global.open_directory(path, &cache)?;
    for entry in &mut directory.policies {
        entry.limits = entry.limits.without_clock();
    }
    // A busy machine must not make a difference: only fuel ends a plugin.
    let engine = Engine::without_deadlines().map_err(Error::Sandbox)?;
    let gate = Gate::load(&engine, directory, &cache)?;
    let mut tested = Vec::new();
    for file in case_files(path)? {
        let text = String::from_utf8(read_plain(&file)?).with_context(|| format!("{} isn't UTF-8", file.display()))?;
        let of_file = test_file(&gate, path, &file, &text)?;
        if args.bless {
            bless(&file, &text, &of_file)?;
        }
        tested.extend(of_file);
    }
    let seen = tested
        .iter()
        .filter(|case| case.got.verdict == Word::Deny)
        .filter_map(|case| Some(PolicyCode { policy: case.got.policy.clone()?, code: case.got.code.clone()? }));
    let coverage = Coverage::of(gate.policies(), &seen.collect::<BTreeSet<_>>());
    if let Some(report) = &args.report {
        write_junit(report, &tested)?;
    }
    print(global, &tested, &coverage, args)?;
    let is_sound = coverage.not_named.is_empty() && (!args.every_code || coverage.not_reached.is_empty());
    let is_expected = args.bless || tested.iter().all(|case| case.differences.is_empty());
    Ok(if is_sound && is_expected { ExitStatus::Done } else { ExitStatus::Found })
}

pub(super) fn case_files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = directory.join(FOLDER);
    let entries =
        std::fs::read_dir(&folder).map_err(|error| not_sound(&folder, format!("it can't be listed: {error}")))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    match files.is_empty() {
        true => Err(not_sound(&folder, "it holds no case: put files of cases there, as NAME.toml".to_owned())),
        false => Ok(files),
    }
}

pub(super) fn not_sound(file: &Path, message: String) -> anyhow::Error {
    let hint = "docs/policy-directory.md shows the form of a case".into();
    Error::from(DirectoryError { file: file.to_owned(), line: None, message, hint }).into()
}

fn test_file(gate: &Gate, directory: &Path, file: &Path, text: &str) -> anyhow::Result<Vec<Tested>> {
    let name = file.strip_prefix(directory).unwrap_or(file).display().to_string();
    let mut tested = Vec::new();
    decide_each(gate, directory, file, text, |line, case, outcome| {
        tested.push(Tested {
            file: name.clone(),
            line,
            name: case.name.clone(),
            differences: differences(&case.expect, &outcome.got),
            reason: outcome.reason,
            got: blessed(&case.expect, &outcome.got),
        });
    })?;
    Ok(tested)
}

/// Decides the cases of a file. `each` hears what came of a case, with its line.
pub(super) fn decide_each(
    gate: &Gate,
    directory: &Path,
    file: &Path,
    text: &str,
    mut each: impl FnMut(usize, &TestCase, Outcome),
) -> anyhow::Result<()> {
    let cases = CaseFile::read(text).map_err(|problem| not_sound(file, problem))?;
    for spanned in &cases.cases {
        let (line, case) = (line_of(text, spanned.span().start), spanned.get_ref());
        let wrong = |problem: String| not_sound(file, format!("line {line}: case {:?}: {problem}", case.name));
        let request = request_of(case).map_err(&wrong)?;
        let table = table_of(cases.table(case), file.parent().unwrap_or(directory))
            .map_err(|error| wrong(format!("{error:#}")))?;
        let outcome = decide(&gate.chain(), case, request, table).map_err(|error| wrong(format!("{error:#}")))?;
        each(line, case, outcome);
    }
    Ok(())
}

/// The words of a case, as a command line.
#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: CheckCommand,
}

fn request_of(case: &TestCase) -> Result<MountRequest, String> {
    if let Some(request) = &case.request {
        return Ok(request.clone());
    }
    let words = case.run.as_ref().map(Words::list).unwrap_or_default();
    let line = Line::try_parse_from(std::iter::once("run".to_owned()).chain(words)).map_err(|error| {
        let text = error.to_string();
        text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })?;
    line.command.request().map_err(|error| with_causes(&error))
}

fn table_of(table: Option<&Table>, folder: &Path) -> anyhow::Result<MountTable> {
    let bytes = match table {
        None => Vec::new(),
        Some(Table::Lines(lines)) => lines.clone().into_bytes(),
        Some(Table::Parts(parts)) => {
            let mut bytes =
                parts.file.as_ref().map(|file| read_plain(&folder.join(file))).transpose()?.unwrap_or_default();
            bytes.extend(parts.repeated().into_bytes());
            bytes
        }
    };
    let table = MountTable::parse(bytes)?;
    match table.bad_lines().first() {
        Some(bad) => Err(anyhow!("line {} of the mount table: {}", bad.line, bad.error)),
        None => Ok(table),
    }
}

/// Writes what came of the cases into their file, and keeps its comments.
fn bless(file: &Path, text: &str, tested: &[Tested]) -> anyhow::Result<()> {
    let mut document: DocumentMut = text.parse()?;
    if let Some(cases) = document.get_mut("case").and_then(Item::as_array_of_tables_mut) {
        for (case, tested) in cases.iter_mut().zip(tested).filter(|(_, tested)| !tested.differences.is_empty()) {
            let value: toml_edit::Value = format!("{{ {} }}", inline(&tested.got)).parse()?;
            case["expect"] = Item::Value(value);
        }
    }
    let written = document.to_string();
    if written != text {
        std::fs::write(file, written).with_context(|| format!("{} can't be written", file.display()))?;
    }
    Ok(())
}

/// The fields of an expectation as they stand in an inline table.
fn inline(expectation: &Expectation) -> String {
    let quoted = |text: &String| toml_edit::Value::from(text.as_str()).to_string().trim().to_owned();
    let mut fields = vec![format!("verdict = \"{}\"", expectation.verdict.name())];
    let texts = [("policy", &expectation.policy), ("code", &expectation.code), ("final", &expectation.final_request)];
    fields.extend(texts.into_iter().filter_map(|(name, text)| Some(format!("{name} = {}", quoted(text.as_ref()?)))));
    if let Some(edits) = &expectation.edits {
        fields.push(format!("edits = [{}]", edits.iter().map(quoted).collect::<Vec<_>>().join(", ")));
    }
    fields.join(", ")
}

fn print(global: &Global, tested: &[Tested], coverage: &Coverage, args: &TestArgs) -> anyhow::Result<()> {
    let failed = tested.iter().filter(|case| !case.differences.is_empty()).count();
    let mut out = anstream::stdout().lock();
    if global.json {
        let cases: Vec<_> = tested
            .iter()
            .map(|case| {
                json!({ "file": case.file, "line": case.line, "name": case.name, "passed": case.differences.is_empty(),
                        "differences": case.differences })
            })
            .collect();
        let object = json!({ "cases": cases, "passed": tested.len() - failed, "failed": failed, "codes": coverage });
        return Ok(json::write_line(&mut out, &object)?);
    }
    for case in tested.iter().filter(|case| !case.differences.is_empty()) {
        let word = if args.bless { "blessed" } else { "differs" };
        writeln!(out, "{word}  {}:{}  {}", case.file, case.line, for_people(&case.name))?;
        for Difference { field, expected, got } in &case.differences {
            writeln!(out, "  {field}:\n  - {}\n  + {}", for_people(expected), for_people(got))?;
        }
        if let Some(reason) = &case.reason {
            writeln!(out, "  because: {}", for_people(reason))?;
        }
    }
    for PolicyCode { policy, code } in &coverage.not_reached {
        writeln!(out, "no case reaches  {policy}: {code}")?;
    }
    for PolicyCode { policy, code } in &coverage.not_named {
        writeln!(out, "{policy} denies with {code}, which isn't among the codes that its plugin names")?;
    }
    writeln!(
        out,
        "{} cases: {} as expected, {failed} {}",
        tested.len(),
        tested.len() - failed,
        if args.bless { "blessed" } else { "not" }
    )?;
    Ok(())
}

fn write_junit(path: &Path, tested: &[Tested]) -> anyhow::Result<()> {
    let mut suite = TestSuite::new("mountgate policy test");
    for case in tested {
        let status = match case.differences.is_empty() {
            true => TestCaseStatus::success(),
            false => {
                let line = |d: &Difference| format!("{}: {} where {} is expected", d.field, d.got, d.expected);
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(case.differences.iter().map(line).collect::<Vec<_>>().join("\n"));
                status
            }
        };
        let mut test = JunitCase::new(case.name.as_str(), status);
        test.set_classname(case.file.as_str());
        suite.add_test_case(test);
    }
    let mut report = Report::new("mountgate policy test");
    report.add_test_suite(suite);
    let text = report.to_string().context("the report can't be made")?;
    std::fs::write(path, text).with_context(|| format!("{} can't be written", path.display()))
}
