//! What the shipped program does mostly, counted while it does it. The compiler is told: what runs in every request lies close together,
//! and what never does is small. A process that lives for a millisecond or two takes a sixteenth less time then.
//!
//! The program is built with counters (`-Cprofile-generate` of rustc), put to work on a host of namespaces, and built again with what was
//! counted (`-Cprofile-use`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::{dist, plugins, setup, step};

/// A request runs most of its code once, where a search runs its own a million times. It's the requests that are to be fast: their counts
/// are multiplied by this.
const WEIGHT: u32 = 1000;

/// Makes a host with a few mounts, and works on it: from inside, and from another mount namespace. The program and the policies lie where only
/// this user can write, whatever the place of the source.
const HOST: &str = r#"
umask 022
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs "$PLACE"
mount -t tmpfs -o mode=755 tmpfs /run
cp "$PROGRAM" "$PLACE/mountgate"
cp -R --no-preserve=all policies "$PLACE"
mkdir "$PLACE/x" "$PLACE/y" "$PLACE/root"
for i in $(seq 50); do mkdir "$PLACE/$i"; mount -t tmpfs tmpfs "$PLACE/$i"; done
sh -euxc "$REQUESTS"
unshare --mount --propagation private sh -euxc '
    mount --rbind / "$PLACE/root"
    mount --make-rprivate /
    export ROOT="$PLACE/root"
    exec sh -euxc "$REQUESTS"'
"#;

/// Requests of every kind, which end in every way.
const REQUESTS: &str = r#"
run() { "$PLACE/mountgate" ${ROOT:+--host-root "$ROOT"} "$@"; }
for policies in baseline strict; do
    gate() { run --policies "$PLACE/policies/$policies" "$@"; }
    gate mount -t tmpfs -o size=1m,nosuid,nodev,noexec tmpfs "$PLACE/x"
    gate umount "$PLACE/x"
    gate mount --bind -o ro,nosuid,nodev,noexec "$PLACE/y" "$PLACE/x"
    gate mount -o remount,bind,ro,nosuid,nodev,noexec "$PLACE/x"
    gate umount -R "$PLACE/x"
    gate mount -t tmpfs -o size=1m tmpfs "$PLACE/x" --json
    gate check umount "$PLACE/x"
    gate umount "$PLACE/x" -v
    status=0; gate mount -t tmpfs tmpfs /etc || status=$?; test $status = 3
done
run list
run list --json "$PLACE"
"#;

/// The profile of the program, for rustc; made where there is none yet. None where it can't be made here, which is told.
pub(crate) fn profile() -> Result<Option<PathBuf>> {
    static PROFILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    if let Some(known) = PROFILE.get() {
        return Ok(known.clone());
    }
    let found = match find_or_make() {
        Ok(profile) => Some(profile),
        Err(error) if std::env::var_os("CI").is_some() => return Err(error.context("the program has no profile")),
        Err(error) => {
            step(&format!("the program is built without a profile, and starts slower: {error:#}"));
            None
        }
    };
    Ok(PROFILE.get_or_init(|| found).clone())
}

/// The profile that was made before, while nothing changed that it depends on but mountgate itself: how far that changed is a small part.
fn find_or_make() -> Result<PathBuf> {
    let folder = dist::own_folder()?.join("profiles");
    let made_by = [setup::compiler()?, setup::shipped_target().unwrap_or_default(), dist::FLAGS.to_owned()].join("\n");
    let files = [fs::read("Cargo.toml")?, fs::read("Cargo.lock")?];
    let key = digest([made_by.as_bytes(), &files[0], &files[1], include_bytes!("profile.rs")]);
    fs::create_dir_all(&folder)?;
    let known = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    let is_this = |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&key));
    if let Some(profile) = known.iter().filter(is_this).min() {
        return Ok(profile.clone());
    }
    let tool = setup::profile_tool()?.context("this compiler has no llvm-profdata, and rustup can't add llvm-tools")?;
    step("finding out what the program does mostly: it's built with counters, and put to work (takes some minutes)");
    let work = folder.join("work");
    let remove = || if work.exists() { fs::remove_dir_all(&work) } else { Ok(()) };
    // An earlier run may have been ended.
    remove()?;
    fs::create_dir(&work)?;
    let counted = count(&work);
    let merged = counted.and_then(|()| merge(&tool, &work));
    let profile = merged.and_then(|merged| {
        // Another profile has another name: cargo knows flags, and not what is in files.
        let profile = folder.join(format!("{key}-{}.profdata", digest([fs::read(&merged)?.as_slice()])));
        fs::rename(&merged, &profile)?;
        known.iter().filter(|old| old.is_file()).try_for_each(fs::remove_file)?;
        Ok(profile)
    });
    remove()?;
    profile
}

/// Builds the program with counters, and counts what it does into two folders: for requests, and for everything else.
fn count(work: &Path) -> Result<()> {
    // What is mounted on it must not hide the folder of the counts.
    let place = if work.starts_with("/mnt") { "/srv" } else { "/mnt" };
    let mut host = namespaces()?;
    let can_mount = format!("mount -t tmpfs tmpfs {place}; mount -t tmpfs tmpfs /run; test -d \"$0\"");
    run(host.args(["sh", "-euc", &can_mount]).arg(work), &work.join("log"))
        .context("that takes root, or user namespaces")?;
    plugins::build()?;
    // Where nothing can be written: the process that compiles plugins may write no file, and would be ended for it. It counts for nothing. All
    // others are told by LLVM_PROFILE_FILE.
    let flags = ["-Cprofile-generate=/dev/null"];
    let program = dist::build_with(&flags, &work.join("target"), "mountgate", &[])?.join("mountgate");
    step("putting it to work");
    let counted = |command: &mut Command, what: &str| {
        command.env("LLVM_PROFILE_FILE", work.join(what).join("%p.profraw"));
        run(command, &work.join("log"))
    };
    let (cache, findings) = (work.join("cache"), work.join("findings"));
    for policies in ["policies/baseline", "policies/strict"] {
        let others = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            counted(command.arg("--cache").arg(&cache).args(arguments).arg(policies), "others")
        };
        others(&["policy", "compile"])?;
        others(&["policy", "test"])?;
        others(&["fuzz", "--runs", "2000", "--output", &findings.to_string_lossy(), "--policies"])?;
    }
    let mut host = namespaces()?;
    host.args(["sh", "-euxc", HOST]).env("REQUESTS", REQUESTS).env("PROGRAM", &program).env("PLACE", place);
    counted(host.env("MOUNTGATE_CACHE", Path::new(place).join("cache")), "requests")?;
    ensure!(fs::read_dir(work.join("requests"))?.next().is_some(), "nothing was counted");
    Ok(())
}

/// Joins what was counted.
fn merge(tool: &Path, work: &Path) -> Result<PathBuf> {
    let merged = work.join("merged");
    let weighted = |weight: u32, what: &str| format!("-weighted-input={weight},{}", work.join(what).display());
    let mut merge = Command::new(tool);
    merge.args(["merge", "-output"]).arg(&merged).args([weighted(WEIGHT, "requests"), weighted(1, "others")]);
    crate::run(&mut merge)?;
    Ok(merged)
}

/// Runs a command, whoever asked this program to, and has what it says at the end in the error.
fn run(command: &mut Command, log: &Path) -> Result<()> {
    // The program takes no arguments for its policies from whom sudo(8) and its like have lent rights.
    for name in ["SUDO_UID", "SUDO_GID", "DOAS_USER", "PKEXEC_UID", "MOUNTGATE_POLICIES", "MOUNTGATE_TRUSTED_KEYS"] {
        command.env_remove(name);
    }
    let said = fs::File::create(log)?;
    let status = command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said).status()?;
    if !status.success() {
        let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        bail!("{status}; it said: {}", lines[lines.len().saturating_sub(6)..].join(" | "));
    }
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

fn digest<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> String {
    let digest = parts.into_iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
