//! Builds plugins in JavaScript, with componentize-qjs or componentize-js of npm.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::built::Built;
use super::process::{program, run};
use super::scaffold::check_name;

const INSTALL: &str = "install Node.js and npm";

/// As much of package.json as is needed.
#[derive(Deserialize)]
struct Manifest {
    name: String,
}

/// Builds the plugin of a project.
pub(super) fn build(project: &Path, with_wasi: bool) -> Result<Built> {
    let manifest = project.join("package.json");
    let text = fs::read_to_string(&manifest).with_context(|| format!("{} can't be read", manifest.display()))?;
    let Manifest { name } = serde_json::from_str(&text)
        .with_context(|| format!("{} isn't the manifest of a package", manifest.display()))?;
    check_name(&name).with_context(|| manifest.display().to_string())?;
    let tools = project.join("node_modules/.bin");
    let (qjs, starling) = (tools.join("componentize-qjs"), tools.join("componentize-js"));
    if !qjs.exists() && !starling.exists() {
        run(program("npm", project).args(["install", "--no-audit", "--no-fund"]), INSTALL)?;
    }
    let output = project.join("target.wasm");
    let with = if qjs.exists() {
        // The small and synchronous runtime of QuickJS: what a plugin exports isn't async.
        let mut command = program(qjs.canonicalize()?, project);
        command.args(["--wit", "wit/0.1.0", "--js", "plugin.js", "--sync", "--opt-size", "--minify"]);
        command.args(["--output", "target.wasm"]).args((!with_wasi).then_some("--stub-wasi"));
        run(&mut command, INSTALL)?;
        "componentize-qjs of npm"
    } else if starling.exists() {
        let mut command = program(starling.canonicalize()?, project);
        command.args(["plugin.js", "--wit", "wit/0.1.0", "--world-name", "policy", "--out", "target.wasm"]);
        // There is no network for a plugin.
        command.args(["--disable", "http", "fetch-event"]);
        command.args(if with_wasi { &[][..] } else { &["stdio", "random", "clocks"] });
        run(&mut command, INSTALL)?;
        "componentize-js of npm"
    } else {
        bail!(
            "package.json asks for neither componentize-qjs nor @bytecodealliance/componentize-js: add one to its devDependencies"
        );
    };
    let component = fs::read(&output).with_context(|| format!("{} wasn't made", output.display()))?;
    fs::remove_file(&output)?;
    Ok(Built { name, component, with })
}
