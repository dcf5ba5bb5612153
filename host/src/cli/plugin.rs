//! `mountgate plugin`

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::global::Global;
use super::input::read_plain;
use super::plugin_bench::{self, BenchArgs};
use super::registry::{PullPlugin, PushPlugin};
use crate::author::build::build;
use crate::author::language::Language;
use crate::author::scaffold::{new_project, write_sdk};
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::json;
use crate::model::untrusted::for_people;
use crate::policy::description::Kind;
use crate::policy::directory::lockfile::Locking;
use crate::policy::engine::Engine;
use crate::policy::engine::inspection::{Inspection, inspect};

/// Write plugins: make a project, build a component, look at one
#[derive(Debug, Args)]
pub(super) struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Make a project for a plugin, with a policy directory and its cases. It needs nothing but this program
    #[command(
        after_help = "Examples:\n  mountgate plugin new read-only-disks\n  mountgate plugin new --lang python read-only-disks\n  mountgate plugin new --kind mutating add-flags\n  mountgate plugin new --update read-only-disks"
    )]
    New {
        /// The name of the plugin and of its folder
        name: String,
        /// What it's written in
        #[arg(long, value_enum, default_value = "rust")]
        lang: NewLanguage,
        /// Whether it may rewrite requests
        #[arg(long, value_enum, default_value = "validating")]
        kind: NewKind,
        /// Renew the SDK and the contract in a project that is there
        #[arg(long, conflicts_with_all = ["kind", "lang"])]
        update: bool,
    },
    /// Build the plugin of a project, make a component of it, and pin it in the project's policy directory
    #[command(
        after_help = "Examples:\n  mountgate plugin build\n  mountgate plugin build read-only-disks --output plugin.wasm"
    )]
    Build {
        /// The project
        #[arg(default_value = ".")]
        project: PathBuf,
        /// Where the component is written, if not into the project's policies folder
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Let the runtime of JavaScript or Python use WASI. What the plugin prints is then in its failures; it needs grants = ["wasi"]
        #[arg(long)]
        wasi: bool,
    },
    /// Describe a component: its size, what it imports and needs, its contract, its settings
    #[command(after_help = "Examples:\n  mountgate plugin inspect path-guard.wasm")]
    Inspect {
        /// The component
        plugin: PathBuf,
    },
    Bench(BenchArgs),
    Push(PushPlugin),
    Pull(PullPlugin),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum NewKind {
    Validating,
    Mutating,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum NewLanguage {
    Rust,
    Js,
    Python,
}

pub(super) fn run(global: &Global, args: &PluginArgs) -> anyhow::Result<ExitStatus> {
    match &args.command {
        PluginCommand::New { name, update: true, .. } => run_update(global, Path::new(name)),
        PluginCommand::New { name, kind, lang, .. } => run_new(global, name, *kind, *lang),
        PluginCommand::Build { project, output, wasi } => run_build(global, project, output.as_deref(), *wasi),
        PluginCommand::Bench(args) => {
            let directory = args.directory.clone().unwrap_or_else(|| global.policies().to_owned());
            plugin_bench::run(global, &directory, args)
        }
        PluginCommand::Push(args) => return args.run(global),
        PluginCommand::Pull(args) => return args.run(global),
        PluginCommand::Inspect { plugin } => print(global, plugin, &look(global, plugin)?),
    }?;
    Ok(ExitStatus::Done)
}

fn run_new(global: &Global, name: &str, kind: NewKind, language: NewLanguage) -> anyhow::Result<()> {
    let kind = match kind {
        NewKind::Validating => Kind::Validating,
        NewKind::Mutating => Kind::Mutating,
    };
    let language = match language {
        NewLanguage::Rust => Language::Rust,
        NewLanguage::Js => Language::JavaScript,
        NewLanguage::Python => Language::Python,
    };
    let files = new_project(Path::new("."), name, kind, language)?;
    let mut out = anstream::stdout().lock();
    if global.json {
        return Ok(json::write_line(&mut out, &json!({ "project": name, "files": files }))?);
    }
    writeln!(out, "{name} has {} files. Next:", files.len())?;
    writeln!(out, "  cd {name}\n  mountgate plugin build\n  mountgate policy test policies")?;
    Ok(())
}

fn run_update(global: &Global, project: &Path) -> anyhow::Result<()> {
    let language = Language::of(project)?;
    let files = write_sdk(project, language)?;
    let mut out = anstream::stdout().lock();
    if global.json {
        return Ok(json::write_line(&mut out, &json!({ "project": project, "files": files }))?);
    }
    writeln!(
        out,
        "{} files of the SDK for {language} and the contract are those of mountgate {}",
        files.len(),
        env!("CARGO_PKG_VERSION")
    )?;
    Ok(())
}

fn run_build(global: &Global, project: &Path, output: Option<&Path>, with_wasi: bool) -> anyhow::Result<()> {
    let built = build(project, with_wasi)?;
    let policies = project.join("policies");
    let file = match output {
        Some(file) => file.to_owned(),
        None if policies.join("policies.toml").exists() => policies.join(format!("{}.wasm", built.name)),
        None => project.join(format!("{}.wasm", built.name)),
    };
    let engine = Engine::new().map_err(Error::Sandbox)?;
    let found = inspect(&engine, &file, &built.component, &global.cache()).map_err(Error::from)?;
    write_component(&file, &built.component)?;
    if output.is_none() && file.starts_with(&policies) {
        Locking::of(&policies).and_then(|locking| locking.write()).map_err(Error::from)?;
    }
    if !global.json {
        writeln!(anstream::stdout().lock(), "{} was built with {}", file.display(), built.with)?;
    }
    print(global, &file, &Looked { size: built.component.len(), found })
}

fn write_component(file: &Path, component: &[u8]) -> anyhow::Result<()> {
    // Beside it first: whoever reads it sees the old one or the new one.
    let new = file.with_extension("wasm.new");
    let write = || -> std::io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644).open(&new)?.write_all(component)?;
        fs::rename(&new, file)
    };
    write().with_context(|| format!("{} can't be written", file.display()))
}

/// A component that was looked at.
struct Looked {
    size: usize,
    found: Inspection,
}

fn look(global: &Global, plugin: &Path) -> anyhow::Result<Looked> {
    let bytes = read_plain(plugin)?;
    let engine = Engine::new().map_err(Error::Sandbox)?;
    let found = inspect(&engine, plugin, &bytes, &global.cache()).map_err(Error::from)?;
    Ok(Looked { size: bytes.len(), found })
}

fn print(global: &Global, file: &Path, Looked { size, found }: &Looked) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    if global.json {
        let mut object = serde_json::to_value(found)?;
        object["file"] = json!(file);
        object["size"] = json!(size);
        return Ok(json::write_line(&mut out, &object)?);
    }
    let about = &found.description;
    let kind = match about.kind {
        Kind::Mutating => "mutating",
        Kind::Validating => "validating",
    };
    let (name, version, help) = (for_people(&about.name), for_people(&about.version), for_people(&about.help));
    writeln!(out, "{name} {version} ({kind}): {help}")?;
    writeln!(out, "size      {size} bytes")?;
    writeln!(out, "contract  mountgate:policy@{}", found.contract)?;
    writeln!(out, "sha256    {}", found.digest)?;
    writeln!(out, "imports   {}", found.imports.join(", "))?;
    writeln!(out, "grants    {}", if found.needs_wasi { "grants = [\"wasi\"]" } else { "none needed" })?;
    let schema: Value = serde_json::from_str(&about.settings_schema).unwrap_or_default();
    let mut rows = Vec::new();
    add_rows(&mut rows, &schema, &schema, "");
    let has_more = rows.len() >= MAX_ROWS;
    let shown = |row: [String; 3]| row.map(|cell| for_people(&cell).into_owned());
    let rows: Vec<[String; 3]> = rows.into_iter().map(shown).collect();
    writeln!(out, "settings  {}", if rows.is_empty() { "none" } else { "" })?;
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (path, kind) = (width(0), width(1));
    for row in &rows {
        writeln!(out, "  {:<path$}  {:<kind$}  {}", row[0], row[1], row[2])?;
    }
    if has_more {
        writeln!(out, "  and more: --json has the whole schema")?;
    }
    Ok(())
}

/// More settings than this are no table: a schema may refer to itself.
const MAX_ROWS: usize = 500;

/// Adds the settings of a schema: path, type, and what they are.
fn add_rows(rows: &mut Vec<[String; 3]>, schema: &Value, root: &Value, prefix: &str) {
    let schema = resolved(schema, root);
    let Some(properties) = schema["properties"].as_object() else { return };
    let is_required =
        |name: &str| schema["required"].as_array().is_some_and(|list| list.iter().any(|word| word == name));
    for (name, property) in properties {
        if rows.len() >= MAX_ROWS {
            return;
        }
        let path = format!("{prefix}{name}");
        let of = resolved(property, root);
        let mut kind = kind_of(of, root, 0);
        if is_required(name) {
            kind.push_str(", required");
        }
        let about = property["description"].as_str().or(of["description"].as_str()).unwrap_or_default();
        rows.push([path.clone(), kind, about.to_owned()]);
        // Deeper than this is no table.
        if prefix.matches('.').count() < 4 {
            add_rows(rows, of, root, &format!("{path}."));
            add_rows(rows, &of["items"], root, &format!("{path}[]."));
        }
    }
}

/// What a `$ref` stands for, also where it may be null.
fn resolved<'s>(schema: &'s Value, root: &'s Value) -> &'s Value {
    let is_null = |one: &&Value| one["type"] == "null";
    let several = schema["anyOf"].as_array().and_then(|list| list.iter().find(|one| !is_null(one)));
    let schema = several.unwrap_or(schema);
    let pointer = schema["$ref"].as_str().and_then(|pointer| pointer.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

/// Lists of lists of lists: a schema may refer to itself.
const MAX_LISTS: usize = 4;

fn kind_of(schema: &Value, root: &Value, depth: usize) -> String {
    let words = |list: &[Value]| {
        list.iter()
            .map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(" | ")
    };
    if let Some(list) = schema["enum"].as_array() {
        return words(list);
    }
    if let Some(list) = schema["oneOf"].as_array() {
        let consts: Vec<Value> = list.iter().filter_map(|one| one.get("const").cloned()).collect();
        return if consts.len() == list.len() { words(&consts) } else { "one of several".to_owned() };
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(list) => list.iter().filter_map(Value::as_str).filter(|word| *word != "null").collect(),
        _ => Vec::new(),
    };
    match types.as_slice() {
        ["array"] if depth == MAX_LISTS => "list of more".to_owned(),
        ["array"] => format!("list of {}", kind_of(resolved(&schema["items"], root), root, depth + 1)),
        [] => "any".to_owned(),
        types => types.join(" | "),
    }
}
