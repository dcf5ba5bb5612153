//! A new project for a plugin, outside of any other. All that it needs comes out of this program: the SDK and the contract.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::language::Language;
use crate::policy::description::Kind;

/// A file of a project: its path, and its text.
type ProjectFile = (&'static str, &'static str);

/// The SDK of Rust, as `vendor/mountgate-sdk/src`.
const SDK: [ProjectFile; 10] = [
    ("arena.rs", include_str!("../../../plugins/sdk/src/arena.rs")),
    ("bindings.rs", include_str!("../../../plugins/sdk/src/bindings.rs")),
    ("denials.rs", include_str!("../../../plugins/sdk/src/denials.rs")),
    ("lib.rs", include_str!("../../../plugins/sdk/src/lib.rs")),
    ("locations.rs", include_str!("../../../plugins/sdk/src/locations.rs")),
    ("mounts.rs", include_str!("../../../plugins/sdk/src/mounts.rs")),
    ("options.rs", include_str!("../../../plugins/sdk/src/options.rs")),
    ("paths.rs", include_str!("../../../plugins/sdk/src/paths.rs")),
    ("settings.rs", include_str!("../../../plugins/sdk/src/settings.rs")),
    ("testing.rs", include_str!("../../../plugins/sdk/src/testing.rs")),
];

/// The contract, as `wit/0.1.0`.
const CONTRACT: [ProjectFile; 5] = [
    ("log.wit", include_str!("../../../wit/0.1.0/log.wit")),
    ("mount-table.wit", include_str!("../../../wit/0.1.0/mount-table.wit")),
    ("plugin.wit", include_str!("../../../wit/0.1.0/plugin.wit")),
    ("types.wit", include_str!("../../../wit/0.1.0/types.wit")),
    ("world.wit", include_str!("../../../wit/0.1.0/world.wit")),
];

/// The SDK of JavaScript, as `vendor`.
const JAVASCRIPT_SDK: [ProjectFile; 2] = [
    ("vendor/mountgate.d.ts", include_str!("../../../plugins/sdk/js/mountgate.d.ts")),
    ("vendor/mountgate.js", include_str!("../../../plugins/sdk/js/mountgate.js")),
];

/// The SDK of Python, as `vendor`.
const PYTHON_SDK: [ProjectFile; 1] =
    [("vendor/mountgate.py", include_str!("../../../plugins/sdk/python/mountgate.py"))];

/// A template for each kind of plugin.
macro_rules! template {
    ($kind:expr, $folder:literal, $file:literal) => {
        match $kind {
            Kind::Validating => include_str!(concat!("../../templates/", $folder, "validating", $file)),
            Kind::Mutating => include_str!(concat!("../../templates/", $folder, "mutating", $file)),
        }
    };
}

/// Makes a project in a folder of its name. Returns its files.
///
/// # Errors
/// A name that can't be one of a crate, a folder that is there, or one that can't be written.
pub(crate) fn new_project(parent: &Path, name: &str, kind: Kind, language: Language) -> Result<Vec<PathBuf>> {
    check_name(name)?;
    let project = parent.join(name);
    ensure!(!project.exists(), "{} is there already", project.display());
    let mut files: Vec<ProjectFile> = vec![
        ("policies/policies.toml", template!(kind, "shared/", ".toml.in")),
        ("policies/cases/first.toml", template!(kind, "shared/cases/", ".toml.in")),
    ];
    files.extend(match language {
        Language::Rust => vec![
            ("Cargo.toml", include_str!("../../templates/rust/Cargo.toml.in")),
            ("README.md", include_str!("../../templates/rust/README.md.in")),
            (".gitignore", "/target\n/policies/*.wasm\n"),
            ("src/lib.rs", template!(kind, "rust/src/", ".rs.in")),
        ],
        Language::JavaScript => vec![
            ("package.json", include_str!("../../templates/js/package.json.in")),
            ("README.md", include_str!("../../templates/js/README.md.in")),
            (".gitignore", "/node_modules\n/policies/*.wasm\n"),
            ("plugin.js", include_str!("../../templates/js/plugin.js.in")),
            ("policy.js", template!(kind, "js/", ".js.in")),
            ("policy.test.js", template!(kind, "js/", ".test.js.in")),
        ],
        Language::Python => vec![
            ("pyproject.toml", include_str!("../../templates/python/pyproject.toml.in")),
            ("requirements.txt", include_str!("../../templates/python/requirements.txt.in")),
            ("README.md", include_str!("../../templates/python/README.md.in")),
            (".gitignore", "/.bindings\n/.venv\n/policies/*.wasm\n__pycache__\n"),
            ("policy.py", template!(kind, "python/", ".py.in")),
            ("test_policy.py", template!(kind, "python/", "_test.py.in")),
        ],
    });
    let mut written = Vec::new();
    for (path, text) in files {
        written.push(write(&project, path, &filled(text, name))?);
    }
    written.extend(write_sdk(&project, language)?);
    Ok(written)
}

/// Writes the SDK and the contract of this program into a project.
///
/// # Errors
/// When a file can't be written.
pub(crate) fn write_sdk(project: &Path, language: Language) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    match language {
        Language::Rust => {
            let manifest = filled(include_str!("../../templates/rust/sdk.toml.in"), "");
            written.push(write(project, "vendor/mountgate-sdk/Cargo.toml", &manifest)?);
            for (name, text) in SDK {
                written.push(write(project, &format!("vendor/mountgate-sdk/src/{name}"), text)?);
            }
        }
        Language::JavaScript => {
            for (path, text) in JAVASCRIPT_SDK {
                written.push(write(project, path, text)?);
            }
        }
        Language::Python => {
            for (path, text) in PYTHON_SDK {
                written.push(write(project, path, text)?);
            }
        }
    }
    for (name, text) in CONTRACT {
        written.push(write(project, &format!("wit/0.1.0/{name}"), text)?);
    }
    Ok(written)
}

/// A name that is one of a crate, of a file and of a policy alike.
pub(super) fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(plain) && name.len() <= 64;
    ensure!(is_plain && !name.ends_with('-'), "{name:?} can't be the name of a plugin: write it as `read-only-disks`");
    Ok(())
}

fn filled(text: &str, name: &str) -> String {
    let type_name: String = name.split('-').map(capitalised).collect();
    text.replace("{{name}}", name).replace("{{type}}", &type_name).replace("{{version}}", env!("CARGO_PKG_VERSION"))
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

/// Writes a file that only its owner can write, as policy directories need it.
fn write(project: &Path, path: &str, text: &str) -> Result<PathBuf> {
    let file = project.join(path);
    let failed = || format!("{} can't be written", file.display());
    if let Some(folder) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).with_context(failed)?;
    }
    let mut options = fs::OpenOptions::new();
    let mut opened = options.write(true).create(true).truncate(true).mode(0o644).open(&file).with_context(failed)?;
    std::io::Write::write_all(&mut opened, text.as_bytes()).with_context(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of a folder of this repository, by name.
    fn names(folder: &str) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
        let entries = fs::read_dir(folder).expect("it's there");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("it's read").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn all_of_the_sdk_and_the_contract_is_given_away() {
        assert_eq!(names("plugins/sdk/src"), SDK.map(|(name, _)| name));
        assert_eq!(names("wit/0.1.0"), CONTRACT.map(|(name, _)| name));
    }

    #[test]
    fn the_sdk_is_given_away_with_its_own_dependencies() {
        let line = |text: &str, name: &str| -> Option<String> {
            text.lines().find(|line| line.starts_with(&format!("{name} = "))).map(str::to_owned)
        };
        let workspace = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml")).expect("read");
        let given = include_str!("../../templates/rust/sdk.toml.in");
        for name in ["schemars", "serde", "serde_json", "serde_path_to_error", "wit-bindgen"] {
            assert_eq!(line(given, name), line(&workspace, name), "{name}");
        }
    }

    #[test]
    fn a_name_is_plain() {
        assert!(check_name("read-only-disks").is_ok());
        for name in ["", "A", "1a", "a_b", "../a", "a-", "a b"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert_eq!(filled("{{type}}", "read-only-disks"), "ReadOnlyDisks");
    }
}
