//! Builds a plugin and makes a component of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use wit_component::ComponentEncoder;

use super::rust_toolchain::{RustToolchain, TARGET};

/// A component that was built.
pub(crate) struct Built {
    /// The plugin's name.
    pub(crate) name: String,
    pub(crate) component: Vec<u8>,
    /// What built it.
    pub(crate) with: &'static str,
}

/// As much of Cargo.toml as is needed.
#[derive(Deserialize)]
struct Manifest {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

/// Builds the plugin in a folder with what is on this machine. What the compiler says goes to standard error.
///
/// # Errors
/// A folder without a plugin, a compiler that is missing, or a plugin that doesn't compile.
pub(crate) fn build(project: &Path) -> Result<Built> {
    let manifest = project.join("Cargo.toml");
    if !manifest.exists() {
        bail!("{} holds no plugin: there is no Cargo.toml", project.display());
    }
    let text = fs::read_to_string(&manifest).with_context(|| format!("{} can't be read", manifest.display()))?;
    let Manifest { package: Package { name } } =
        toml::from_str(&text).with_context(|| format!("{} isn't the manifest of a crate", manifest.display()))?;
    let toolchain = RustToolchain::find()?;
    let status = toolchain.build(project).status().context("cargo doesn't run: install Rust, see rust-lang.org")?;
    ensure!(status.success(), "the plugin doesn't compile: cargo ended with {status}");
    let module = project.join(format!("target/{TARGET}/release/{}.wasm", name.replace('-', "_")));
    let component = component(&module)?;
    Ok(Built { name, component, with: toolchain.name() })
}

/// Makes a component of a core module, by what wit-bindgen left in it.
fn component(module: &PathBuf) -> Result<Vec<u8>> {
    let bytes =
        fs::read(module).with_context(|| format!("{} isn't there: the crate must be a `cdylib`", module.display()))?;
    let encode = || ComponentEncoder::default().validate(true).module(&bytes)?.encode();
    encode().context(
        "no component can be made of it: it must export a policy with mountgate_sdk::export!, and import nothing else",
    )
}
