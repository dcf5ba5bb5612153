//! Builds plugins in Python, with componentize-py of PyPI.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::built::Built;
use super::process::{found, program, run};
use super::scaffold::check_name;

const INSTALL: &str = "install Python 3 with its module venv";
const TOOL: &str = "componentize-py";

/// As much of pyproject.toml as is needed.
#[derive(Deserialize)]
struct Manifest {
    project: Project,
}

#[derive(Deserialize)]
struct Project {
    name: String,
}

/// Builds the plugin of a project.
pub(super) fn build(project: &Path, with_wasi: bool) -> Result<Built> {
    let manifest = project.join("pyproject.toml");
    let text = fs::read_to_string(&manifest).with_context(|| format!("{} can't be read", manifest.display()))?;
    let Manifest { project: Project { name } } =
        toml::from_str(&text).with_context(|| format!("{} has no [project] with a name", manifest.display()))?;
    check_name(&name).with_context(|| manifest.display().to_string())?;
    let tool = tool(project)?;
    let componentize = || {
        let mut command = program(&tool, project);
        command.args(["--wit-path", "wit/0.1.0", "--world", "policy", "--quiet"]);
        command
    };
    // For the plugin's own tests and for editors. It writes over nothing.
    let bindings = project.join(".bindings");
    if bindings.exists() {
        fs::remove_dir_all(&bindings).with_context(|| format!("{} can't be renewed", bindings.display()))?;
    }
    run(componentize().args(["bindings", ".bindings"]), INSTALL)?;
    let mut build = componentize();
    build.args(["componentize", "--python-path", ".", "--python-path", "vendor", "--output", "target.wasm"]);
    build.args((!with_wasi).then_some("--stub-wasi")).arg("policy");
    run(&mut build, INSTALL)?;
    let output = project.join("target.wasm");
    let component = fs::read(&output).with_context(|| format!("{} wasn't made", output.display()))?;
    fs::remove_file(&output)?;
    Ok(Built { name, component, with: "componentize-py of PyPI" })
}

/// The one of the project, of the environment that is in use, or on the machine. Without any, the project gets one.
fn tool(project: &Path) -> Result<PathBuf> {
    let own = project.join(".venv/bin").join(TOOL);
    let active = std::env::var_os("VIRTUAL_ENV").map(|folder| Path::new(&folder).join("bin").join(TOOL));
    let there = [Some(own.clone()), active, found(TOOL)].into_iter().flatten().find(|file| file.is_file());
    if let Some(tool) = there {
        return Ok(tool.canonicalize()?);
    }
    run(program("python3", project).args(["-m", "venv", ".venv"]), INSTALL)?;
    let pip = project.join(".venv/bin/pip").canonicalize().context(INSTALL)?;
    run(program(pip, project).args(["install", "--requirement", "requirements.txt"]), INSTALL)?;
    Ok(own.canonicalize()?)
}
