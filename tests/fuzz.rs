//! `fuzz` finds what a misbehaving plugin does, and nothing in the shipped policies.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::support::{folder, mountgate, policies, root, status, text_of};

tests! {
    plain every_misdeed_is_found_shrunk_and_replayed,
    plain the_same_seed_finds_the_same,
    plain the_shipped_policies_have_no_findings,
    plain a_fault_behind_a_denial_is_found,
    plain a_label_of_eight_bytes_is_found_by_what_it_is_compared_with,
    plain a_search_that_is_interrupted_keeps_what_it_found,
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
    let mut fuzz = mountgate(&["fuzz", "--json", "--runs", "20000", "--report", &report, "--policies"]);
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
            let again = replay(&file.replace(".json", "-again.json"))?;
            ensure!(replayed["verdict"] != again["verdict"], "{replayed}\n{again}");
        } else {
            ensure!(replayed["denied_by"]["code"] == code, "{code}: {replayed}");
        }
    }
    ensure!(fs::read_to_string(out.path().join("report.xml"))?.contains("<failure"));
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
        Ok(json["findings"].clone())
    };
    ensure!(once()? == once()?);
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
        let mut fuzz = mountgate(&["fuzz", "--json", "--max-time", "10m", "--policies"]);
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
