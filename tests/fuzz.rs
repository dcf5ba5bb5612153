//! `fuzz` finds what a misbehaving plugin does, and nothing in the shipped policies.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use tempfile::TempDir;

use crate::support::{folder, mountgate, mountgate_by_env, policies, root, status, text_of, unpinned};

tests! {
    plain every_misdeed_is_found_shrunk_and_replayed,
    plain what_depends_on_a_name_or_takes_ever_longer_is_found,
    plain the_same_seed_finds_the_same,
    plain the_shipped_policies_have_no_findings,
    plain a_fault_behind_a_denial_is_found,
    plain a_label_of_eight_bytes_is_found_by_what_it_is_compared_with,
    plain a_search_that_is_interrupted_keeps_what_it_found,
    plain a_finding_is_a_case_and_its_place_is_reported,
    plain what_is_meant_is_left_out_with_a_reason,
    plain a_corpus_is_kept_merged_and_begun_with,
    plain an_engine_runs_the_target_with_the_flags_of_libfuzzer,
    plain searches_side_by_side_share_what_they_find,
    plain searches_side_by_side_end_with_the_first_process,
    plain searches_side_by_side_are_told_to_end_by_the_first_process,
    plain each_policy_has_folders_of_its_own,
    plain the_job_of_the_documentation_runs,
    plain a_property_that_does_not_hold_is_found,
    plain a_request_that_is_widened_is_found,
    plain what_an_instance_was_asked_before_makes_no_finding,
    plain thousands_of_places_fail_no_shipped_policy,
    plain a_label_of_the_command_line_is_one_of_every_request,
    plain settings_that_are_accepted_and_cannot_be_used_are_found,
}

const SUSPECT: &str = "[[policy]]
name = \"suspect\"
plugin = \"misbehaving-guest.wasm\"
rewrites = [\"options\"]
[policy.settings]
rules = [
  { target = \"/srv/trap\", act = \"trap\" },
  { option = \"spin\", act = \"loop\" },
  { option = \"nosuid\", target = \"/mnt\", act = \"drop-nosuid\" },
  { target = \"/opt\", act = \"two-verdicts\" },
  { target = \"/var/unsettled\", act = \"never-settle\" },
  { option = \"noexec\", target = \"/home\", act = \"deny\" },
]
";

fn every_misdeed_is_found_shrunk_and_replayed() -> Result<()> {
    let directory = policies(SUSPECT, &["misbehaving-guest"])?;
    let out = folder()?;
    let report = format!("junit={}", out.path().join("report.xml").display());
    let mut fuzz = mountgate(&["fuzz", "--json", "--runs", "20000", "--seed", "3", "--report", &report, "--policies"]);
    let output = fuzz.arg(directory.path()).arg("--output").arg(out.path()).output()?;
    ensure!(status(&output) == 5, "{}", text_of(&output));
    let json: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(json["changed"] == 0, "an instrumented plugin has another verdict: {json}");
    let findings = json["findings"].as_array().context("no findings")?;
    for code in ["trap", "fuel", "weakened", "two-verdicts", "not-converged", "restriction-denied"] {
        let finding = findings.iter().find(|finding| finding["code"] == code).with_context(|| format!("no {code}"))?;
        let options = finding["request"]["options"].as_array().context("no options")?;
        ensure!(options.len() <= 3, "{code}: {finding}");
        let file = finding["file"].as_str().context("no file")?;
        let replay = |file: &str| -> Result<Value> {
            let mut check = mountgate(&["check", "--json", "--request", file, "--policies"]);
            Ok(serde_json::from_slice(&check.arg(directory.path()).output()?.stdout)?)
        };
        let replayed = replay(file)?;
        if ["two-verdicts", "restriction-denied"].contains(&code) {
            let again = replay(&file.replace("request.json", "again.json"))?;
            ensure!(replayed["verdict"] != again["verdict"], "{replayed}\n{again}");
        } else {
            ensure!(replayed["denied_by"]["code"] == code, "{code}: {replayed}");
        }
    }
    ensure!(fs::read_to_string(out.path().join("report.xml"))?.contains("<failure"));
    Ok(())
}

/// Rules that judge what is written, and rules that take more and more time.
const CARELESS: &str = "
[[policy]]
name = \"names\"
plugin = \"rules.wasm\"
[[policy.settings.rules]]
match = \"request.target.startsWith('/etc')\"
deny = { code = \"etc\", message = \"/etc stays what it is\" }

[[policy]]
name = \"slow\"
plugin = \"rules.wasm\"
limits = { fuel = 200_000_000, deadline = \"10s\" }
[[policy.settings.rules]]
match = \"request.options.exists(one, request.options.exists(other, one.name == other.name && one.value != other.value))\"
deny = { code = \"two-values\", message = \"an option has two values\" }
";

fn what_depends_on_a_name_or_takes_ever_longer_is_found() -> Result<()> {
    let directory = policies(CARELESS, &["rules"])?;
    let out = folder()?;
    let mut fuzz = mountgate(&["fuzz", "--json", "--runs", "3000", "--policies"]);
    let output = fuzz.arg(directory.path()).arg("--output").arg(out.path()).output()?;
    let json: Value = serde_json::from_slice(&output.stdout)?;
    let findings = json["findings"].as_array().context("no findings")?;
    for (policy, code) in [("names", "two-names"), ("slow", "fuel-grows")] {
        let is_it = |finding: &&Value| finding["code"] == code && finding["policy"] == policy;
        let finding = findings.iter().find(is_it).with_context(|| format!("no {code}: {json}"))?;
        let again = finding["file"].as_str().context("no file")?.replace("request.json", "again.json");
        let mut check = mountgate(&["check", "--json", "--only", policy, "--request", &again, "--policies"]);
        let replayed: Value = serde_json::from_slice(&check.arg(directory.path()).output()?.stdout)?;
        ensure!(replayed["verdict"] == "allow", "{code}: {replayed}");
    }
    ensure!(findings.len() == 2, "{json}");
    Ok(())
}

fn the_same_seed_finds_the_same() -> Result<()> {
    let directory = policies(SUSPECT, &["misbehaving-guest"])?;
    let once = || -> Result<Value> {
        let out = folder()?;
        let mut fuzz = mountgate(&["fuzz", "--json", "--runs", "3000", "--seed", "7", "--policies"]);
        let output = fuzz.arg(directory.path()).arg("--output").arg(out.path()).output()?;
        let mut json: Value = serde_json::from_slice(&output.stdout)?;
        for finding in json["findings"].as_array_mut().context("no findings")? {
            finding["file"] = Value::Null;
        }
        Ok(serde_json::json!([json["digest"], json["findings"]]))
    };
    let (one, other) = (once()?, once()?);
    ensure!(one == other && one[0].as_str().is_some_and(|digest| digest.len() == 16), "{one}\n{other}");
    Ok(())
}

fn a_fault_behind_a_denial_is_found() -> Result<()> {
    let text = format!(
        "[[policy]]\nname = \"wall\"\nplugin = \"misbehaving-guest.wasm\"\nsettings = {{ rules = [{{ act = \"deny\" }}] }}\n{SUSPECT}"
    );
    let directory = policies(&text, &["misbehaving-guest"])?;
    let out = folder()?;
    let mut fuzz = mountgate(&["fuzz", "--json", "--runs", "20000", "--policies"]);
    let output = fuzz.arg(directory.path()).arg("--output").arg(out.path()).output()?;
    let json: Value = serde_json::from_slice(&output.stdout)?;
    let findings = json["findings"].as_array().context("no findings")?;
    for code in ["trap", "fuel", "two-verdicts"] {
        let finding = findings.iter().find(|finding| finding["code"] == code).with_context(|| format!("no {code}"))?;
        ensure!(finding["alone"] == true && finding["policy"] == "suspect", "{finding}");
        if code == "trap" {
            // What is printed shows it.
            let file = finding["file"].as_str().context("no file")?;
            let mut check = mountgate(&["check", "--json", "--only", "suspect", "--request", file, "--policies"]);
            let checked: Value = serde_json::from_slice(&check.arg(directory.path()).output()?.stdout)?;
            ensure!(checked["denied_by"]["code"] == "trap", "{checked}");
        }
    }
    let reached = json["reached"].as_array().context("nothing is said of what was reached")?;
    ensure!(reached.iter().any(|policy| policy["policy"] == "suspect" && policy["in_chain"] == false), "{json}");
    Ok(())
}

fn a_label_of_eight_bytes_is_found_by_what_it_is_compared_with() -> Result<()> {
    let text = "[[policy]]\nname = \"planted\"\nplugin = \"planted-bugs.wasm\"\nrewrites = [\"options\"]\nsettings = { bug = \"label-of-8-bytes\" }\n";
    let directory = policies(text, &["planted-bugs"])?;
    let found = |guide: &str| -> Result<bool> {
        let out = folder()?;
        let mut fuzz = mountgate(&["fuzz", "--first", "--runs", "30000", "--guide", guide, "--policies"]);
        let output = fuzz.arg(directory.path()).arg("--output").arg(out.path()).output()?;
        ensure!([0, 5].contains(&status(&output)), "{}", text_of(&output));
        Ok(status(&output) == 5)
    };
    ensure!(found("comparisons")? && !found("blind")?);
    Ok(())
}

fn a_search_that_is_interrupted_keeps_what_it_found() -> Result<()> {
    let directory = policies(SUSPECT, &["misbehaving-guest"])?;
    for signal in ["INT", "KILL"] {
        let out = folder()?;
        // A shell may have had the signal ignored.
        let mut fuzz = mountgate_by_env("--default-signal=INT", &["fuzz", "--json", "--max-time", "10m", "--policies"]);
        let fuzz = fuzz.arg(directory.path()).arg("--output").arg(out.path()).stdout(Stdio::piped());
        let fuzz = fuzz.stderr(Stdio::null()).spawn()?;
        let written = || -> Result<usize> { Ok(fs::read_dir(out.path())?.count()) };
        while written()? == 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
        let pid = fuzz.id().to_string();
        ensure!(Command::new("kill").args([&format!("-{signal}"), &pid]).status()?.success());
        let output = fuzz.wait_with_output()?;
        ensure!(written()? > 0);
        if signal == "INT" {
            let json: Value = serde_json::from_slice(&output.stdout)?;
            ensure!(status(&output) == 5 && json["findings"][0]["file"].is_string(), "{json}");
        }
    }
    Ok(())
}

fn the_shipped_policies_have_no_findings() -> Result<()> {
    for name in ["baseline", "strict"] {
        let out = folder()?;
        let mut fuzz = mountgate(&["fuzz", "--runs", "50000", "--output"]);
        let output = fuzz.arg(out.path()).arg("--policies").arg(root().join("policies").join(name)).output()?;
        ensure!(output.status.success(), "{}", text_of(&output));
    }
    Ok(())
}

/// Fuzzes the suspect with these arguments. Returns what it prints, and the folder that findings are in.
fn fuzz_suspect(arguments: &[&str]) -> Result<(Value, TempDir)> {
    let (directory, out) = (policies(SUSPECT, &["misbehaving-guest"])?, folder()?);
    let mut fuzz = mountgate(&["fuzz", "--json", "--policies"]);
    let output = fuzz.arg(directory.path()).arg("--output").arg(out.path()).args(arguments).output()?;
    ensure!([0, 5].contains(&status(&output)), "{}", text_of(&output));
    Ok((serde_json::from_slice(&output.stdout)?, out))
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn a_finding_is_a_case_and_its_place_is_reported() -> Result<()> {
    let reports = folder()?;
    let report = |form: &str| format!("{form}={}", reports.path().join(form).display());
    let all = [report("sarif"), report("json"), report("junit")].join(",");
    let (json, out) = fuzz_suspect(&["--runs", "20000", "--report", &all])?;
    ensure!(json["findings"].as_array().is_some_and(|list| list.len() > 4), "{json}");
    let sarif: Value = serde_json::from_slice(&fs::read(reports.path().join("sarif"))?)?;
    let result = &sarif["runs"][0]["results"][0];
    let place = &result["locations"][0]["physicalLocation"];
    ensure!(place["region"]["startLine"] == 2, "{place}");
    ensure!(place["artifactLocation"]["uri"].as_str().is_some_and(|uri| uri.ends_with("/policies.toml")), "{place}");
    let written: Value = serde_json::from_slice(&fs::read(reports.path().join("json"))?)?;
    ensure!(written["findings"] == json["findings"]);
    // Each is a case that passes, because it expects what happens now.
    let directory = policies(SUSPECT, &["misbehaving-guest"])?;
    fs::create_dir(directory.path().join("cases"))?;
    for finding in names(out.path())? {
        let folder = out.path().join(&finding);
        // A case can't say which process asks, on which this verdict depends.
        if finding.contains("two-verdicts") || finding.contains("settings-unusable") {
            continue;
        }
        ensure!(
            names(&folder)?.len() >= 4 && fs::read_to_string(folder.join("README.md"))?.contains("mountgate check")
        );
        fs::copy(folder.join("case.toml"), directory.path().join("cases").join(format!("{finding}.toml")))?;
    }
    let output = mountgate(&["policy", "test"]).arg(directory.path()).output()?;
    ensure!(status(&output) == 0, "{}", text_of(&output));
    Ok(())
}

fn what_is_meant_is_left_out_with_a_reason() -> Result<()> {
    let with = |without: &str| -> Result<Output> {
        let text = SUSPECT.replace("rewrites", &format!("fuzz-without = {without}\nrewrites"));
        let is_sound = !without.contains("\" \"");
        let directory = if is_sound { policies } else { unpinned }(&text, &["misbehaving-guest"])?;
        let out = folder()?;
        let mut fuzz = mountgate(&["fuzz", "--json", "--runs", "20000", "--policies"]);
        Ok(fuzz.arg(directory.path()).arg("--output").arg(out.path()).output()?)
    };
    let output = with("{ trap = \"it traps on purpose\" }")?;
    let text = text_of(&output);
    ensure!(status(&output) == 5 && text.contains("\"fuel\"") && !text.contains("\"code\":\"trap\""), "{text}");
    for (without, said) in [("{ trap = \" \" }", "doesn't say why"), ("{ traps = \"x\" }", "no code of a finding")] {
        let output = with(without)?;
        ensure!([2, 4].contains(&status(&output)) && text_of(&output).contains(said), "{}", text_of(&output));
    }
    Ok(())
}

fn a_corpus_is_kept_merged_and_begun_with() -> Result<()> {
    let corpora = folder()?;
    let at = |name: &str| corpora.path().join(name).display().to_string();
    let (json, _) = fuzz_suspect(&["--runs", "4000", "--corpus", &at("all")])?;
    ensure!(!names(&corpora.path().join("all/settings"))?.is_empty(), "no settings are kept");
    let all: Vec<String> = names(&corpora.path().join("all"))?.into_iter().filter(|name| name != "settings").collect();
    ensure!(all.len() > 10 && json["corpus"].as_u64().is_some_and(|count| count >= all.len() as u64), "{all:?}");
    for name in &all {
        let text = fs::read(corpora.path().join("all").join(name))?;
        let sum = Command::new("sha1sum").arg(corpora.path().join("all").join(name)).output()?;
        ensure!(String::from_utf8_lossy(&sum.stdout).starts_with(name.as_str()) && text.ends_with(b"}\n"), "{name}");
    }
    // A file of it is a request file.
    let directory = policies(SUSPECT, &["misbehaving-guest"])?;
    let mut check = mountgate(&["check", "--json", "--policies"]);
    let output = check.arg(directory.path()).arg("--request").arg(format!("{}/{}", at("all"), all[0])).output()?;
    ensure!([0, 3, 4].contains(&status(&output)), "{}", text_of(&output));
    // A smaller one reaches the same, and a second merge adds nothing.
    let merge = || fuzz_suspect(&["--", "-merge=1", &at("few"), &at("all")]);
    let merged = merge()?.0;
    ensure!(merged["added_settings"].as_u64() > Some(0), "{merged}");
    let merged = merged["added"].as_u64().context("nothing is said of a merge")?;
    ensure!(merged > 0 && merged <= all.len() as u64, "{merged} of {}", all.len());
    // One more is the folder of settings.
    let again = merge()?.0;
    ensure!(again["added"] == 0 && again["added_settings"] == 0, "{again}");
    ensure!(names(&corpora.path().join("few"))?.len() as u64 == merged + 1);
    // A search that begins with it reaches no less with no more than it.
    let (begun, _) = fuzz_suspect(&["--runs", &format!("{}", merged * 2), "--corpus", &at("few")])?;
    let edges = |json: &Value| json["reached"][0]["edges"].as_u64();
    ensure!(edges(&begun) >= edges(&json), "{begun}\n{json}");
    // What isn't a request is told, and no reason to end.
    fs::write(corpora.path().join("few/garbage"), "x")?;
    let (json, _) = fuzz_suspect(&["--runs", "10", "--corpus", &at("few")])?;
    ensure!(json["runs"] == 10);
    Ok(())
}

fn an_engine_runs_the_target_with_the_flags_of_libfuzzer() -> Result<()> {
    let (directory, out) = (policies(SUSPECT, &["misbehaving-guest"])?, folder()?);
    let named = folder()?;
    let named = named.path().join("suspect");
    std::os::unix::fs::symlink(directory.path(), &named)?;
    fs::rename(directory.path(), named.with_file_name("real"))?;
    let named = named.with_file_name("real");
    let output = mountgate(&["fuzz-target"]).arg(&named).arg(out.path()).output()?;
    ensure!(status(&output) == 0 && text_of(&output).contains("real_fuzzer"), "{}", text_of(&output));
    ensure!(names(out.path())? == ["mountgate", "real_fuzzer", "real_policies"]);
    let work = folder()?;
    let target = |arguments: &[&str]| -> Result<Output> {
        let mut target = Command::new(out.path().join("real_fuzzer"));
        target.args(arguments).current_dir(work.path()).env("TMPDIR", work.path());
        Ok(target.env("MOUNTGATE_CACHE", crate::support::cache()).output()?)
    };
    let found =
        target(&["-runs=20000", "-seed=3", "-rss_limit_mb=2560", "-timeout=25", "-artifact_prefix=art-", "corpus"])?;
    let text = text_of(&found);
    ensure!(status(&found) == 5 && text.contains("ERROR: libFuzzer: suspect"), "{text}");
    let unit = text.lines().find_map(|line| line.strip_prefix("Test unit written to ")).context("no unit")?;
    ensure!(unit.starts_with("art-crash-") && work.path().join("corpus").is_dir(), "{unit}");
    // It's still there, and can be made smaller.
    ensure!(status(&target(&[unit])?) == 5);
    let output = target(&["-minimize_crash=1", "-exact_artifact_path=small", unit])?;
    ensure!(status(&output) == 5 && status(&target(&["small"])?) == 5, "{}", text_of(&output));
    fs::write(
        work.path().join("fine"),
        "{\"request\": {\"operation\": \"mount\", \"target\": \"/x\", \"fstype\": \"tmpfs\"}}",
    )?;
    ensure!(status(&target(&["fine"])?) == 0 && status(&target(&["-runs=x"])?) == 2);
    Ok(())
}

fn searches_side_by_side_share_what_they_find() -> Result<()> {
    let corpora = folder()?;
    let corpus = corpora.path().join("shared").display().to_string();
    let (json, out) = fuzz_suspect(&["--runs", "8000", "--jobs", "2", "--corpus", &corpus])?;
    ensure!(json["runs"] == 16000 && json["changed"] == 0, "{json}");
    let findings = json["findings"].as_array().context("no findings")?;
    ensure!(findings.iter().filter(|finding| finding["code"] == "trap").count() == 1, "{json}");
    // One folder for each, and none that a search had for itself.
    ensure!(
        names(out.path())?.len() == findings.len() && names(Path::new(&corpus))?.len() > 10,
        "{:?}",
        names(out.path())?
    );
    ensure!(findings.iter().any(|finding| finding["code"] == "settings-unusable"), "{json}");
    Ok(())
}

fn searches_side_by_side_end_with_the_first_process() -> Result<()> {
    let (directory, out) = (policies(SUSPECT, &["misbehaving-guest"])?, folder()?);
    let place = out.path().display().to_string();
    // As in the background of a shell.
    let mut fuzz = mountgate_by_env("--ignore-signal=INT", &["fuzz", "--max-time", "10m", "--jobs", "2", "--policies"]);
    let fuzz = fuzz.arg(directory.path()).args(["--output", &place]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut fuzz = fuzz.spawn()?;
    // Of those that have found something.
    while !(out.path().join(".job-0").is_dir() && out.path().join(".job-1").is_dir()) {
        ensure!(fuzz.try_wait()?.is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(50));
    }
    fuzz.kill()?;
    fuzz.wait()?;
    let is_search = |entry: &fs::DirEntry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&place))
    };
    let goes_on = || -> Result<bool> { Ok(fs::read_dir("/proc")?.flatten().any(|entry| is_search(&entry))) };
    for turn in 0.. {
        if !goes_on()? {
            break;
        }
        ensure!(turn < 1200, "a search goes on by itself");
        std::thread::sleep(Duration::from_millis(100));
    }
    // The next search loses nothing of it.
    let found = (names(&out.path().join(".job-0"))?, names(&out.path().join(".job-1"))?);
    let mut next = mountgate(&["fuzz", "--runs", "20", "--jobs", "2", "--policies"]);
    let output = next.arg(directory.path()).args(["--output", &place]).output()?;
    ensure!(text_of(&output).contains("an earlier search was killed"), "{}", text_of(&output));
    ensure!(found == (names(&out.path().join("left-0"))?, names(&out.path().join("left-1"))?), "{found:?}");
    Ok(())
}

fn searches_side_by_side_are_told_to_end_by_the_first_process() -> Result<()> {
    // From a service, the first process gets it alone; from timeout(1), all do, and then once more from the first.
    is_gathered_after(rustix::process::kill_process)?;
    is_gathered_after(rustix::process::kill_process_group)
}

fn is_gathered_after(kill: fn(Pid, Signal) -> rustix::io::Result<()>) -> Result<()> {
    let (directory, out) = (policies(SUSPECT, &["misbehaving-guest"])?, folder()?);
    let place = out.path().display().to_string();
    let mut fuzz = mountgate(&["fuzz", "--json", "--max-time", "10m", "--jobs", "2", "--policies"]);
    let fuzz = fuzz.arg(directory.path()).args(["--output", &place]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut fuzz = fuzz.process_group(0).spawn()?;
    while !(out.path().join(".job-0").is_dir() && out.path().join(".job-1").is_dir()) {
        ensure!(fuzz.try_wait()?.is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(50));
    }
    kill(Pid::from_child(&fuzz), Signal::TERM)?;
    let output = fuzz.wait_with_output()?;
    ensure!(output.status.code() == Some(5), "{:?}", output.status);
    let json: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(json["findings"].as_array().is_some_and(|findings| !findings.is_empty()), "{json}");
    ensure!(!out.path().join(".job-0").exists(), "what they found wasn't gathered");
    Ok(())
}

fn each_policy_has_folders_of_its_own() -> Result<()> {
    let policy = |name: &str| {
        format!(
            "[[policy]]\nname = {name:?}\nplugin = \"misbehaving-guest.wasm\"\nsettings = {{ rules = [{{ act = \"trap\" }}] }}\n"
        )
    };
    let directory = policies(&(policy("a.b") + &policy("a:b")), &["misbehaving-guest"])?;
    let out = folder()?;
    for _ in 0..2 {
        let mut fuzz = mountgate(&["fuzz", "--runs", "200", "--policies"]);
        let output = fuzz.arg(directory.path()).arg("--output").arg(out.path()).output()?;
        ensure!(status(&output) == 5, "{}", text_of(&output));
        ensure!(names(out.path())? == ["finding-a%2Eb-trap", "finding-a%3Ab-trap"], "{:?}", names(out.path())?);
    }
    Ok(())
}

/// The commands of the job in docs/fuzzing.md, with another time.
fn the_job_of_the_documentation_runs() -> Result<()> {
    let text = fs::read_to_string(root().join("docs/fuzzing.md"))?;
    let job = text.split("```yaml").nth(1).and_then(|rest| rest.split("```").next()).context("no job")?;
    let mut lines = job.lines();
    let mut script = String::from("set -e\n");
    while let Some(line) = lines.next() {
        if line.trim_start_matches([' ', '-']) != "run: |" {
            continue;
        }
        let commands = lines.clone().take_while(|line| line.starts_with("          "));
        script.extend(commands.map(|command| format!("{}\n", command.trim().replace("10m", "2s"))));
    }
    ensure!(script.lines().count() == 7, "{script}");
    let (work, directory) = (folder()?, policies(SUSPECT, &["misbehaving-guest"])?);
    let types = "[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"tmpfs\"] }\n";
    let sound = policies(types, &["fstype-allow"])?;
    let place = work.path().join("policies");
    let path = format!(
        "{}:{}",
        crate::support::program().parent().context("no folder")?.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    for (policies, ends) in [(sound.path(), 0), (directory.path(), 5)] {
        let _ = fs::remove_file(&place);
        std::os::unix::fs::symlink(policies, &place)?;
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(work.path()).env("PATH", &path);
        let output = shell.env("MOUNTGATE_CACHE", crate::support::cache()).output()?;
        ensure!(status(&output) == ends, "{}", text_of(&output));
    }
    ensure!(work.path().join("fuzz.sarif").exists() && !names(&work.path().join("corpus"))?.is_empty());
    Ok(())
}

/// Searches the misbehaving plugin with the settings that it has: with others it has other acts.
fn searched_as_it_is(directory: &Path, ends: i32) -> Result<Value> {
    let out = folder()?;
    let mut fuzz = mountgate(&["fuzz", "--json", "--runs", "3000", "--policies"]);
    let fuzz = fuzz.arg(directory).arg("--output").arg(out.path());
    let output = fuzz.args(["--without", "settings-unusable", "--without", "prepare-failed"]).output()?;
    ensure!(status(&output) == ends, "{}", text_of(&output));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A policy whose instances can't be asked twice, and one whose memory is used up by twenty requests.
const FORGETFUL: &str = "
[[policy]]
name = \"once\"
plugin = \"misbehaving-guest.wasm\"
rewrites = [\"options\"]
[policy.settings]
rules = [{ act = \"judge-once\" }]

[[policy]]
name = \"keeps\"
plugin = \"misbehaving-guest.wasm\"
rewrites = [\"options\"]
[policy.settings]
rules = [{ act = \"keep-memory\" }]
";

fn what_an_instance_was_asked_before_makes_no_finding() -> Result<()> {
    let directory = policies(FORGETFUL, &["misbehaving-guest"])?;
    let json = searched_as_it_is(directory.path(), 0)?;
    ensure!(json["findings"] == Value::Array(Vec::new()) && json["changed"] == 0, "{json}");
    // They are guided nevertheless.
    let reached = json["reached"].as_array().context("nothing is reached")?;
    ensure!(reached.len() == 2 && reached.iter().all(|policy| policy["edges"].as_u64() > Some(100)), "{json}");
    Ok(())
}

/// Policies that put mounts elsewhere: one above what was asked for, one beside it.
const MOVING: &str = "
[[policy]]
name = \"above\"
plugin = \"misbehaving-guest.wasm\"
rewrites = [\"target\"]
[policy.settings]
rules = [{ target = \"/srv\", act = \"change-target\" }]

[[policy]]
name = \"beside\"
plugin = \"misbehaving-guest.wasm\"
rewrites = [\"target\"]
[policy.settings]
rules = [{ target = \"/home\", act = \"change-target\" }]
";

fn a_request_that_is_widened_is_found() -> Result<()> {
    let directory = policies(MOVING, &["misbehaving-guest"])?;
    let json = searched_as_it_is(directory.path(), 5)?;
    let widened = |finding: &&Value| finding["code"] == "widened";
    let found: Vec<&Value> = json["findings"].as_array().context("no findings")?.iter().filter(widened).collect();
    ensure!(found.iter().filter(|finding| finding["policy"] == "above").count() == 1, "{json}");
    // What is changed beside `/srv` is widened only where a name in `/srv` leads there.
    for finding in found {
        let target = finding["request"]["target"].as_str().context("no target")?;
        let message = finding["message"].as_str().unwrap_or_default();
        ensure!(
            (finding["policy"] == "above" || finding["policy"] == "beside") && target.starts_with("/srv/"),
            "{finding}"
        );
        ensure!(message.ends_with(" to /srv, which covers more than was asked for"), "{finding}");
    }
    Ok(())
}

/// The property of docs/fuzzing.md, and policies of which some keep it.
fn a_property_that_does_not_hold_is_found() -> Result<()> {
    let text = fs::read_to_string(root().join("docs/fuzzing.md"))?;
    let property = text
        .split("```toml\n")
        .filter_map(|rest| rest.split("```").next())
        .find(|block| block.contains("never-below-etc"))
        .context("no property")?;
    let guard =
        "[[policy]]\nname = \"guard\"\nplugin = \"path-guard.wasm\"\nsettings = { deny-targets = [\"/etc\"] }\n";
    let types =
        "[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"tmpfs\", \"ext4\"] }\n";
    for (policies_of, plugin, ends) in [(guard, "path-guard", 0), (types, "fstype-allow", 5)] {
        let (directory, stated, out) = (policies(policies_of, &[plugin])?, policies(property, &["rules"])?, folder()?);
        let inside = directory.path().join("properties");
        ensure!(Command::new("cp").arg("-r").arg(stated.path()).arg(&inside).status()?.success());
        let at = |name: &str| out.path().join(name);
        let reports = format!("junit={},sarif={}", at("junit").display(), at("sarif").display());
        let mut fuzz = mountgate(&["fuzz", "--json", "--runs", "10000", "--report", &reports, "--policies"]);
        let output = fuzz.arg(directory.path()).arg("--output").arg(out.path()).output()?;
        ensure!(status(&output) == ends, "{plugin}: {}", text_of(&output));
        let junit = fs::read_to_string(at("junit"))?;
        ensure!(junit.contains("properties/never-below-etc") && junit.contains("<failure") == (ends == 5), "{junit}");
        let json: Value = serde_json::from_slice(&output.stdout)?;
        if ends == 5 {
            ensure!(fs::read_to_string(at("sarif"))?.contains("/properties/policies.toml"));
            let finding = &json["findings"][0];
            ensure!(finding["code"] == "property-violated" && finding["policy"] == "never-below-etc", "{json}");
            // The policies allow it, and the property denies what they allow.
            let file = finding["file"].as_str().context("no file")?;
            let check = |policies: &Path, file: &str| -> Result<i32> {
                Ok(status(&mountgate(&["check", "--request", file, "--policies"]).arg(policies).output()?))
            };
            ensure!(check(directory.path(), file)? == 0);
            ensure!(check(&inside, &file.replace("request.json", "again.json"))? == 3);
        }
    }
    Ok(())
}

fn settings_that_are_accepted_and_cannot_be_used_are_found() -> Result<()> {
    // Nobody asks for this target, but for fewer words in the rule.
    let text = "[[policy]]\nname = \"suspect\"\nplugin = \"misbehaving-guest.wasm\"\n\
                settings = { rules = [{ target = \"/never/asked/for\", option = \"nor-this\", act = \"trap\" }] }\n";
    let (directory, out) = (policies(text, &["misbehaving-guest"])?, folder()?);
    let mut fuzz = mountgate(&["fuzz", "--json", "--runs", "10000", "--without", "trap", "--policies"]);
    let output = fuzz.arg(directory.path()).arg("--output").arg(out.path()).output()?;
    let json: Value = serde_json::from_slice(&output.stdout)?;
    let finding = &json["findings"][0];
    ensure!(status(&output) == 5 && finding["code"] == "settings-unusable", "{}", text_of(&output));
    let act = finding["settings"]["rules"][0]["act"].as_str().unwrap_or_default();
    ensure!(finding["settings"] == serde_json::json!({ "rules": [{ "act": act }] }), "{finding}");
    let settings = fs::read_to_string(out.path().join("finding-suspect-settings-unusable/settings.toml"))?;
    ensure!(!act.is_empty() && settings.contains(&format!("act = {act:?}")), "{settings}");
    Ok(())
}

/// Being handed so many places takes more than a plugin's own limits, and naming them more than one call to the host.
fn thousands_of_places_fail_no_shipped_policy() -> Result<()> {
    let mounts = (0..6000).map(|n| format!("{} 20 0:{n} / /srv/m{n} rw - tmpfs tmpfs rw\n", n + 21));
    let lines = "20 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n".to_owned() + &mounts.collect::<String>();
    let end = |path: &str| serde_json::json!({ "path": path, "kind": "directory" });
    let target = format!("/mnt/{}", "long".repeat(60));
    let request = serde_json::json!({
        "request": { "operation": { "bind": { "recursive": true } }, "source": "/srv", "target": target },
        "source": end("/srv"), "target": end(&target), "mount_table": { "lines": lines },
    });
    let file = folder()?;
    let file = file.path().join("request.json");
    fs::write(&file, request.to_string())?;
    for policy in ["secure-flags", "protect-system", "known-types", "limits"] {
        let mut check = mountgate(&["check", "--json", "--only", policy, "--policies"]);
        let output = check.arg(root().join("policies/baseline")).arg("--request").arg(&file).output()?;
        ensure!([0, 3].contains(&status(&output)), "{policy}: {}", text_of(&output));
    }
    Ok(())
}

fn a_label_of_the_command_line_is_one_of_every_request() -> Result<()> {
    let text = "[[policy]]\nname = \"rules\"\nplugin = \"rules.wasm\"\n[[policy.settings.rules]]\n\
                match = \"requester.labels.odd_key == 'odd value'\"\ndeny = { code = \"never\", message = \"no\" }\n";
    let directory = policies(text, &["rules"])?;
    let found = |label: &str| -> Result<Value> {
        let out = folder()?;
        let mut fuzz = mountgate(&["fuzz", "--json", "--label", label, "--runs", "300", "--policies"]);
        let output = fuzz.arg(directory.path()).arg("--output").arg(out.path()).output()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    // Without the label the rule can't be evaluated, which is a finding.
    let (with, without) = (found("odd_key=else")?, found("other=else")?);
    let count = |json: &Value| json["findings"].as_array().map(Vec::len);
    ensure!(count(&with) == Some(0) && count(&without) != Some(0), "{with}\n{without}");
    Ok(())
}
