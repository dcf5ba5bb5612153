//! What a release consists of, as one archive with its checksum.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::{dist, plugins, run, step};

/// Where the archive and its checksum end up.
const FOLDER: &str = "target/package";

/// Builds the shipped programs, the policy directories with their plugins and the manual pages, and packs them.
pub(crate) fn build() -> Result<()> {
    plugins::build()?;
    let program = dist::program()?;
    let name = format!("mountgate-{}-{}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let folder = Path::new(FOLDER).join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    fs::copy(&program, folder.join("mountgate"))?;
    fs::copy(dist::registry_program()?, folder.join("mountgate-registry"))?;
    for file in ["README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md"] {
        fs::copy(file, folder.join(file))?;
    }
    for copied in ["policies", "docs", "wit"] {
        run(Command::new("cp").args(["-R", copied]).arg(&folder))?;
    }
    run(Command::new(&program).arg("man").arg(folder.join("man")))?;
    let archive = format!("{name}.tar.gz");
    step(&format!("packing {FOLDER}/{archive}"));
    let tar = ["--create", "--gzip", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--file"];
    run(Command::new("tar").args(tar).arg(&archive).arg(&name).current_dir(FOLDER))?;
    fs::remove_dir_all(&folder)?;
    let bytes = fs::read(Path::new(FOLDER).join(&archive))?;
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let checksum = Path::new(FOLDER).join(format!("{archive}.sha256"));
    fs::write(&checksum, format!("{digest}  {archive}\n")).context("the checksum can't be written")
}
