//! The documentation as a site: the pages of `docs/`, the cookbook, and the settings of the shipped plugins, with mdBook.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{cargo, mountgate, plugins, run, step};

/// The tool, installed below the target directory.
const MDBOOK: &str = "0.5.4";
const TOOLS: &str = "target/tools";
/// Where the pages are collected, and where the site ends up.
const SOURCE: &str = "target/book/src";
const SITE: &str = "target/book/site";

/// The pages in their order: file, title. The last two are made here.
const PAGES: [(&str, &str); 14] = [
    ("introduction.md", "mountgate"),
    ("writing-a-plugin.md", "Writing a plugin"),
    ("fuzzing.md", "Fuzzing"),
    ("rules.md", "Rules: policies with no code"),
    ("policy-directory.md", "The policy directory"),
    ("threat-model.md", "Threat model"),
    ("kernel-features.md", "Kernel features"),
    ("architecture.md", "Architecture"),
    ("release.md", "Release checklist"),
    ("CONTRIBUTING.md", "Contributing"),
    ("SECURITY.md", "Reporting faults"),
    ("CHANGELOG.md", "Changes"),
    ("cookbook.md", "Cookbook"),
    ("settings.md", "Settings of the shipped plugins"),
];

/// Builds the site and checks its links.
pub(crate) fn build() -> Result<()> {
    plugins::build()?;
    let mdbook = mdbook()?;
    if Path::new(SOURCE).exists() {
        fs::remove_dir_all(SOURCE)?;
    }
    fs::create_dir_all(SOURCE)?;
    for (file, _) in PAGES {
        fs::write(Path::new(SOURCE).join(file), page(file)?)?;
    }
    let contents: String = PAGES.iter().map(|(file, title)| format!("- [{title}]({file})\n")).collect();
    fs::write(Path::new(SOURCE).join("SUMMARY.md"), format!("# Contents\n\n{contents}- [The SDK of Rust](sdk.md)\n"))?;
    let sdk = "# The SDK of Rust\n\n<a href=\"sdk/mountgate_sdk/index.html\">The documentation of the crate mountgate-sdk</a>\n";
    fs::write(Path::new(SOURCE).join("sdk.md"), sdk)?;
    fs::write("target/book/book.toml", "[book]\ntitle = \"mountgate\"\n[build]\nbuild-dir = \"site\"\n")?;
    check_links()?;
    step("mdbook build");
    run(Command::new(mdbook).args(["build", "target/book"]))?;
    step("cargo doc --package mountgate-sdk");
    run(cargo().args([
        "doc",
        "--locked",
        "--no-deps",
        "--package",
        "mountgate-sdk",
        "--target-dir",
        "target/sdk-doc",
    ]))?;
    let built = find(Path::new("target/sdk-doc"), "mountgate_sdk").context("rustdoc made nothing")?;
    let docs = built.parent().context("a folder without a parent")?;
    run(Command::new("cp").arg("-R").arg(docs).arg(Path::new(SITE).join("sdk")))?;
    step(&format!("the site is in {SITE}"));
    Ok(())
}

/// mdBook, installed if it isn't there.
fn mdbook() -> Result<PathBuf> {
    // A folder for each version: another one is installed anew.
    let root = format!("{TOOLS}/mdbook-{MDBOOK}");
    let program = std::path::absolute(&root)?.join("bin/mdbook");
    if !program.exists() {
        step("installing mdBook (some minutes)");
        run(cargo().args([
            "install",
            "mdbook",
            "--locked",
            "--no-default-features",
            "--version",
            MDBOOK,
            "--root",
            &root,
        ]))?;
    }
    Ok(program)
}

fn page(file: &str) -> Result<String> {
    let text = match file {
        "introduction.md" => fs::read_to_string("README.md")?.replace("](docs/", "]("),
        "architecture.md" => fs::read_to_string("ARCHITECTURE.md")?.replace("](docs/", "]("),
        "CONTRIBUTING.md" | "SECURITY.md" | "CHANGELOG.md" => fs::read_to_string(file)?.replace("](docs/", "]("),
        "cookbook.md" => cookbook()?,
        "settings.md" => settings()?,
        file => fs::read_to_string(Path::new("docs").join(file))?,
    };
    let text = text.replace("](../", "](");
    Ok(text.replace("](ARCHITECTURE.md", "](architecture.md").replace("](README.md", "](introduction.md"))
}

/// A page of all recipes: the first comment of each `policies.toml` says what it's for.
fn cookbook() -> Result<String> {
    let mut page = String::from(
        "# Cookbook\n\nEach of these is a policy directory in `policies/cookbook`, with its cases in `cases/`. Copy one, change it, run \
         `mountgate policy lock` on it, and `mountgate policy test` after each change.\n",
    );
    for recipe in plugins::cookbook()? {
        let name = recipe.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(recipe.join("policies.toml"))?;
        let (about, rest): (Vec<&str>, Vec<&str>) = {
            let end = text.lines().take_while(|line| line.starts_with('#')).count();
            let lines: Vec<&str> = text.lines().collect();
            (lines[..end].to_vec(), lines[end..].to_vec())
        };
        ensure!(!about.is_empty(), "{name} doesn't begin with a comment that says what it's for");
        let about: Vec<&str> = about.iter().map(|line| line.trim_start_matches("# ")).collect();
        let title = capitalised(&name.replace('-', " "));
        write!(page, "\n## {title}\n\n{}\n\n```toml\n{}\n```\n", about.join("\n"), rest.join("\n").trim())?;
        write!(page, "\nThe directory is `policies/cookbook/{name}`.\n")?;
    }
    Ok(page)
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

/// A page of the settings of each shipped plugin, from the schemas that they publish.
fn settings() -> Result<String> {
    let mountgate = mountgate()?;
    let mut page = String::from(
        "# Settings of the shipped plugins\n\nThe plugins themselves say this: `mountgate plugin inspect FILE` prints it.\n",
    );
    for name in plugins::SHIPPED {
        let file = format!("{}/{name}.wasm", plugins::FOLDER);
        let output = Command::new(&mountgate).args(["plugin", "inspect", "--json", &file]).output()?;
        ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let about: Value = serde_json::from_slice(&output.stdout)?;
        let text = |field: &str| about[field].as_str().unwrap_or_default().to_owned();
        write!(page, "\n## {name}\n\n{} ({}).\n", capitalised(&text("help")), text("kind"))?;
        let schema: Value = serde_json::from_str(&text("settings_schema"))?;
        write!(page, "\n```json\n{}\n```\n", serde_json::to_string_pretty(&schema)?)?;
    }
    Ok(page)
}

/// Every link between pages leads to one.
fn check_links() -> Result<()> {
    for (file, _) in PAGES {
        let text = fs::read_to_string(Path::new(SOURCE).join(file))?;
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let is_elsewhere = target.is_empty() || target.contains("://") || !target.ends_with(".md");
            ensure!(
                is_elsewhere || Path::new(SOURCE).join(target).exists(),
                "{file} has a link to {target}, which isn't a page"
            );
        }
    }
    Ok(())
}

/// A folder of this name, somewhere below another.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<PathBuf> =
        fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    let own = entries.iter().find(|path| {
        path.is_dir() && path.file_name().is_some_and(|found| found == name) && path.join("index.html").exists()
    });
    own.cloned().or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|path| find(path, name)))
}
