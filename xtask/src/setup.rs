//! Makes Rust plugins buildable: with rustup's WebAssembly target, else with Debian's packages, which bring the standard
//! library's source for a compiler of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

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
    pub(crate) fn cargo_rustc(self, package: &str, profile: &str) -> Command {
        let mut command = cargo();
        command.args(["rustc", "--locked", "--profile", profile, "--crate-type", "cdylib"]);
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
    if has_target(TARGET) {
        return Ok(Toolchain::Own);
    }
    if has_debian() {
        return Ok(Toolchain::Debian);
    }
    step("installing what plugins are built with: rustup's target");
    if add_target(TARGET) && has_target(TARGET) {
        return Ok(Toolchain::Own);
    }
    step(&format!("rustup can't add {TARGET} here; installing Debian's {}", PACKAGES.join(", ")));
    install(&PACKAGES)
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

/// What the tests run for real, most of them as root, each with the Debian package that brings it.
const TOOLS: [(&str, &str); 19] = [
    ("g++", "g++"),
    ("strace", "strace"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("bindfs", "bindfs"),
    ("mkfs.erofs", "erofs-utils"),
    ("minisign", "minisign"),
    ("mount.fuse", "fuse3"),
    ("crun", "crun"),
    ("systemd-run", "systemd"),
    ("dbus-daemon", "dbus"),
    ("setcap", "libcap2-bin"),
    ("setpriv", "util-linux"),
    ("pkill", "procps"),
    ("docker-registry", "docker-registry"),
    ("skopeo", "skopeo"),
    ("node", "nodejs"),
    ("npm", "npm"),
];

/// The packages of those programs that aren't there.
fn missing<'t>(tools: &[(&str, &'t str)]) -> Vec<&'t str> {
    tools.iter().filter(|(name, _)| !has_tool(name)).map(|(_, package)| *package).collect()
}

/// Installs programs with the packages that bring them.
pub(crate) fn require(tools: &[(&str, &str)]) -> Result<()> {
    let missing = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    step(&format!("installing {}", missing.join(", ")));
    install(&missing).with_context(|| format!("install {} as root", missing.join(" ")))
}

/// Installs what tests need of Debian's packages. Without root nothing is installed: the tests that need it are skipped.
pub(crate) fn test_tools() -> Result<()> {
    let missing = missing(&TOOLS);
    if missing.is_empty() {
        step("the programs that the tests run are all there");
        return Ok(());
    }
    if !is_root()? {
        step(&format!("not installed, since that takes root: {}", missing.join(", ")));
        return Ok(());
    }
    step(&format!("installing what the tests run: {}", missing.join(", ")));
    install(&missing).with_context(|| format!("install {} as root", missing.join(" ")))
}

/// Whether a program is there.
pub(crate) fn has_tool(name: &str) -> bool {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"];
    folders.iter().any(|folder| Path::new(folder).join(name).exists())
}

pub(crate) fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("id can't be run")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim() == "0")
}

fn install(packages: &[&str]) -> Result<()> {
    let apt = |arguments: &[&str]| {
        crate::run(
            Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()),
        )
    };
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-qq", "-y", "--no-install-recommends"], packages].concat())
}

/// The target that the shipped program is built for. With musl it starts in a fraction of the time that glibc takes to
/// look at the processor; where rustup can't add that target, it's the one that everything else is built for.
pub(crate) fn shipped_target() -> Option<String> {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    if has_target(&target) {
        return Some(target);
    }
    step(&format!("installing what the shipped program is built with: rustup's {target}"));
    (add_target(&target) && has_target(&target)).then_some(target)
}

/// The target of the compiler itself.
pub(crate) fn host_target() -> Result<String> {
    let text = compiler()?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc doesn't say what it runs on")
}

/// Which compiler it is, in all detail.
pub(crate) fn compiler() -> Result<String> {
    ask_rustc(&["-vV"])
}

fn ask_rustc(arguments: &[&str]) -> Result<String> {
    let output = Command::new("rustc").args(arguments).output().context("rustc can't be run")?;
    ensure!(output.status.success(), "rustc {}: {}", arguments.join(" "), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What joins the profiles that programs write, of the compiler's own LLVM. It's rustup's component llvm-tools.
pub(crate) fn profile_tool() -> Result<Option<PathBuf>> {
    let tool = Path::new(&ask_rustc(&["--print", "sysroot"])?)
        .join("lib/rustlib")
        .join(host_target()?)
        .join("bin/llvm-profdata");
    if !tool.exists() {
        step("installing what the shipped program is built with: rustup's llvm-tools");
        rustup(&["component", "add", "llvm-tools"]);
    }
    Ok(tool.exists().then_some(tool))
}

fn has_target(target: &str) -> bool {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
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

fn add_target(target: &str) -> bool {
    rustup(&["target", "add", target])
}

/// Has rustup do something. Says whether it did, in time.
fn rustup(arguments: &[&str]) -> bool {
    let child = Command::new("rustup").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
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
