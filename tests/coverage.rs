//! `policy coverage` says what a corpus reaches, and the corpus here reaches the reference plugins' own code.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{folder, mountgate, root, status, text_of};

tests! {
    plain the_corpus_reaches_the_code_of_the_reference_plugins,
    plain a_report_says_which_lines_were_reached,
}

/// The plugins with names and lines, as `cargo xtask` builds them.
const PLUGINS: &str = "target/coverage";

/// The reference plugins.
const REFERENCE: [&str; 5] = ["fstype-allow", "mount-limits", "path-guard", "rules", "secure-flags"];

/// A policy directory with these policies.
fn directory(text: &str) -> Result<TempDir> {
    let directory = folder()?;
    fs::write(directory.path().join("policies.toml"), text)?;
    for entry in fs::read_dir(root().join(PLUGINS)).context("cargo xtask test builds them")? {
        let path = entry?.path();
        let name = path.file_name().context("a name")?;
        if text.contains(&name.to_string_lossy().into_owned()) {
            fs::copy(&path, directory.path().join(name))?;
        }
    }
    let locked = mountgate(&["policy", "lock", "--yes"]).arg(directory.path()).output()?;
    ensure!(status(&locked) == 0, "{}", text_of(&locked));
    Ok(directory)
}

fn the_corpus_reaches_the_code_of_the_reference_plugins() -> Result<()> {
    let data = root().join("tests/coverage");
    let directory = directory(&fs::read_to_string(data.join("policies.toml"))?)?;
    let mut coverage = mountgate(&["policy", "coverage", "--json", "--corpus"]);
    coverage.arg(data.join("corpus")).arg(directory.path());
    for plugin in REFERENCE {
        coverage.arg("--source").arg(root().join("plugins").join(plugin).join("src"));
    }
    let output = coverage.output()?;
    let json: Value = serde_json::from_slice(&output.stdout).with_context(|| text_of(&output))?;
    // CONTRIBUTING.md says what isn't reached.
    for plugin in REFERENCE {
        let is_it =
            |found: &&Value| found["plugin"].as_str().is_some_and(|path| path.ends_with(&format!("{plugin}.wasm")));
        let found = json["plugins"].as_array().context("no plugins")?.iter().find(is_it).context("no plugin")?;
        for (of, least) in [("branches", 90), ("lines", 95), ("functions", 100)] {
            let number = |field: &str| found[of][field].as_u64().unwrap_or(0);
            ensure!(number("all") > 0 && number("reached") * 100 >= number("all") * least, "{plugin}, {of}: {found}");
        }
    }
    Ok(())
}

fn a_report_says_which_lines_were_reached() -> Result<()> {
    let text = "[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"tmpfs\"] }\n";
    let directory = directory(text)?;
    let source = root().join("plugins/fstype-allow/src");
    let line = fs::read_to_string(source.join("lib.rs"))?;
    let line = line.lines().position(|line| line.contains("may not be mounted")).context("no such line")? + 1;
    let corpus = folder()?;
    let reached = |fstype: &str| -> Result<(String, String, Value)> {
        let request = format!(
            r#"{{"request":{{"operation":"mount","source":"x","target":"/mnt","fstype":"{fstype}","options":[]}},"requester":{{"uid":0,"gid":0,"pid":1,"labels":[]}}}}"#
        );
        fs::write(corpus.path().join(fstype), request)?;
        let out = folder()?;
        let at = |name: &str| out.path().join(name).display().to_string();
        let report = format!("lcov={},html={},json={}", at("lcov"), at("html"), at("json"));
        let mut coverage = mountgate(&["policy", "coverage", "--report", &report, "--min", "100", "--corpus"]);
        coverage.arg(corpus.path()).arg("--source").arg(&source).arg(directory.path());
        let output = coverage.output()?;
        ensure!([0, 5].contains(&status(&output)), "{}", text_of(&output));
        let read = |name: &str| fs::read_to_string(Path::new(&at(name)));
        let json: Value = serde_json::from_str(&read("json")?)?;
        let branches = &json["plugins"][0]["branches"];
        ensure!((status(&output) == 0) == (branches["reached"] == branches["all"]), "{branches}: {}", text_of(&output));
        Ok((read("lcov")?, read("html")?, json))
    };
    let (lcov, html, before) = reached("tmpfs")?;
    ensure!(lcov.contains(&format!("\nDA:{line},0\n")), "{lcov}");
    ensure!(html.contains("#evaluate") && html.contains("may not be mounted"), "{html}");
    let (lcov, html, after) = reached("nfs")?;
    ensure!(lcov.contains(&format!("\nDA:{line},1\n")) || lcov.contains(&format!("\nDA:{line},2\n")), "{lcov}");
    ensure!(html.lines().count() > 20 && !html.contains("src=") && !html.contains("http"), "{html}");
    let count = |json: &Value| json["plugins"][0]["lines"]["reached"].as_u64();
    ensure!(count(&before) < count(&after), "{before}\n{after}");
    Ok(())
}
