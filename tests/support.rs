//! The program, policy directories for one test, and a host made of real namespaces.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use tempfile::TempDir;

/// The tests of a module, each by the name of its function: `plain` ones, which any user can run, and `privileged` ones,
/// which need root.
macro_rules! tests {
    ($($kind:ident $name:ident,)*) => {
        pub(crate) fn tests() -> Vec<libtest_mimic::Trial> {
            let module = module_path!().rsplit("::").next().unwrap_or_default();
            vec![$($crate::support::$kind(&format!("{module}::{}", stringify!($name)), $name)),*]
        }
    };
}

/// A test that any user can run.
pub(crate) fn plain(name: &str, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || test().map_err(|error| format!("{error:#}").into()))
}

/// A test that needs root. Without root it's shown as ignored.
pub(crate) fn privileged(name: &str, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    plain(name, test).with_kind("root").with_ignored_flag(!rustix::process::geteuid().is_root())
}

/// A test that needs root and the tracer, which knows the system calls of x86_64 only.
pub(crate) fn traced(name: &str, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    let is_possible = rustix::process::geteuid().is_root() && cfg!(target_arch = "x86_64");
    plain(name, test).with_kind("root, x86_64").with_ignored_flag(!is_possible)
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The program that cargo built for these tests.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_mountgate"))
}

pub(crate) fn plugin(name: &str) -> PathBuf {
    root().join("target/plugins").join(format!("{name}.wasm"))
}

/// A folder that only its owner can write, as policy directories must be.
pub(crate) fn folder() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("mountgate-test-").tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// A policy directory with this text and these plugins, not pinned.
pub(crate) fn unpinned(text: &str, plugins: &[&str]) -> Result<TempDir> {
    let directory = folder()?;
    fill(directory.path(), text, plugins)?;
    Ok(directory)
}

fn fill(directory: &Path, text: &str, plugins: &[&str]) -> Result<()> {
    fs::write(directory.join("policies.toml"), text)?;
    for name in plugins {
        fs::copy(plugin(name), directory.join(format!("{name}.wasm")))
            .with_context(|| format!("{name} isn't built: run `cargo xtask plugins`"))?;
    }
    Ok(())
}

/// A policy directory with this text and these plugins, pinned.
pub(crate) fn policies(text: &str, plugins: &[&str]) -> Result<TempDir> {
    let directory = unpinned(text, plugins)?;
    let locked = mountgate(&["policy", "lock"]).arg(directory.path()).output()?;
    ensure!(locked.status.success(), "{}", text_of(&locked));
    Ok(directory)
}

/// The folder of compiled plugins that all tests share: to compile them anew in each test would take most of the time.
pub(crate) fn cache() -> &'static Path {
    static CACHE: OnceLock<TempDir> = OnceLock::new();
    CACHE.get_or_init(|| private_folder().expect("a folder can be made")).path()
}

/// A folder that only its owner can enter, as caches must be.
pub(crate) fn private_folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("mountgate-cache-").permissions(fs::Permissions::from_mode(0o700)).tempdir()?)
}

/// Compiles the plugins that the tests use, so that no test with a deadline has to.
pub(crate) fn compile_plugins() -> Result<()> {
    let plugins = ["fstype-allow", "mount-limits", "path-guard", "secure-flags", "misbehaving-guest"];
    if plugins.iter().any(|name| !plugin(name).exists()) {
        // Each test that needs one says so.
        return Ok(());
    }
    let settings = ["allow = [\"tmpfs\"]", "", "", "rules = []", "rules = []"];
    let mut text = String::new();
    for (name, settings) in plugins.iter().zip(settings) {
        let rewrites = if *name == "secure-flags" { "rewrites = [\"options\"]\n" } else { "" };
        text +=
            &format!("[[policy]]\nname = {name:?}\nplugin = \"{name}.wasm\"\n{rewrites}settings = {{ {settings} }}\n");
    }
    let output = mountgate(&["policy", "validate"]).arg(policies(&text, &plugins)?.path()).output()?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

/// The program with arguments, with the cache that all tests share.
pub(crate) fn mountgate(arguments: &[&str]) -> Command {
    in_tests(Command::new(program()), arguments)
}

/// The program, started by env(1) with one of its flags.
pub(crate) fn mountgate_by_env(flag: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.arg(flag).arg(program());
    in_tests(command, arguments)
}

fn in_tests(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments).env("MOUNTGATE_CACHE", cache()).current_dir(root());
    command
}

/// Runs `check --request` on a directory, and returns the status, the JSON and stderr.
pub(crate) fn check(directory: &Path, request: &Value) -> Result<(i32, Value, String)> {
    let folder = folder()?;
    let file = folder.path().join("request.json");
    fs::write(&file, request.to_string())?;
    let mut command = mountgate(&["check", "--json", "--policies"]);
    let output = command.arg(directory).arg("--request").arg(file).output()?;
    let json = serde_json::from_slice(&output.stdout).with_context(|| text_of(&output))?;
    Ok((status(&output), json, String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// A request file for a tmpfs.
pub(crate) fn tmpfs(target: &str, options: &[&str]) -> Value {
    let options: Vec<Value> = options.iter().map(|name| serde_json::json!({ "name": name })).collect();
    serde_json::json!({ "request": {
        "operation": "mount", "source": "tmpfs", "target": target, "fstype": "tmpfs", "options": options
    } })
}

pub(crate) fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub(crate) fn text_of(output: &Output) -> String {
    format!("{}\n{}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Policies that allow what the tests of the executor do.
const OPEN: &str = "[host]
helpers = [\"fuse.bindfs\", \"hang\"]
targets = [\"/dev/shm\"]
timeout = \"20s\"
[[policy]]
name = \"types\"
plugin = \"fstype-allow.wasm\"
settings = { allow = [\"tmpfs\", \"ext4\", \"xfs\", \"btrfs\", \"overlay\", \"fuse.bindfs\", \"hang\"] }
";

/// Runs a shell script as PID 1 of a host made of namespaces of its own, with:
/// `$M` the program; `$T` this program; `$W` a folder of the test's; `$B` the baseline policies; `$P` open ones;
/// `gate ARGUMENTS` running the program with open policies; `container SCRIPT` running a script in a second mount
/// namespace that sees the host below `$W/rootfs`; `inside ARGUMENTS` for what a container asks of its host;
/// `says STATUS COMMAND` failing unless a command ends with it, its output in `$said`; `allowed`, `denied` and `refused`
/// ARGUMENTS for `gate` that must end so.
pub(crate) fn on_host(script: &str) -> Result<Output> {
    on_host_with(OPEN, &["fstype-allow"], script)
}

/// Runs a shell script as [`on_host`] does, with these policies in `$P`.
pub(crate) fn on_host_with(text: &str, plugins: &[&str], script: &str) -> Result<Output> {
    let folder = folder()?;
    fs::create_dir(folder.path().join("rootfs"))?;
    // In the folder of the test, so that it's there wherever that is seen.
    let directory = folder.path().join("policies");
    fs::create_dir(&directory)?;
    fill(&directory, text, plugins)?;
    let locked = mountgate(&["policy", "lock"]).arg(&directory).output()?;
    ensure!(locked.status.success(), "{}", text_of(&locked));
    let prelude = r#"
        mount -t tmpfs tmpfs /mnt
        mount -t tmpfs tmpfs /run
        mkdir /mnt/x /mnt/y /mnt/source /mnt/target
        gate() { $M --policies $P "$@"; }
        inside() { $M --policies $P --host-root $W/rootfs "$@"; }
        container() {
            unshare --mount --propagation private sh -euc "mount --rbind / $W/rootfs; mount --make-rprivate /; $1"
        }
        at() { grep " $1 " /proc/1/mountinfo | sed "s/^/${2:-at}: /"; }
        says() { want=$1; shift; set +e; said=$("$@" 2>&1); got=$?; set -e
            test $got = $want || { echo "$*: ended with $got where $want was expected: $said"; exit 1; }; }
        denied() { says 3 gate "$@"; }
        refused() { says 2 gate "$@"; }
        allowed() { says 0 gate "$@"; }
        absent() { if grep " $1 " /proc/1/mountinfo; then echo "$1 is still mounted"; exit 1; fi; }
    "#;
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "sh", "-euc"])
        .arg(format!("{prelude}\n{script}"))
        .env("M", program())
        .env("T", std::env::current_exe()?)
        .env("W", folder.path())
        .env("B", root().join("policies/baseline"))
        .env("P", &directory)
        .env("MOUNTGATE_CACHE", cache())
        .current_dir("/")
        .output()?;
    Ok(output)
}

/// Runs a shell script as [`on_host`] does, and fails where the script fails. Returns its output.
pub(crate) fn on_host_succeeds(script: &str) -> Result<String> {
    let output = on_host(script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(text_of(&output))
}
