//! The program as it's shipped: static, and optimised as a whole.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{cargo, profile, setup, step};

/// The profile of Cargo.toml.
const PROFILE: &str = "dist";

/// Flags for what is shipped. Relocations are in the packed form (RELR, which glibc knows since 2.36, and the musl that
/// rustup brings): a program that runs for a millisecond spends a good part of it on them. And SHA-256 is the portable one:
/// to ask the processor what it can traps in a virtual machine, which takes longer than what is hashed in a request.
pub(crate) const FLAGS: &str =
    "-Ctarget-feature=+crt-static -Clink-arg=-Wl,-z,pack-relative-relocs --cfg=sha2_backend=\"soft\"";

/// Builds the program and says where it is.
pub(crate) fn program() -> Result<PathBuf> {
    let built = build(&[])?.join("mountgate");
    let program = built.with_file_name("mountgate-shipped");
    write_at_once(&built, &program).with_context(|| format!("{} can't be written", program.display()))?;
    Ok(program)
}

/// Builds the program for registries, which is shipped beside it.
pub(crate) fn registry_program() -> Result<PathBuf> {
    // The profile is that of another program.
    Ok(build_with(&[], &own_folder()?, "mountgate-registry", &[])?.join("mountgate-registry"))
}

/// Copies a program in one piece. What a linker wrote bit by bit lies in small pieces in the page cache, and takes a tenth
/// longer to start for as long as it lies there.
fn write_at_once(from: &Path, to: &Path) -> std::io::Result<()> {
    // Beside it first: the old one may be running.
    let new = to.with_extension("new");
    fs::write(&new, fs::read(from)?)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    fs::rename(new, to)
}

/// Builds an example of it the same way.
pub(crate) fn example(name: &str) -> Result<PathBuf> {
    Ok(build(&["--example", name])?.join("examples").join(name))
}

/// Builds something of the program as it's shipped, and says in which folder.
fn build(what: &[&str]) -> Result<PathBuf> {
    let flag = profile::profile()?.map(|profile| format!("-Cprofile-use={}", profile.display()));
    let flags: Vec<&str> = flag.as_deref().into_iter().collect();
    step("building what is shipped (it's optimised as a whole: the first time takes some minutes)");
    build_with(&flags, &own_folder()?, "mountgate", what)
}

/// Builds something of a crate with the flags of what is shipped and these, below a folder, and says in which one.
pub(crate) fn build_with(flags: &[&str], target: &Path, package: &str, what: &[&str]) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--profile", PROFILE, "--locked", "--package", package]).args(what);
    let flags: Vec<&str> = FLAGS.split(' ').chain(flags.iter().copied()).collect();
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}")).env("CARGO_TARGET_DIR", target);
    let folder = match setup::shipped_target() {
        Some(target) => {
            build.args(["--target", &target]);
            // The few lines of C among the dependencies need no header of musl's own.
            build.env(format!("CC_{}", target.replace('-', "_")), "cc");
            target
        }
        None => {
            step("there is no musl here: it's built with glibc, and starts slower");
            setup::host_target()?
        }
    };
    crate::run(&mut build)?;
    Ok(target.join(folder).join(PROFILE))
}

/// The folder that cargo builds in.
pub(crate) fn own_folder() -> Result<PathBuf> {
    // This program lies in target/TARGET/debug.
    let here = std::env::current_exe().context("this program can't be found")?;
    Ok(here.ancestors().nth(3).context("this program isn't in cargo's folder")?.to_owned())
}
