//! Makes a search on another machine as well: an emulated one with a processor and a kernel of its own. Both must print the same digest.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::{plugins, run, setup, step};

/// What the machine is made of, with the packages that bring it.
const TOOLS: [(&str, &str); 2] = [("qemu-system-x86_64", "qemu-system-x86"), ("busybox", "busybox-static")];
/// The package that names the newest kernel for virtual machines.
const KERNEL: &str = "linux-image-cloud-amd64";
/// Where the kernel is kept.
const FOLDER: &str = "target/elsewhere";
/// A processor of 2008, without AVX.
const PROCESSOR: &str = "Nehalem";
/// The first process there. It says what the machine is, searches, and turns it off.
const INIT: &str = "#!/bin/busybox sh
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t devtmpfs dev /dev
$busybox mount -t tmpfs tmpfs /tmp
echo \"kernel $($busybox uname -r), $($busybox grep -m 1 'model name' /proc/cpuinfo)\"
export MOUNTGATE_CACHE=/tmp/cache
/mountgate fuzz --policies /policies --runs RUNS --seed 1 --output /tmp/findings 2>&1 | $busybox cat
$busybox poweroff -f
";

/// Whether such a machine can be emulated.
pub(crate) const IS_POSSIBLE: bool = cfg!(target_arch = "x86_64");

/// Installs what the machine is made of, and says where its kernel is.
pub(crate) fn set_up() -> Result<PathBuf> {
    setup::require(&TOOLS)?;
    kernel()
}

/// Searches here and there with the same seed. The program must be one that needs no library.
pub(crate) fn compare(mountgate: &Path, policies: &Path, runs: u64) -> Result<()> {
    ensure!(IS_POSSIBLE, "only a machine for x86_64 is emulated");
    let kernel = set_up()?;
    let folder = tempfile::tempdir()?;
    let initrd = initrd(folder.path(), mountgate, policies, runs)?;
    step(&format!("searching here, {runs} runs"));
    let search = ["fuzz", "--runs", &runs.to_string(), "--seed", "1", "--policies"];
    let mut here = Command::new(mountgate);
    here.args(search).arg(policies).arg("--output").arg(folder.path().join("findings"));
    let here = digest(&mut here)?;
    step("searching in an emulated machine, which takes some minutes");
    let mut machine = Command::new("timeout");
    machine.args(["1800", "qemu-system-x86_64", "-accel", "tcg", "-machine", "q35", "-cpu", PROCESSOR, "-m", "3000"]);
    machine.args(["-nographic", "-no-reboot", "-append", "console=ttyS0 quiet panic=-1"]);
    let there = digest(machine.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd))?;
    println!("  here   {here}\n  there  {there}");
    ensure!(here == there, "the same seed searches otherwise on another machine");
    Ok(())
}

/// Searches with one policy only, since an emulated machine takes long to compile plugins.
pub(crate) fn compare_one_plugin(mountgate: &Path, runs: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let policy =
        "[[policy]]\nname = \"places\"\nplugin = \"path-guard.wasm\"\nsettings = { deny-targets = [\"/etc\"] }\n";
    fs::write(folder.path().join("policies.toml"), policy)?;
    fs::copy(format!("{}/path-guard.wasm", plugins::FOLDER), folder.path().join("path-guard.wasm"))?;
    run(Command::new(mountgate).args(["policy", "lock", "--yes"]).arg(folder.path()).stdout(Stdio::null()))?;
    compare(mountgate, folder.path(), runs)
}

/// Fetches a kernel and unpacks it, where none is there yet.
fn kernel() -> Result<PathBuf> {
    let kept = Path::new(FOLDER).join("vmlinuz");
    if kept.exists() {
        return Ok(kept);
    }
    fs::create_dir_all(FOLDER)?;
    let folder = tempfile::tempdir_in(FOLDER)?;
    let folder = folder.path();
    // What the lists of long ago name may be gone.
    run(Command::new("apt-get").args(["update", "-qq"]).stdout(Stdio::null()))?;
    let newest = Command::new("apt-cache").args(["depends", KERNEL]).output().context("apt-cache can't be run")?;
    let newest = String::from_utf8_lossy(&newest.stdout).into_owned();
    let package = newest.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = package.with_context(|| format!("Debian's packages have no {KERNEL}"))?;
    step(&format!("fetching {package}"));
    let mut fetch = Command::new("apt-get");
    run(fetch.args(["download", "-qq", package]).current_dir(folder).stderr(Stdio::null()))?;
    let archive = first_file(folder, |name| name.ends_with(".deb"))?;
    run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(folder.join("kernel")))?;
    let kernel = first_file(&folder.join("kernel/boot"), |name| name.starts_with("vmlinuz"))?;
    // In one step: a kernel that is there is whole.
    fs::rename(kernel, &kept)?;
    Ok(kept)
}

fn first_file(folder: &Path, is_it: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder)?.filter_map(Result::ok);
    let found = entries.find(|entry| is_it(&entry.file_name().to_string_lossy()));
    found.map(|entry| entry.path()).with_context(|| format!("{} hasn't what was to be there", folder.display()))
}

/// All files of the machine, see cpio(1).
fn initrd(folder: &Path, mountgate: &Path, policies: &Path, runs: u64) -> Result<PathBuf> {
    let root = folder.join("root");
    for name in ["bin", "proc", "tmp", "dev"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    fs::copy(mountgate, root.join("mountgate"))?;
    fs::write(root.join("init"), INIT.replace("RUNS", &runs.to_string()))?;
    run(Command::new("chmod").arg("755").arg(root.join("init")))?;
    run(Command::new("cp").arg("-rL").arg(policies).arg(root.join("policies")))?;
    let initrd = folder.join("initrd");
    let mut pack = Command::new("sh");
    pack.args(["-c", "find . | busybox cpio -o -H newc"]).current_dir(root);
    run(pack.stdout(File::create(&initrd)?).stderr(Stdio::null()))?;
    Ok(initrd)
}

/// The digest of a search that a command makes.
fn digest(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?} can't be started"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if let Some((_, machine)) = text.split_once("kernel ") {
        println!("  kernel {}", machine.lines().next().unwrap_or_default());
    }
    let digest = text.rsplit_once("digest ").and_then(|(_, rest)| rest.split_whitespace().next());
    digest.map(str::to_owned).with_context(|| {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        format!("{command:?} made no search, {}: {text}{errors}", output.status)
    })
}
