//! What the shipped program does mostly, counted while it does it. The compiler is told: what runs in every request lies close together,
//! and what never does is small. A process that lives for a millisecond or two takes a quarter less time then.
//!
//! The program is built with counters (`-Cprofile-generate` of rustc), put to work on a host of namespaces, and built again with what was
//! counted (`-Cprofile-use`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::{dist, plugins, setup, step};

/// A request runs most of its code once, where a search runs its own a million times. It's the requests that are to be fast: their counts
/// are multiplied by this.
const WEIGHT: u32 = 1000;

/// Makes a host with a few mounts, and works on it: from inside, and from another mount namespace.
const HOST: &str = "
mount --make-rshared /
mount -t tmpfs tmpfs /mnt
mount -t tmpfs tmpfs /run
mkdir /mnt/x /mnt/y
for i in $(seq 50); do mkdir /mnt/$i; mount -t tmpfs tmpfs /mnt/$i; done
sh -euc \"$REQUESTS\" requests
unshare --mount --propagation private sh -euc '
    mount --rbind / \"$ROOTFS\"
    mount --make-rprivate /
    exec sh -euc \"$REQUESTS\" requests --host-root \"$ROOTFS\"'
";

/// Requests of every kind, which end in every way.
const REQUESTS: &str = "
denied() { status=0; \"$@\" || status=$?; test $status = 3; }
for policies in policies/baseline policies/strict; do
    gate=\"$PROGRAM $* --policies $policies\"
    $gate mount -t tmpfs -o size=1m,nosuid,nodev,noexec tmpfs /mnt/x
    $gate umount /mnt/x
    $gate mount --bind -o ro,nosuid,nodev,noexec /mnt/y /mnt/x
    $gate mount -o remount,bind,ro,nosuid,nodev,noexec /mnt/x
    $gate umount -R /mnt/x
    $gate mount -t tmpfs -o size=1m tmpfs /mnt/x --json
    $gate check umount /mnt/x
    $gate umount /mnt/x -v
    denied $gate mount -t tmpfs tmpfs /etc
done
$PROGRAM list $*
$PROGRAM list $* --json /mnt
";

/// The profile of the program, for rustc. The one that was made before is taken while the compiler and the dependencies are the same: what
/// changed since in mountgate itself is a small part. None where it can't be made here, which is told.
pub(crate) fn profile() -> Result<Option<PathBuf>> {
    let folder = dist::own_folder()?.join("profiles");
    let lock = fs::read("Cargo.lock")?;
    let key = digest([setup::compiler()?.as_bytes(), &lock]);
    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&key) {
            return Ok(Some(entry.path()));
        }
    }
    let without = |why: &str| {
        step(&format!("the program is built without a profile, and starts slower: {why}"));
        Ok(None)
    };
    let Some(tool) = setup::profile_tool()? else { return without("there is no llvm-profdata of this compiler") };
    if !can_make_hosts() {
        return without("a host of namespaces can't be made: that takes root, or user namespaces");
    }
    step("finding out what the program does mostly: it's built with counters, and put to work (takes some minutes)");
    let made = tempfile::tempdir_in(&folder)?;
    count(made.path())?;
    let merged = made.path().join("merged");
    let weighted = |weight: u32, what: &str| format!("-weighted-input={weight},{}", made.path().join(what).display());
    let mut merge = Command::new(tool);
    merge.args(["merge", "-output"]).arg(&merged).args([weighted(WEIGHT, "requests"), weighted(1, "others")]);
    crate::run(&mut merge)?;
    // Another profile has another name: cargo knows flags, and not what is in files.
    let profile = folder.join(format!("{key}-{}.profdata", digest([fs::read(&merged)?.as_slice()])));
    fs::rename(&merged, &profile)?;
    Ok(Some(profile))
}

/// Builds the program with counters, and counts what it does into two folders: for requests, and for everything else.
fn count(folder: &Path) -> Result<()> {
    plugins::build()?;
    // Where nothing can be written: the process that compiles plugins may write no file, and would be ended for it. It counts for nothing. All
    // others are told by LLVM_PROFILE_FILE.
    let flags = "-Cprofile-generate=/dev/null";
    let program = dist::build_with(flags, &folder.join("target"), "mountgate", &[])?.join("mountgate");
    let rootfs = folder.join("rootfs");
    fs::create_dir(&rootfs)?;
    let counted = |command: &mut Command, what: &str| {
        command.env("LLVM_PROFILE_FILE", folder.join(what).join("%p.profraw"));
        command.env("MOUNTGATE_CACHE", folder.join("cache")).stdout(Stdio::null()).stderr(Stdio::null());
        crate::run(command)
    };
    step("putting it to work");
    for policies in ["policies/baseline", "policies/strict"] {
        let run = |arguments: &[&str]| counted(Command::new(&program).args(arguments).arg(policies), "others");
        run(&["policy", "compile"])?;
        run(&["policy", "test"])?;
        run(&["fuzz", "--runs", "2000", "--policies"])?;
    }
    let mut host = namespaces()?;
    host.args(["sh", "-euc", HOST]).env("PROGRAM", &program).env("ROOTFS", &rootfs).env("REQUESTS", REQUESTS);
    counted(&mut host, "requests").context("a request that counts what runs ended in another way than it should")?;
    let made = fs::read_dir(folder.join("requests"))?.count();
    ensure!(made > 30, "only {made} of the requests have counted what they ran");
    Ok(())
}

/// Runs what follows in namespaces of its own.
fn namespaces() -> Result<Command> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private"]);
    if !setup::is_root()? {
        command.args(["--user", "--map-root-user"]);
    }
    Ok(command)
}

fn can_make_hosts() -> bool {
    let made = namespaces().and_then(|mut command| Ok(command.arg("true").stderr(Stdio::null()).status()?));
    made.is_ok_and(|status| status.success())
}

fn digest<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> String {
    let digest = parts.into_iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
