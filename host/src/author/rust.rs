//! Builds plugins in Rust, with the compiler that is on this machine.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use wit_component::ComponentEncoder;

use super::built::Built;

const TARGET: &str = "wasm32-unknown-unknown";

/// As much of Cargo.toml as is needed.
#[derive(Deserialize)]
struct Manifest {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

/// Builds the plugin of a project.
pub(super) fn build(project: &Path) -> Result<Built> {
    let manifest = project.join("Cargo.toml");
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
fn component(module: &Path) -> Result<Vec<u8>> {
    let bytes =
        fs::read(module).with_context(|| format!("{} isn't there: the crate must be a `cdylib`", module.display()))?;
    let encode = || ComponentEncoder::default().validate(true).module(&bytes)?.encode();
    encode().context(
        "no component can be made of it: it must export a policy with mountgate_sdk::export!, and import nothing else",
    )
}

/// A way to build for WebAssembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RustToolchain {
    /// The compiler in use has the target.
    Own,
    /// Debian's compiler, which builds the standard library itself.
    Debian,
}

impl RustToolchain {
    /// The one that is there.
    ///
    /// # Errors
    /// What to install.
    fn find() -> Result<Self> {
        if has_target() {
            return Ok(Self::Own);
        }
        if has_debian() {
            return Ok(Self::Debian);
        }
        bail!(
            "no Rust compiler here builds for {TARGET}: run `rustup target add {TARGET}`, or on Debian install rustc-web, \
             rust-web-src and lld-22"
        )
    }

    fn name(self) -> &'static str {
        match self {
            Self::Own => "this compiler's own WebAssembly target",
            Self::Debian => "Debian's rustc-web and lld",
        }
    }

    /// `cargo build` of the plugin in a folder.
    #[expect(clippy::disallowed_methods, reason = "an author has their own plugin built")]
    fn build(self, project: &Path) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["build", "--release", "--lib", "--target", TARGET, "--target-dir"]);
        command.arg(project.join("target")).arg("--manifest-path").arg(project.join("Cargo.toml"));
        if self == Self::Debian {
            command.arg("-Zbuild-std=std,panic_abort");
            command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld-22");
        }
        command
    }
}

fn has_target() -> bool {
    printed("rustc", &["--print", "target-libdir", "--target", TARGET])
        .is_some_and(|folder| Path::new(&folder).exists())
}

fn has_debian() -> bool {
    let source = printed("/usr/bin/rustc", &["--print", "sysroot"])
        .is_some_and(|sysroot| Path::new(&sysroot).join("lib/rustlib/src/rust/library/std").exists());
    source && printed("wasm-ld-22", &["--version"]).is_some()
}

/// What a program prints, if it runs.
#[expect(clippy::disallowed_methods, reason = "an author's compiler is asked what it can do")]
fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
