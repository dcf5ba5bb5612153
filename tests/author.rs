//! The road of a plugin's author: from nothing to a denied mount, outside of this repository.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::support::{cache, folder, plugin, program, root, status, text_of};

tests! {
    plain a_plugin_is_written_built_tested_and_denies_in_five_commands,
    plain a_mutating_plugin_is_one_option_away,
    plain a_project_is_never_written_over,
    plain what_cannot_be_built_says_why,
    plain a_component_is_described_with_its_settings,
}

/// Runs the program in a folder.
fn run(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(program());
    // The dependencies are built once for all of these tests.
    command.args(arguments).current_dir(folder).env("MOUNTGATE_CACHE", cache());
    Ok(command.output()?)
}

fn succeeds(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = run(folder, arguments)?;
    ensure!(status(&output) == 0, "{arguments:?}: {}", text_of(&output));
    Ok(text_of(&output))
}

/// The commands that "Write your first policy" in docs/writing-a-plugin.md shows, one by one.
fn a_plugin_is_written_built_tested_and_denies_in_five_commands() -> Result<()> {
    let book = fs::read_to_string(root().join("docs/writing-a-plugin.md"))?;
    let (_, chapter) = book.split_once("## Write your first policy").context("the chapter is missing")?;
    let (_, block) = chapter.split_once("```sh\n").context("it shows no commands")?;
    let (block, _) = block.split_once("```").context("its commands don't end")?;
    let commands: Vec<&str> = block.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    ensure!(commands.len() <= 5, "{commands:?}");
    let folder = folder()?;
    let bin = folder.path().join("bin");
    fs::create_dir(&bin)?;
    std::os::unix::fs::symlink(program(), bin.join("mountgate"))?;
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let script =
        commands.iter().fold(String::new(), |script, command| format!("{script}{command}; echo \"$?: {command}\"\n"));
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("MOUNTGATE_CACHE", cache())
        .output()?;
    let text = text_of(&output);
    let (last, before) = commands.split_last().context("it shows no commands")?;
    for command in before {
        ensure!(text.contains(&format!("0: {command}")), "{command}: {text}");
    }
    // It ends in a denied mount.
    ensure!(text.contains(&format!("3: {last}")) && text.contains("must be read-only"), "{text}");
    ensure!(text.contains("3 cases: 3 as expected"), "{text}");
    let tests = Command::new("cargo")
        .args(["test", "--quiet", "--manifest-path"])
        .arg(folder.path().join("read-only-disks/Cargo.toml"))
        .output()?;
    ensure!(tests.status.success() && text_of(&tests).contains("1 passed"), "{}", text_of(&tests));
    Ok(())
}

fn a_mutating_plugin_is_one_option_away() -> Result<()> {
    let folder = folder()?;
    succeeds(folder.path(), &["plugin", "new", "--kind", "mutating", "add-ro"])?;
    let built = succeeds(folder.path(), &["plugin", "build", "add-ro", "--json"])?;
    ensure!(built.contains("\"kind\":\"mutating\"") && built.contains("\"needs_wasi\":false"), "{built}");
    let tested = succeeds(folder.path(), &["policy", "test", "--every-code", "add-ro/policies"])?;
    ensure!(tested.contains("2 cases: 2 as expected"), "{tested}");
    succeeds(folder.path(), &["policy", "validate", "add-ro/policies"])?;
    succeeds(folder.path(), &["plugin", "new", "--update", "add-ro"]).map(drop)
}

fn a_project_is_never_written_over() -> Result<()> {
    let folder = folder()?;
    fs::create_dir(folder.path().join("mine"))?;
    fs::write(folder.path().join("mine/file"), "mine")?;
    for (name, said) in [("mine", "is there already"), ("../mine", "can't be the name"), ("Mine", "can't be the name")]
    {
        let output = run(folder.path(), &["plugin", "new", name])?;
        ensure!(status(&output) == 1 && text_of(&output).contains(said), "{}", text_of(&output));
    }
    ensure!(fs::read_dir(folder.path())?.count() == 1 && fs::read_dir(folder.path().join("mine"))?.count() == 1);
    Ok(())
}

fn what_cannot_be_built_says_why() -> Result<()> {
    let folder = folder()?;
    let output = run(folder.path(), &["plugin", "build"])?;
    ensure!(status(&output) == 1 && text_of(&output).contains("there is no Cargo.toml"), "{}", text_of(&output));
    succeeds(folder.path(), &["plugin", "new", "wrong"])?;
    let source = folder.path().join("wrong/src/lib.rs");
    fs::write(&source, fs::read_to_string(&source)?.replace("Ok(Verdict::Allow)", "Ok(Verdict::Perhaps)"))?;
    let output = run(folder.path(), &["plugin", "build", "wrong"])?;
    let text = text_of(&output);
    ensure!(status(&output) == 1 && text.contains("Perhaps") && text.contains("doesn't compile"), "{text}");
    ensure!(!folder.path().join("wrong/policies/wrong.wasm").exists());
    Ok(())
}

fn a_component_is_described_with_its_settings() -> Result<()> {
    let file = plugin("secure-flags");
    let shown = succeeds(Path::new("/"), &["plugin", "inspect", &file.display().to_string()])?;
    for line in [
        "secure-flags 0.1.0 (mutating)",
        "contract  mountgate:policy@0.1.0",
        "grants    none needed",
        "rules[].add",
        "list of ro | nosuid",
    ] {
        ensure!(shown.contains(line), "{line}: {shown}");
    }
    let shown = run(Path::new("/"), &["plugin", "inspect", "--json", &file.display().to_string()])?;
    let json: Value = serde_json::from_slice(&shown.stdout)?;
    ensure!(json["size"].as_u64().is_some_and(|size| size > 10_000) && json["name"] == "secure-flags", "{json}");
    Ok(())
}
