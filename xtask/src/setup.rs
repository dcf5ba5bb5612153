//! Makes Rust plugins buildable: with rustup's WebAssembly target, else with Debian's packages, which bring the standard
//! library's source for a compiler of their own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{cargo, step};

pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
/// How long rustup may take before the other way is tried: without a network it waits for minutes.
const RUSTUP_TIME: Duration = Duration::from_secs(60);
const PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "lld-22"];

/// What builds plugins here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The compiler in use, with its target installed.
    Own,
    /// Debian's.
    Debian,
}

impl Toolchain {
    /// `cargo rustc` for a package as a component's core module.
    pub(crate) fn cargo_rustc(self, package: &str) -> Command {
        let mut command = cargo();
        command.args(["rustc", "--locked", "--profile", "plugin", "--crate-type", "cdylib"]);
        command.args(["--target", TARGET, "--package", package]);
        if self == Self::Debian {
            command.arg("-Zbuild-std=std,panic_abort");
            command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld-22");
        }
        command
    }
}

/// Installs what is missing, and says what will be used.
fn find() -> Result<Toolchain> {
    if has_own_target() {
        return Ok(Toolchain::Own);
    }
    if has_debian() {
        return Ok(Toolchain::Debian);
    }
    step("installing what plugins are built with: rustup's target");
    if add_target() && has_own_target() {
        return Ok(Toolchain::Own);
    }
    step(&format!("rustup can't add {TARGET} here; installing Debian's {}", PACKAGES.join(", ")));
    let apt = |arguments: &[&str]| {
        crate::run(
            Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()),
        )
    };
    apt(&["update", "-qq"])
        .and_then(|()| apt(&[&["install", "-qq", "-y", "--no-install-recommends"], &PACKAGES[..]].concat()))
        .with_context(|| format!("install {} as root, or run `rustup target add {TARGET}`", PACKAGES.join(" ")))?;
    if !has_debian() {
        bail!("the packages are installed and still no compiler for {TARGET} is there");
    }
    Ok(Toolchain::Debian)
}

pub(crate) fn run() -> Result<Toolchain> {
    let toolchain = find()?;
    step(match toolchain {
        Toolchain::Own => "plugins are built with this compiler's own WebAssembly target",
        Toolchain::Debian => "plugins are built with Debian's rustc and lld",
    });
    Ok(toolchain)
}

fn has_own_target() -> bool {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    output.is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).exists()
    })
}

fn has_debian() -> bool {
    let works = |program: &str| {
        Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    let source = Command::new("/usr/bin/rustc").args(["--print", "sysroot"]).output().is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Path::new(&sysroot).join("lib/rustlib/src/rust/library/std").exists()
    });
    source && works("wasm-ld-22")
}

fn add_target() -> bool {
    let child =
        Command::new("rustup").args(["target", "add", TARGET]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    let start = Instant::now();
    while start.elapsed() < RUSTUP_TIME {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(Duration::from_millis(200)),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}
