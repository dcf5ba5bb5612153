//! A plugin that does wrong: exit 4 (or 3 where it denied), the policy named, the process alive and small.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use mountgate::decision::case::{Case, Resolution};
use mountgate::decision::ruling::Ruling;
use mountgate::gate::Gate;
use mountgate::model::failure::FailureKind;
use mountgate::model::requester::Requester;
use mountgate::mount_table::snapshot::Snapshot;
use mountgate::mount_table::table::MountTable;
use mountgate::policy::cache::Cache;
use mountgate::policy::directory::open::PolicyDirectory;
use serde_json::Value;

use crate::support::{
    check, folder, mountgate, plugin, policies, private_folder, program, status, text_of, tmpfs, unpinned,
};

tests! {
    plain a_trap_denies,
    plain the_message_of_a_panic_is_in_the_failure,
    plain an_endless_loop_denies,
    plain a_memory_bomb_denies,
    plain a_stack_overflow_denies,
    plain a_verdict_of_100_mb_denies,
    plain calls_without_end_deny,
    plain a_plugin_that_takes_too_long_to_compile_is_refused,
    plain a_request_that_has_to_compile_too_long_says_so,
    plain a_plugin_that_takes_too_much_memory_to_compile_is_refused,
    plain a_rewrite_that_never_settles_denies,
    plain a_dropped_nosuid_denies,
    plain an_edit_without_permission_denies,
    plain a_denial_without_a_reason_is_malformed,
    plain words_that_drive_a_terminal_are_malformed,
    plain a_validator_judges_what_a_mutator_made_of_the_request,
    plain the_host_refuses_what_a_mutator_made_of_the_request,
    plain giving_up_denies,
    plain a_deadline_ends_a_loop_with_wasi_and_without,
    plain a_flood_of_log_lines_is_cut,
    plain a_failure_in_monitor_mode_denies,
    plain a_denial_in_monitor_mode_is_recorded,
    plain a_bomb_leaves_the_process_within_64_mb,
    plain a_plugin_cannot_pass_for_an_instrumented_one,
}

fn a_trap_denies() -> Result<()> {
    fails("trap", "trap")
}

fn the_message_of_a_panic_is_in_the_failure() -> Result<()> {
    let text = "[[policy]]\nname = \"wrong\"\nplugin = \"misbehaving-guest.wasm\"\nrewrites = [\"options\"]\n\
                settings = { rules = [{ act = \"trap\" }] }\n";
    let (status, json, _) = check(policies(text, &["misbehaving-guest"])?.path(), &tmpfs("/mnt", &[]))?;
    let reason = json["denied_by"]["reason"].as_str().unwrap_or_default();
    ensure!(status == 4 && reason.contains("it trapped") && reason.contains("as told"), "{json}");
    Ok(())
}

fn an_endless_loop_denies() -> Result<()> {
    fails("loop", "fuel")
}

fn a_memory_bomb_denies() -> Result<()> {
    fails("take-memory", "memory")
}

fn a_stack_overflow_denies() -> Result<()> {
    fails("recurse", "stack")
}

fn a_verdict_of_100_mb_denies() -> Result<()> {
    fails("answer-with100-mb", "memory")
}

fn calls_without_end_deny() -> Result<()> {
    fails("call-without-end", "host-calls")
}

fn a_rewrite_that_never_settles_denies() -> Result<()> {
    fails("never-settle", "not-converged")
}

fn a_dropped_nosuid_denies() -> Result<()> {
    fails("drop-nosuid", "weakened")
}

fn an_edit_without_permission_denies() -> Result<()> {
    fails("change-target", "not-permitted")
}

fn a_denial_without_a_reason_is_malformed() -> Result<()> {
    fails("deny-without-reason", "malformed")
}

/// An instrumented plugin has more fuel and memory, in the fuzzer alone.
fn a_plugin_cannot_pass_for_an_instrumented_one() -> Result<()> {
    let directory = directory("loop", "enforce")?;
    let file = directory.path().join("misbehaving-guest.wasm");
    let mut plugin = fs::read(&file)?;
    // A section of component exports with one: its first instance, under the name of a fuzzer's function.
    let name = b"mountgate-coverage-0";
    let export = [&[1, 0, u8::try_from(name.len())?][..], name, &[5, 0, 0]].concat();
    plugin.extend([&[11, u8::try_from(export.len())?][..], &export].concat());
    fs::write(&file, plugin)?;
    mountgate(&["policy", "lock", "--yes"]).arg(directory.path()).output()?;
    let checked = mountgate(&["policy", "validate"]).arg(directory.path()).output()?;
    ensure!(status(&checked) == 4, "{}", text_of(&checked));
    ensure!(text_of(&checked).contains("a name that the fuzzer gives"), "{}", text_of(&checked));
    Ok(())
}

fn words_that_drive_a_terminal_are_malformed() -> Result<()> {
    fails("drive-the-terminal", "malformed")
}

fn giving_up_denies() -> Result<()> {
    fails("give-up", "gave-up")
}

fn directory(act: &str, mode: &str) -> Result<tempfile::TempDir> {
    let text = format!(
        "[[policy]]\nname = \"suspect\"\nplugin = \"misbehaving-guest.wasm\"\nrewrites = [\"options\"]\nmode = {mode:?}\n\
         [policy.settings]\nrules = [{{ act = {act:?} }}]\n"
    );
    policies(&text, &["misbehaving-guest"])
}

fn judged(act: &str, mode: &str) -> Result<(i32, Value, String)> {
    check(directory(act, mode)?.path(), &tmpfs("/mnt", &["nosuid"]))
}

fn fails(act: &str, code: &str) -> Result<()> {
    let (status, json, stderr) = judged(act, "enforce")?;
    ensure!(status == 4, "{json}\n{stderr}");
    ensure!(json["verdict"] == "deny", "{json}");
    ensure!(json["denied_by"]["policy"] == "suspect" && json["denied_by"]["code"] == code, "{json}");
    ensure!(json["plan"] == Value::Array(Vec::new()), "{json}");
    Ok(())
}

fn a_validator_judges_what_a_mutator_made_of_the_request() -> Result<()> {
    let text = "[[policy]]\nname = \"guard\"\nplugin = \"path-guard.wasm\"\nsettings = { deny-targets = [\"/srv\"] }\n\
                [[policy]]\nname = \"mover\"\nplugin = \"misbehaving-guest.wasm\"\nrewrites = [\"target\"]\n\
                settings = { rules = [{ act = \"change-target\" }] }\n";
    let directory = policies(text, &["path-guard", "misbehaving-guest"])?;
    let (status, json, _) = check(directory.path(), &tmpfs("/mnt", &[]))?;
    ensure!(status == 3 && json["denied_by"]["policy"] == "guard", "{json}");
    ensure!(json["request"]["target"] == "/mnt" && json["final"]["target"] == "/srv", "{json}");
    Ok(())
}

fn the_host_refuses_what_a_mutator_made_of_the_request() -> Result<()> {
    let text = "[[policy]]\nname = \"mover\"\nplugin = \"misbehaving-guest.wasm\"\nrewrites = [\"target\"]\n\
                settings = { rules = [{ act = \"change-target-to-proc\" }] }\n";
    let directory = policies(text, &["misbehaving-guest"])?;
    let (status, json, _) = check(directory.path(), &tmpfs("/mnt", &[]))?;
    let by = &json["denied_by"];
    ensure!(status == 4 && by["policy"] == "mover" && by["code"] == "host-refused", "{json}");
    ensure!(by["reason"].as_str().is_some_and(|reason| reason.contains("/proc")), "{json}");
    Ok(())
}

/// One plugin twice, granted WASI and not: both judge, and either one's loop ends in time.
fn a_deadline_ends_a_loop_with_wasi_and_without() -> Result<()> {
    let policy = |name: &str, grants: &str, target: &str| {
        format!(
            "[[policy]]\nname = {name:?}\nplugin = \"misbehaving-guest.wasm\"\ngrants = [{grants}]\n\
             limits = {{ fuel = 1_000_000_000_000, deadline = \"50ms\" }}\n\
             settings = {{ rules = [{{ act = \"loop\", target = {target:?} }}] }}\n"
        )
    };
    let text = policy("closed", "", "/mnt/closed") + &policy("granted", "\"wasi\"", "/mnt/granted");
    let directory = policies(&text, &["misbehaving-guest"])?;
    let (status, json, stderr) = check(directory.path(), &tmpfs("/mnt", &[]))?;
    ensure!(status == 0, "{json}\n{stderr}");
    // And in a gate that outlives what made it, as `fuzz` and library users have it.
    let gate = Gate::new(PolicyDirectory::open(directory.path(), &Cache::none())?, &Cache::none())?;
    std::thread::sleep(Duration::from_millis(50));
    for name in ["closed", "granted"] {
        let case = Case {
            request: serde_json::from_value(tmpfs(&format!("/mnt/{name}"), &[])["request"].clone())?,
            requester: Requester::default(),
            resolution: Resolution::Recorded { source: None, target: None, option_paths: Vec::new() },
            snapshot: Arc::new(Snapshot::of(MountTable::parse(Vec::new())?)),
            locks: None,
        };
        let decision = gate.chain().decide(&case, false)?;
        let Ruling::Fail { policy, failure } = decision.ruling else { bail!("{name} wasn't stopped") };
        ensure!(policy == name && failure.kind == FailureKind::Deadline, "{policy}: {failure}");
    }
    for name in ["closed", "granted"] {
        let (status, json, stderr) = check(directory.path(), &tmpfs(&format!("/mnt/{name}"), &[]))?;
        let by = &json["denied_by"];
        ensure!(status == 4 && by["policy"] == name && by["code"] == "deadline", "{json}\n{stderr}");
    }
    Ok(())
}

fn a_flood_of_log_lines_is_cut() -> Result<()> {
    let (status, json, stderr) = judged("flood-the-log", "enforce")?;
    let lines = stderr.lines().filter(|line| line.contains("suspect: line ")).count();
    ensure!(status == 0 && lines == 64, "{lines} lines\n{json}\n{stderr}");
    ensure!(stderr.contains("suspect: 936 more lines were left out"), "{stderr}");
    Ok(())
}

fn a_failure_in_monitor_mode_denies() -> Result<()> {
    let (status, json, _) = judged("trap", "monitor")?;
    ensure!(status == 4, "{json}");
    Ok(())
}

fn a_denial_in_monitor_mode_is_recorded() -> Result<()> {
    let (status, json, _) = judged("deny", "monitor")?;
    ensure!(status == 0 && json["trace"][0]["verdict"] == "deny" && json["trace"][0]["monitor"] == true, "{json}");
    let (status, json, _) = judged("deny", "enforce")?;
    ensure!(status == 3 && json["denied_by"]["code"] == "told-to", "{json}");
    Ok(())
}

fn a_bomb_leaves_the_process_within_64_mb() -> Result<()> {
    let directory = directory("take-memory", "enforce")?;
    let cache = private_folder()?;
    let request = cache.path().join("request.json");
    fs::write(&request, tmpfs("/mnt", &[]).to_string())?;
    let run = |mut command: Command| -> Result<()> {
        command.arg("check").arg("--policies").arg(directory.path()).arg("--request").arg(&request);
        let output = command.env("MOUNTGATE_CACHE", cache.path()).output()?;
        ensure!(status(&output) == 4, "{}", text_of(&output));
        Ok(())
    };
    // Compiling takes more; what is measured is a gate whose plugins are compiled.
    run(mountgate(&[]))?;
    let peak = cache.path().join("peak");
    let mut measured = Command::new("/usr/bin/python3");
    measured.args(["-c", MEASURE]).arg(&peak).arg(program());
    run(measured)?;
    let kilobytes: u64 = fs::read_to_string(peak)?.trim().parse()?;
    ensure!(kilobytes <= 64 << 10, "the process took {kilobytes} kB");
    Ok(())
}

/// Runs a program and writes the most memory that it held, in kB, to a file.
const MEASURE: &str = "
import resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)";

/// A component of one core module with so many functions, each of so many loops within each other.
fn nested(functions: usize, loops: usize) -> Vec<u8> {
    let number = |mut n: usize| {
        let mut bytes = Vec::new();
        while n >= 0x80 {
            bytes.push((n & 0x7f | 0x80).try_into().unwrap_or(0));
            n >>= 7;
        }
        bytes.push(n.try_into().unwrap_or(0));
        bytes
    };
    let section = |id: u8, content: Vec<u8>| [vec![id], number(content.len()), content].concat();
    let body = [vec![0], [0x03, 0x40].repeat(loops), vec![0x0b; loops + 1]].concat();
    let code = [number(body.len()), body].concat().repeat(functions);
    let module = [
        b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0".to_vec(),
        section(3, [number(functions), vec![0; functions]].concat()),
        section(10, [number(functions), code].concat()),
    ];
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, module.concat())].concat()
}

/// Has the program compile a plugin in a directory, with a limit of the shell's. Returns the status and the output.
fn compiled_with(limit: &str, plugin: &[u8]) -> Result<(i32, String)> {
    let text = "[[policy]]\nname = \"large\"\nplugin = \"large.wasm\"\n";
    let directory = unpinned(text, &[])?;
    fs::write(directory.path().join("large.wasm"), plugin)?;
    let script = format!("ulimit {limit}; \"$0\" policy lock \"$1\" && exec \"$0\" policy validate \"$1\"");
    let output = Command::new("sh")
        .args(["-c", &script])
        .args([program(), directory.path()])
        .env("MOUNTGATE_CACHE", "")
        .output()?;
    Ok((status(&output), text_of(&output)))
}

fn a_plugin_that_takes_too_long_to_compile_is_refused() -> Result<()> {
    // A plugin with one module more than it needs.
    let component = nested(1000, 120);
    let plugin = [&fs::read(plugin("path-guard"))?, component.get(8..).unwrap_or_default()].concat();
    let (status, text) = compiled_with("-t 1", &plugin)?;
    ensure!(status == 4 && text.contains("large") && text.contains("s of CPU time"), "{text}");
    Ok(())
}

/// The policies of a request that meets a plugin for the first time are compiled in its own time.
fn a_request_that_has_to_compile_too_long_says_so() -> Result<()> {
    let text = "[host]\ntimeout = \"1s\"\n[[policy]]\nname = \"large\"\nplugin = \"large.wasm\"\n";
    let directory = unpinned(text, &[])?;
    let component = nested(1000, 120);
    let plugin = [&fs::read(plugin("path-guard"))?, component.get(8..).unwrap_or_default()].concat();
    fs::write(directory.path().join("large.wasm"), plugin)?;
    mountgate(&["policy", "lock"]).arg(directory.path()).output()?;
    let mut mount = mountgate(&["--sandbox", "mount", "-t", "tmpfs", "tmpfs", "/mnt", "--policies"]);
    let output = mount.arg(directory.path()).output()?;
    let text = text_of(&output);
    ensure!(
        status(&output) == 1 && text.contains("weren't compiled within 1s") && text.contains("policy compile"),
        "{text}"
    );
    Ok(())
}

/// The compiler's process alone: the program itself needs address space for its plugins.
fn a_plugin_that_takes_too_much_memory_to_compile_is_refused() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("large.wasm");
    fs::write(&file, nested(1, 4000))?;
    let compile = |limit: &str| {
        let script = format!("ulimit -v {limit}; exec -a mountgate-compiler \"$0\" < \"$1\" 2>/dev/null");
        Command::new("bash").args(["-c", &script]).args([program(), &file]).output()
    };
    let output = compile("120000")?;
    ensure!(output.status.signal() == Some(6) && output.stdout.is_empty(), "{}", output.status);
    fs::write(&file, nested(1, 10))?;
    ensure!(compile("200000")?.status.success());
    Ok(())
}
