//! The contract and the plugins that were built for it: what ran once keeps running.

use std::fs;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::support::{check, folder, mountgate, root, status, text_of, tmpfs};

tests! {
    plain a_plugin_that_was_built_once_keeps_deciding,
    plain the_contract_is_the_one_that_plugins_were_built_for,
    plain a_plugin_for_another_version_is_told_with_both,
}

const FROZEN: &str = "tests/frozen/0.1.0";

/// A policy directory with the plugin that was built once, changed by a function.
fn directory(change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Result<tempfile::TempDir> {
    let directory = folder()?;
    let text = "[[policy]]\nname = \"types\"\nplugin = \"plugin.wasm\"\nsettings = { allow = [\"tmpfs\"] }\n";
    fs::write(directory.path().join("policies.toml"), text)?;
    let plugin = change(fs::read(root().join(FROZEN).join("plugin.wasm"))?);
    fs::write(directory.path().join("plugin.wasm"), plugin)?;
    let locked = mountgate(&["policy", "lock"]).arg(directory.path()).output()?;
    ensure!(status(&locked) == 0, "{}", text_of(&locked));
    Ok(directory)
}

fn a_plugin_that_was_built_once_keeps_deciding() -> Result<()> {
    let directory = directory(|plugin| plugin)?;
    let (allowed, answer, _) = check(directory.path(), &tmpfs("/mnt", &[]))?;
    ensure!(allowed == 0, "{answer}");
    let mut other = tmpfs("/mnt", &[]);
    other["request"]["fstype"] = "ext4".into();
    let (denied, answer, _) = check(directory.path(), &other)?;
    ensure!(denied == 3 && answer["denied_by"]["code"] == "fstype-not-allowed", "{answer}");
    Ok(())
}

fn the_contract_is_the_one_that_plugins_were_built_for() -> Result<()> {
    let mut files = fs::read_dir(root().join("wit/0.1.0"))?.collect::<Result<Vec<_>, _>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    let mut digest = Sha256::new();
    for file in files {
        // Comments may change.
        let text = fs::read_to_string(file.path())?;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")) {
            digest.update(line.as_bytes());
        }
    }
    let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let frozen = fs::read_to_string(root().join(FROZEN).join("contract.sha256"))?;
    ensure!(
        found == frozen.trim(),
        "wit/0.1.0 has changed: a new contract is a new folder (its digest is {found} now)"
    );
    Ok(())
}

fn a_plugin_for_another_version_is_told_with_both() -> Result<()> {
    let later = |plugin: Vec<u8>| {
        let mut plugin = plugin;
        for at in 0..plugin.len().saturating_sub(6) {
            if &plugin[at..at + 6] == b"@0.1.0" {
                plugin[at + 3] = b'9';
            }
        }
        plugin
    };
    let output = mountgate(&["policy", "validate"]).arg(directory(later)?.path()).output()?;
    let text = text_of(&output);
    let (_, told) = text.split_once("plugin.wasm").context("it names no plugin")?;
    ensure!(status(&output) == 4 && told.contains("0.9.0") && told.contains("0.1.0"), "{text}");
    Ok(())
}
