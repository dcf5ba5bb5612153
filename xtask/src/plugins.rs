//! Builds the Rust plugins of this repository and makes components of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use wit_component::ComponentEncoder;

use crate::setup::{self, TARGET, Toolchain};
use crate::{run, step};

/// The plugins that are shipped.
pub(crate) const SHIPPED: [&str; 5] = ["path-guard", "secure-flags", "fstype-allow", "mount-limits", "rules"];
/// The plugins that tests are made with.
const GUESTS: [&str; 2] = ["misbehaving-guest", "planted-bugs"];
/// Where components end up.
pub(crate) const FOLDER: &str = "target/plugins";

/// Builds all plugins, and fills the policy directories with those that they list.
pub(crate) fn build() -> Result<()> {
    let toolchain = setup::run()?;
    fs::create_dir_all(FOLDER)?;
    step("building plugins");
    for package in SHIPPED.into_iter().chain(GUESTS) {
        build_one(toolchain, package, "plugin", FOLDER)?;
    }
    for directory in ["policies/baseline", "policies/strict", "policies/public-rules"] {
        fill(Path::new(directory))?;
    }
    for recipe in cookbook()? {
        fill(&recipe)?;
    }
    Ok(())
}

/// Builds the plugins that are shipped into a folder, with the names and lines of their code.
pub(crate) fn build_with_lines(folder: &str) -> Result<()> {
    let toolchain = setup::run()?;
    fs::create_dir_all(folder)?;
    step("building plugins with debug information");
    SHIPPED.into_iter().try_for_each(|package| build_one(toolchain, package, "plugin-with-lines", folder))
}

fn build_one(toolchain: Toolchain, package: &str, profile: &str, folder: &str) -> Result<()> {
    run(toolchain.cargo_rustc(package, profile).args(["--quiet", "--target-dir", "target/wasm"]))?;
    let module = PathBuf::from(format!("target/wasm/{TARGET}/{profile}/{}.wasm", package.replace('-', "_")));
    let component = component(&module).with_context(|| format!("{package} can't be made a component"))?;
    Ok(fs::write(format!("{folder}/{package}.wasm"), component)?)
}

/// The policy directories of the cookbook, in order.
pub(crate) fn cookbook() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir("policies/cookbook")?.map(|entry| entry.map(|entry| entry.path()));
    let mut recipes = entries.collect::<std::io::Result<Vec<_>>>()?;
    recipes.sort();
    Ok(recipes)
}

fn component(module: &Path) -> Result<Vec<u8>> {
    let module = fs::read(module).with_context(|| format!("{} can't be read", module.display()))?;
    ComponentEncoder::default().validate(true).module(&module)?.encode()
}

/// Copies the plugins that a policy directory names and pins their digests.
fn fill(directory: &Path) -> Result<()> {
    let config = fs::read_to_string(directory.join("policies.toml"))?;
    let hash = |bytes: &[u8]| -> String { Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect() };
    let mut lock = format!(
        "# The plugins that were built here, by their SHA-256.\nversion = 2\nconfig = \"{}\"\n[plugins]\n",
        hash(config.as_bytes())
    );
    for plugin in SHIPPED.iter().map(|name| format!("{name}.wasm")) {
        if !config.contains(&format!("{plugin:?}")) {
            continue;
        }
        let bytes = fs::read(format!("{FOLDER}/{plugin}"))?;
        fs::write(directory.join(&plugin), &bytes)?;
        lock.push_str(&format!("{plugin:?} = {:?}\n", hash(&bytes)));
    }
    fs::write(directory.join("policies.lock"), lock).context("policies.lock can't be written")
}
