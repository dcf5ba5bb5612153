//! What the documentation claims that tests show.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::support::root;

tests! {
    plain every_row_of_the_threat_model_names_tests_that_exist,
}

/// The names of all tests: `module::name` of the integration tests, `file::name` of the unit tests.
fn names() -> Result<BTreeSet<String>> {
    let integration = crate::all_tests().into_iter().map(|test| test.name().to_owned());
    let mut names: BTreeSet<String> = integration.collect();
    for folder in ["host/src", "plugins", "registry/src", "xtask/src"] {
        collect(&root().join(folder), &mut names)?;
    }
    Ok(names)
}

fn collect(folder: &Path, names: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, names)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            names.extend(unit_tests(&path)?);
        }
    }
    Ok(())
}

/// The unit tests of a file, under its name; those of `lib.rs`, `mod.rs` and `tests.rs` under that of their crate or folder.
fn unit_tests(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path)?;
    let parts: Vec<String> = path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let is_whole = |part: &&String| !matches!(part.as_str(), "lib" | "mod" | "tests" | "src");
    let file = parts.iter().rev().find(is_whole).context("a file without a name")?;
    let after_attribute = text.split("#[test]").skip(1);
    let name = |rest: &str| Some(rest.split_once("fn ")?.1.split_once('(')?.0.to_owned());
    Ok(after_attribute.filter_map(name).map(|name| format!("{file}::{name}")).collect())
}

fn every_row_of_the_threat_model_names_tests_that_exist() -> Result<()> {
    let names = names()?;
    let text = fs::read_to_string(root().join("docs/threat-model.md"))?;
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    let (head, rows) = lines.split_at_checked(2).context("there is no table")?;
    ensure!(head[0].starts_with("| class") && rows.len() > 15, "only {} rows were found", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [class, _, _, shown_by] = cells[..] else { anyhow::bail!("a row without four cells: {row}") };
        let named: Vec<&str> = shown_by.split('`').skip(1).step_by(2).collect();
        ensure!(!named.is_empty(), "no test is named for {class:?}");
        for name in named {
            let is_file = name.starts_with("tests/cli/") && root().join(name).exists();
            ensure!(is_file || names.contains(name), "{class:?} names {name}, which isn't a test");
        }
    }
    Ok(())
}
