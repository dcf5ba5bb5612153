//! The road of a plugin's author: from nothing to a denied mount, outside of this repository.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{cache, folder, plugin, program, root, status, text_of};

tests! {
    plain a_plugin_is_written_built_tested_and_denies_in_five_commands,
    plain the_same_in_javascript,
    plain the_same_in_python_and_one_chain_of_all_languages,
    plain the_same_without_code,
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

/// Runs the commands that a chapter of docs/writing-a-plugin.md shows, one by one. They are five at most, and end in a denied mount.
fn follow(heading: &str, denied_with: &str) -> Result<(TempDir, String)> {
    let book = fs::read_to_string(root().join("docs/writing-a-plugin.md"))?;
    let (_, chapter) = book.split_once(&format!("{heading}\n")).context("the chapter is missing")?;
    let (_, block) = chapter.split_once("```sh\n").context("it shows no commands")?;
    let (block, _) = block.split_once("```").context("its commands don't end")?;
    let commands: Vec<&str> = block.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    ensure!(commands.len() <= 5, "{commands:?}");
    let folder = folder()?;
    let bin = folder.path().join("bin");
    fs::create_dir(&bin)?;
    std::os::unix::fs::symlink(program(), bin.join("mountgate"))?;
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let script = commands.iter().enumerate().fold(String::new(), |script, (number, command)| {
        format!("{script}{command}\necho \"status of {number}: $?\"\n")
    });
    let begun = Instant::now();
    let output = Command::new("sh")
        .args(["-c", &format!("umask 022\n{script}")])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("RELEASE", root())
        .env("MOUNTGATE_CACHE", cache())
        .output()?;
    let text = text_of(&output);
    let last = commands.len() - 1;
    for (number, command) in commands[..last].iter().enumerate() {
        ensure!(text.contains(&format!("status of {number}: 0")), "{command}: {text}");
    }
    ensure!(text.contains(&format!("status of {last}: 3")) && text.contains(denied_with), "{text}");
    println!("{heading}: {} commands in {} s", commands.len(), begun.elapsed().as_secs());
    Ok((folder, text))
}

fn succeeded(command: &mut Command, said: &str) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success() && text_of(&output).contains(said), "{}", text_of(&output));
    Ok(())
}

fn a_plugin_is_written_built_tested_and_denies_in_five_commands() -> Result<()> {
    let (folder, text) = follow("## Write your first policy", "must be read-only")?;
    ensure!(text.contains("3 cases: 3 as expected"), "{text}");
    let manifest = folder.path().join("read-only-disks/Cargo.toml");
    succeeded(Command::new("cargo").args(["test", "--quiet", "--manifest-path"]).arg(manifest), "1 passed")
}

fn the_same_in_javascript() -> Result<()> {
    let (folder, text) = follow("### In JavaScript", "must be read-only")?;
    ensure!(text.contains("3 cases: 3 as expected") && text.contains("none needed"), "{text}");
    let project = folder.path().join("read-only-disks");
    succeeded(Command::new("npm").arg("test").current_dir(&project), "pass 1")?;
    // What it throws is told.
    let policy = project.join("policy.js");
    let source = fs::read_to_string(&policy)?;
    let thrown = source.replace("const request = review.request;", "throw new Error('thrown on purpose');");
    fs::write(&policy, thrown)?;
    succeeds(&project, &["plugin", "build"])?;
    let told = run(&project, &["check", "--policies", "policies", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])?;
    ensure!(status(&told) == 4 && text_of(&told).contains("thrown on purpose"), "{}", text_of(&told));
    // In `check`, too.
    let checked =
        source.replace("    evaluate(", "    check() { throw new Error('thrown in check'); },\n\n    evaluate(");
    fs::write(&policy, checked)?;
    succeeds(&project, &["plugin", "build"])?;
    prepare_fails(&project, "thrown in check")?;
    // A mutating one, from the same tools.
    succeeds(folder.path(), &["plugin", "new", "--lang", "js", "--kind", "mutating", "add-ro"])?;
    let other = folder.path().join("add-ro");
    fs::rename(project.join("node_modules"), other.join("node_modules"))?;
    succeeds(&other, &["plugin", "build"])?;
    let tested = succeeds(&other, &["policy", "test", "--every-code", "policies"])?;
    ensure!(tested.contains("2 cases: 2 as expected"), "{tested}");
    succeeds(&other, &["policy", "validate", "policies"])?;
    succeeded(Command::new("npm").arg("test").current_dir(&other), "pass 2")
}

fn the_same_in_python_and_one_chain_of_all_languages() -> Result<()> {
    let (folder, text) = follow("### In Python", "must be read-only")?;
    ensure!(text.contains("3 cases: 3 as expected") && text.contains("none needed"), "{text}");
    let project = folder.path().join("read-only-disks");
    succeeded(Command::new("python3").args(["-m", "unittest"]).current_dir(&project), "OK")?;
    // With WASI it needs the grant.
    let policy = project.join("policy.py");
    let raised = "        request = review.request\n        if request.fstype == \"ramfs\":\n            raise ValueError(\"raised on purpose\")\n";
    fs::write(&policy, fs::read_to_string(&policy)?.replace("        request = review.request\n", raised))?;
    let chain = folder.path().join("chain");
    fs::create_dir(&chain)?;
    let wasm = chain.join("python.wasm").display().to_string();
    let built = succeeds(folder.path(), &["plugin", "build", "read-only-disks", "--wasi", "--output", &wasm])?;
    ensure!(built.contains("grants = [\"wasi\"]"), "{built}");
    for name in ["path-guard", "fstype-allow"] {
        fs::copy(plugin(name), chain.join(format!("{name}.wasm")))?;
    }
    let rest = "settings = { writable-types = [\"tmpfs\"] }\n[[policy]]\nname = \"guard\"\nplugin = \"path-guard.wasm\"\nsettings = { deny-targets = [\"/etc\"] }\n[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"tmpfs\", \"ramfs\"] }\n";
    let first = "[[policy]]\nname = \"py\"\nplugin = \"python.wasm\"\n";
    let write = |grant: &str| -> Result<Output> {
        fs::write(chain.join("policies.toml"), format!("{first}{grant}{rest}"))?;
        succeeds(&chain, &["policy", "lock", "--yes", "."])?;
        run(&chain, &["policy", "validate", "."])
    };
    let refused = write("")?;
    ensure!(status(&refused) == 4 && text_of(&refused).contains("grants = [\"wasi\"]"), "{}", text_of(&refused));
    let sound = write("grants = [\"wasi\"]\n")?;
    ensure!(status(&sound) == 0, "{}", text_of(&sound));
    for (fstype, target, ends, said) in
        [("tmpfs", "/mnt", 0, ""), ("tmpfs", "/etc", 3, "guard"), ("ramfs", "/mnt", 4, "ValueError: raised on purpose")]
    {
        let decided = run(&chain, &["check", "--policies", ".", "mount", "-t", fstype, fstype, target])?;
        ensure!(
            status(&decided) == ends && text_of(&decided).contains(said),
            "{fstype} {target}: {}",
            text_of(&decided)
        );
    }
    // What is raised when the settings are checked.
    let checked = fs::read_to_string(&policy)?.replace(
        "    def judge(",
        "    def check(self, settings):\n        raise KeyError(\"raised in check\")\n\n    def judge(",
    );
    fs::write(&policy, checked)?;
    succeeds(&project, &["plugin", "build"])?;
    prepare_fails(&project, "raised in check")
}

/// The policies of a project are refused, and what their plugin has raised is told as a problem of its settings.
fn prepare_fails(project: &Path, said: &str) -> Result<()> {
    let output = run(project, &["policy", "validate", "policies"])?;
    let text = text_of(&output);
    ensure!(status(&output) == 4 && text.contains(said) && !text.contains("trap"), "{text}");
    Ok(())
}

fn the_same_without_code() -> Result<()> {
    follow("### Without code", "say how large /mnt may grow").map(drop)
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
