//! Describes a plugin outside of any policy directory.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::Engine;
use super::contract_check::CONTRACT;
use super::runner::Runner;
use crate::policy::cache::Cache;
use crate::policy::description::Description;
use crate::policy::directory::digest::digest_of;
use crate::policy::directory::entry::{PluginFile, PolicyEntry};
use crate::policy::directory::error::DirectoryError;
use crate::policy::fault::Fault;
use crate::policy::grant::Grant;
use crate::policy::limits::Limits;
use crate::policy::mode::Mode;

/// What is known of a plugin by looking at it.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct Inspection {
    pub digest: String,
    pub contract: &'static str,
    pub imports: Vec<String>,
    pub needs_wasi: bool,
    #[serde(flatten)]
    pub description: Description,
}

/// Describes a plugin: what it says of itself, what it imports, its digest. The cache keeps what is compiled for that.
///
/// # Errors
/// Why it can't be used.
pub fn inspect(engine: &Engine, path: &Path, bytes: &[u8], cache: &Cache) -> Result<Inspection, DirectoryError> {
    let entry = PolicyEntry {
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        plugin: path.to_owned(),
        file: PluginFile::Read(bytes.into()),
        digest: digest_of(bytes),
        rewrites: Vec::new(),
        grants: vec![Grant::Wasi],
        callers: None,
        mode: Mode::Enforce,
        limits: Limits { fuel: 1_000_000_000, memory: 256 << 20, deadline: Duration::from_secs(10) },
        fuzz_without: Default::default(),
        settings: "{}".to_owned(),
        line: 0,
    };
    look(engine, &entry, cache).map_err(|Fault { message, hint, .. }| DirectoryError {
        file: path.to_owned(),
        line: None,
        message,
        hint,
    })
}

fn look(engine: &Engine, entry: &PolicyEntry, cache: &Cache) -> Result<Inspection, Fault> {
    let runtime = &engine.runtime;
    let component = runtime.component(entry, cache)?;
    let imports: Vec<String> =
        component.component_type().imports(&runtime.engine).map(|(name, _)| name.to_owned()).collect();
    Ok(Inspection {
        digest: entry.digest.clone(),
        contract: CONTRACT,
        needs_wasi: imports.iter().any(|name| name.starts_with("wasi:")),
        imports,
        description: Runner::new(runtime, &component, entry)?.describe()?,
    })
}
