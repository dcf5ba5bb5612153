//! What tests do inside of a host made of namespaces: this very program, called there with the arguments `inside NAME`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use mountgate::mount_table::mount::MountText;
use mountgate::mount_table::table::MountTable;

use crate::tracer::{Interference, LISTMOUNT, MOVE_MOUNT, Meanwhile, OPEN_TREE, STATMOUNT, run};

/// Runs one of the jobs; it prints what it did, or fails.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["kill-anywhere", operation] => kill_anywhere(operation_named(operation)?),
        ["fail-calls", operation] => fail_calls(operation_named(operation)?),
        ["without-statmount", command @ ..] => without_statmount(command),
        ["never-allowed", command @ ..] => never_allowed(command),
        ["between", call, nth, script, command @ ..] => between(&[(call, nth, script)], command),
        ["between-both", c1, n1, s1, c2, n2, s2, command @ ..] => between(&[(c1, n1, s1), (c2, n2, s2)], command),
        ["resolver"] => crate::resolver::with_mounts(),
        ["hostile", sequences] => crate::hostile::attack(sequences.parse()?),
        ["callers", rounds, device] => crate::callers::at_once(rounds.parse()?, device),
        ["automount", path] => automount(path),
        ["race", what] => crate::race::attack(what),
        other => bail!("{other:?} is no job"),
    }
}

/// A request, the state it starts from, and the two states that it may end in.
struct Operation {
    name: &'static str,
    /// A shell command that makes the state it starts from.
    prepare: &'static str,
    arguments: &'static [&'static str],
    /// The calls of the kernel's mount API that it makes, by number, with how often.
    calls: &'static [(i64, &'static str, usize)],
}

const UMOUNT2: i64 = 166;
const FSOPEN: i64 = 430;
const FSCONFIG: i64 = 431;
const FSMOUNT: i64 = 432;
const FSPICK: i64 = 433;
const MOUNT_SETATTR: i64 = 442;

const OPERATIONS: [Operation; 4] = [
    Operation {
        name: "bind",
        prepare: "",
        arguments: &["mount", "--bind", "-o", "ro,nosuid,nodev", "/mnt/source", "/mnt/target"],
        calls: &[(OPEN_TREE, "open_tree", 1), (MOUNT_SETATTR, "mount_setattr", 1), (MOVE_MOUNT, "move_mount", 1)],
    },
    Operation {
        name: "tmpfs",
        prepare: "",
        arguments: &["mount", "-t", "tmpfs", "-o", "size=1m,nosuid,nodev,noexec", "tmpfs", "/mnt/target"],
        calls: &[
            (FSOPEN, "fsopen", 1),
            (FSCONFIG, "fsconfig", 3),
            (FSMOUNT, "fsmount", 1),
            (MOVE_MOUNT, "move_mount", 1),
        ],
    },
    Operation {
        name: "remount",
        prepare: "mount -t tmpfs -o size=2m,nosuid tmpfs /mnt/target",
        arguments: &["mount", "-o", "remount,ro,noexec,size=1m", "/mnt/target"],
        calls: &[(MOUNT_SETATTR, "mount_setattr", 1), (FSPICK, "fspick", 1), (FSCONFIG, "fsconfig", 3)],
    },
    Operation {
        name: "umount",
        prepare: "mount -t tmpfs -o size=2m,nosuid tmpfs /mnt/target",
        arguments: &["umount", "/mnt/target"],
        calls: &[(UMOUNT2, "umount2", 1)],
    },
];

fn operation_named(name: &str) -> Result<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.name == name).with_context(|| format!("no operation {name}"))
}

fn variable(name: &str) -> Result<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).with_context(|| format!("{name} isn't set"))
}

impl Operation {
    fn command(&self) -> Result<Command> {
        let mut command = Command::new(variable("M")?);
        command.arg("--policies").arg(variable("W")?.join("policies")).args(self.arguments);
        Ok(command)
    }

    fn prepare(&self) -> Result<()> {
        shell("umount -l /mnt/target 2>/dev/null || true")?;
        shell(self.prepare)
    }

    /// The state it starts from, and the one that was approved.
    fn states(&self) -> Result<(Vec<Kept>, Vec<Kept>)> {
        self.prepare()?;
        let before = state()?;
        let traced = run(self.command()?, Interference::None, None)?;
        ensure!(traced.status == Some(0), "{} ends with {traced:?}", self.name);
        Ok((before, state()?))
    }
}

fn shell(script: &str) -> Result<()> {
    let status = Command::new("/bin/sh").args(["-euc", script]).stdin(Stdio::null()).status()?;
    ensure!(status.success(), "{script}: {status}");
    Ok(())
}

/// What counts of a mount: not its id, which is new each time, nor the number of its file system.
type Kept = (String, String, String, String, Vec<String>, Vec<String>);

fn state() -> Result<Vec<Kept>> {
    let table = MountTable::read(Path::new("/proc/self/mountinfo"))?;
    let kept =
        |mount: MountText| (mount.target, mount.root, mount.fstype, mount.source, mount.options, mount.super_options);
    Ok(table.iter().map(|mount| kept(mount.to_text())).collect())
}

/// Whether the only thing between a state and the approved one is that some mounts are stricter than they were, and no
/// stricter than approved.
fn is_on_the_way(now: &[Kept], before: &[Kept], approved: &[Kept]) -> bool {
    let flags = ["ro", "nosuid", "nodev", "noexec", "nosymfollow"];
    let strict = |words: &[String]| -> Vec<&str> {
        flags.into_iter().filter(|flag| words.iter().any(|word| word == flag)).collect()
    };
    now.len() == before.len()
        && before.len() == approved.len()
        && now.iter().zip(before).zip(approved).all(|((now, before), approved)| {
            let (n, b, a) = (strict(&now.4), strict(&before.4), strict(&approved.4));
            now.0 == before.0 && b.iter().all(|flag| n.contains(flag)) && n.iter().all(|flag| a.contains(flag))
        })
}

fn kill_anywhere(operation: &Operation) -> Result<()> {
    let (before, approved) = operation.states()?;
    let (mut untouched, mut done, mut between) = (0, 0, 0);
    let mut killed = 0;
    for n in 1.. {
        operation.prepare()?;
        let traced = run(operation.command()?, Interference::KillAt(n), None)?;
        let now = state()?;
        if now == before {
            untouched += 1;
        } else if now == approved {
            done += 1;
        } else if operation.name == "remount" && is_on_the_way(&now, &before, &approved) {
            between += 1;
        } else {
            bail!("{} killed at call {n} leaves\n{now:#?}\nwhere it found\n{before:#?}", operation.name);
        }
        let left = processes_named("mountgate")?;
        ensure!(left == 0, "{left} processes are left behind");
        if traced.status.is_some() {
            ensure!(traced.status == Some(0) && now == approved, "after call {n}: {traced:?}");
            break;
        }
        killed += 1;
    }
    // No lock is stuck, or this would wait for it.
    operation.prepare()?;
    let last = run(operation.command()?, Interference::None, None)?;
    ensure!(last.status == Some(0) && killed > 50, "{last:?} after {killed} kills");
    println!("{}: killed {killed} times: {untouched} untouched, {between} stricter, {done} done", operation.name);
    Ok(())
}

fn processes_named(name: &str) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc")? {
        let comm = std::fs::read_to_string(entry?.path().join("comm")).unwrap_or_default();
        count += usize::from(comm.trim() == name);
    }
    Ok(count)
}

/// Each call of the mount API fails once: the request fails with exit 32, the call is named, the host is as it was.
fn fail_calls(operation: &Operation) -> Result<()> {
    let (before, _) = operation.states()?;
    let words = variable("W")?.join("words");
    for (call, name, times) in operation.calls {
        for nth in 1..=*times {
            operation.prepare()?;
            let fail = Interference::Fail { call: *call, nth, errno: nix::libc::EIO };
            let traced = run(operation.command()?, fail, Some(&words))?;
            let output = std::fs::read_to_string(&words)?;
            ensure!(traced.failed == 1, "{name} isn't called {nth} times: {output}");
            ensure!(traced.status == Some(32) && output.contains(name), "{name} {nth}: {traced:?}\n{output}");
            ensure!(output.contains("Input/output error") && !output.contains("NOT undone"), "{output}");
            let now = state()?;
            ensure!(now == before, "{name} {nth} leaves\n{now:#?}\nwhere it found\n{before:#?}\n{output}");
        }
    }
    // Each lookup fails once: the request does without, or is undone. What is unmounted can't be put back.
    if operation.name == "umount" {
        println!("{}: every call failed", operation.name);
        return Ok(());
    }
    let (before, approved) = operation.states()?;
    let mut undone = 0;
    for nth in 1.. {
        operation.prepare()?;
        let fail = Interference::Fail { call: STATMOUNT, nth, errno: nix::libc::EIO };
        let traced = run(operation.command()?, fail, Some(&words))?;
        let output = std::fs::read_to_string(&words)?;
        let expected = if traced.status == Some(0) { &approved } else { &before };
        ensure!(state()? == *expected && !output.contains("NOT undone"), "statmount {nth}: {traced:?}\n{output}");
        undone += usize::from(output.contains("undone: "));
        if traced.failed == 0 {
            break;
        }
    }
    ensure!(undone > 0, "no lookup came after the change");
    println!("{}: every call failed", operation.name);
    Ok(())
}

/// Runs a command on a kernel that knows neither statmount(2) nor listmount(2).
fn without_statmount(command: &[&str]) -> Result<()> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut traced = Command::new(program);
    traced.args(arguments);
    let words = variable("W")?.join("words");
    let traced = run(traced, Interference::NoStatmount, Some(&words))?;
    ensure!(traced.failed > 0, "statmount(2) isn't called");
    print!("{}", std::fs::read_to_string(words)?);
    ensure!(traced.status == Some(0), "{traced:?}");
    Ok(())
}

/// Runs a command that is denied. Then each of its calls of statmount(2) fails once: it's denied or refused.
fn never_allowed(command: &[&str]) -> Result<()> {
    let (program, arguments) = command.split_first().context("no command")?;
    let words = variable("W")?.join("words");
    for nth in 1.. {
        let mut traced = Command::new(program);
        traced.args(arguments);
        let fail = Interference::Fail { call: STATMOUNT, nth, errno: nix::libc::ENOMEM };
        let traced = run(traced, fail, Some(&words))?;
        let output = std::fs::read_to_string(&words)?;
        if traced.failed == 0 {
            ensure!(traced.status == Some(3) && nth > 10, "{traced:?}\n{output}");
            println!("denied whatever failed of {} calls", nth - 1);
            break;
        }
        ensure!(matches!(traced.status, Some(1..=3)), "statmount {nth}: {traced:?}\n{output}");
    }
    Ok(())
}

/// Runs a command, and shell scripts before some of its system calls. Prints what it said, and how it ended.
fn between(scripts: &[(&str, &str, &str)], command: &[&str]) -> Result<()> {
    let (program, arguments) = command.split_first().context("no command")?;
    let meanwhile = scripts.iter().map(|(call, nth, script)| {
        let call = match *call {
            "open_tree" => OPEN_TREE,
            "move_mount" => MOVE_MOUNT,
            "listmount" => LISTMOUNT,
            other => bail!("{other} isn't known here"),
        };
        Ok(Meanwhile { call, nth: nth.parse()?, script: (*script).to_owned() })
    });
    let meanwhile: &[Meanwhile] = Vec::leak(meanwhile.collect::<Result<_>>()?);
    let mut traced = Command::new(program);
    traced.args(arguments);
    let words = variable("W")?.join("words");
    let traced = run(traced, Interference::Between(meanwhile), Some(&words))?;
    print!("{}", std::fs::read_to_string(words)?);
    println!("it ended with {:?}", traced.status);
    Ok(())
}

/// Asks for a bind of a place of autofs, and for an overlay of it. Its daemon is this process, which never answers.
fn automount(path: &str) -> Result<()> {
    let (_reader, writer) = std::io::pipe()?;
    let options = format!("fd={},minproto=5,maxproto=5,direct", std::os::fd::AsRawFd::as_raw_fd(&writer));
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount("automount", path, "autofs", rustix::mount::MountFlags::empty(), options.as_c_str())?;
    let layers = format!("lowerdir={path}:/mnt/source");
    for words in [&["--bind", path][..], &["-t", "overlay", "-o", &layers, "overlay"]] {
        let mut mount = Command::new(variable("M")?);
        mount.arg("--policies").arg(variable("P")?).arg("mount").args(words).arg("/mnt/y");
        let output = mount.stdin(Stdio::null()).output()?;
        println!("{}", String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.code() == Some(2), "{words:?}: {}", output.status);
    }
    Ok(())
}
