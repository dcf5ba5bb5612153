//! A corpus on disk: one request a file, each of which reached something that those before it hadn't.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::input_file::{files, name, read, read_folder, write_whole};
use crate::cli::input::read_plain;
use crate::fuzz::input::Input;

/// The folder in a corpus with settings, a file each: the name of a policy, and its settings.
const SETTINGS: &str = "settings";

/// The settings in folders of requests. What isn't any is told, and left out.
pub(in crate::cli) fn settings(folders: &[PathBuf]) -> anyhow::Result<Vec<(String, Value)>> {
    let mut found = Vec::new();
    for folder in folders.iter().map(|folder| folder.join(SETTINGS)).filter(|folder| folder.is_dir()) {
        for path in files(&folder)? {
            let read = || -> anyhow::Result<(String, Value)> {
                let mut read: Value = serde_json::from_slice(&read_plain(&path)?)?;
                let policy = read["policy"].as_str().context("it names no policy")?.to_owned();
                let settings = read["settings"].take();
                ensure!(settings.is_object(), "its settings are no object");
                toml::Table::try_from(&settings).context("no policies.toml can hold its settings")?;
                Ok((policy, settings))
            };
            match read() {
                Ok(settings) => found.push(settings),
                Err(error) => tracing::warn!("{} isn't used: {error:#}", path.display()),
            }
        }
    }
    Ok(found)
}

/// Folders of requests. What is new goes to the first.
#[derive(Debug)]
pub(super) struct CorpusFolder {
    first: Option<PathBuf>,
    known: BTreeSet<OsString>,
}

impl CorpusFolder {
    /// Opens folders, and reads what they hold. The first is made where it's missing.
    pub(super) fn open(folders: &[PathBuf]) -> anyhow::Result<(Self, Vec<Input>)> {
        if let Some(first) = folders.first() {
            fs::create_dir_all(first).with_context(|| format!("{} can't be made", first.display()))?;
        }
        let (mut known, mut inputs) = (BTreeSet::new(), Vec::new());
        for folder in folders {
            for (path, input) in read_folder(folder)? {
                known.extend(path.file_name().map(ToOwned::to_owned));
                inputs.push(input);
            }
        }
        Ok((Self { first: folders.first().cloned(), known }, inputs))
    }

    /// Adds a request in its one form.
    pub(super) fn add(&mut self, text: &str) -> anyhow::Result<()> {
        let Some(folder) = &self.first else { return Ok(()) };
        let name = OsString::from(name(text));
        if self.known.contains(&name) {
            return Ok(());
        }
        write_whole(&folder.join(&name), text)?;
        self.known.insert(name);
        Ok(())
    }

    /// Adds settings of a policy.
    pub(super) fn add_settings(&self, policy: &str, settings: &Value) -> anyhow::Result<()> {
        let Some(folder) = self.first.as_ref().map(|folder| folder.join(SETTINGS)) else { return Ok(()) };
        let text = format!("{}\n", json!({ "policy": policy, "settings": settings }));
        fs::create_dir_all(&folder).with_context(|| format!("{} can't be made", folder.display()))?;
        write_whole(&folder.join(name(&text)), &text)
    }

    /// What others have added since.
    pub(super) fn arrived(&mut self) -> Vec<Input> {
        let Some(folder) = &self.first else { return Vec::new() };
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let is_new = |name: &OsString| !name.as_encoded_bytes().starts_with(b".") && !self.known.contains(name);
        let mut names: Vec<OsString> = entries.flatten().map(|entry| entry.file_name()).filter(is_new).collect();
        names.sort();
        let inputs = names.iter().filter_map(|name| read(&folder.join(name)).ok()).collect();
        self.known.extend(names);
        inputs
    }

    /// The folder that new requests go to.
    pub(super) fn path(&self) -> Option<&Path> {
        self.first.as_deref()
    }
}
