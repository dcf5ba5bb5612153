//! `policy diff` shows what a change of a policy directory changes.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::support::{folder, mountgate, policies, root, status, text_of};

tests! {
    plain every_planted_change_is_shown,
    plain equal_directories_have_no_difference,
    plain each_difference_of_the_shipped_directories_is_true,
    plain audited_requests_come_first,
}

/// A policy directory of these policies: name, plugin, more.
fn directory(policies_of: &[(&str, &str, &str)]) -> (String, Vec<String>) {
    let text = policies_of
        .iter()
        .map(|(name, plugin, more)| format!("[[policy]]\nname = \"{name}\"\nplugin = \"{plugin}.wasm\"\n{more}\n"))
        .collect();
    (text, policies_of.iter().map(|(_, plugin, _)| (*plugin).to_owned()).collect())
}

/// Compares two directories. Returns what is printed, and checks that each difference is true.
fn diff(old: &[(&str, &str, &str)], new: &[(&str, &str, &str)], arguments: &[&str]) -> Result<Value> {
    let made = |list: &[(&str, &str, &str)]| {
        let (text, plugins) = directory(list);
        policies(&text, &plugins.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (old, new, out) = (made(old)?, made(new)?, folder()?);
    let mut diff = mountgate(&["policy", "diff", "--json"]);
    let output =
        diff.arg(old.path()).arg(new.path()).arg("--output").arg(out.path().join("made")).args(arguments).output()?;
    ensure!([0, 5].contains(&status(&output)), "{}", text_of(&output));
    let json: Value = serde_json::from_slice(&output.stdout)?;
    let differences = json["differences"].as_array().context("no differences")?;
    ensure!((status(&output) == 5) != differences.is_empty(), "{json}");
    for difference in differences {
        for (side, directory) in [("old", old.path()), ("new", new.path())] {
            let file = difference["file"].as_str().context("no file")?;
            let output = mountgate(&["check", "--json", "--request", file, "--policies"]).arg(directory).output()?;
            let checked: Value = serde_json::from_slice(&output.stdout)?;
            let expected = &difference[side];
            let word = checked["verdict"].as_str().unwrap_or(if checked["error"].is_object() { "refuse" } else { "?" });
            ensure!(expected["verdict"] == word || word == "deny", "{side}: {difference}\n{checked}");
            if expected["verdict"] != "refuse" {
                ensure!(expected["code"] == checked["denied_by"]["code"], "{side}: {difference}\n{checked}");
            }
        }
    }
    Ok(json)
}

/// What is changed, the directories, and the verdicts and codes that must differ.
type Planted = (&'static str, Vec<Policy>, Vec<Policy>, [&'static str; 2]);
type Policy = (&'static str, &'static str, &'static str);

fn planted() -> Vec<Planted> {
    let guard = |settings| ("guard", "path-guard", settings);
    let rules = |settings| ("rules", "rules", settings);
    let limits = |settings| ("limits", "mount-limits", settings);
    vec![
        (
            "a widened prefix",
            vec![guard("settings = { allow-targets = [\"/srv/team/a\"] }")],
            vec![guard("settings = { allow-targets = [\"/srv/team\"] }")],
            ["target-not-allowed", "allow"],
        ),
        (
            "a denied path that is gone",
            vec![guard("settings = { deny-targets = [\"/etc\", \"/opt/secret\"] }")],
            vec![guard("settings = { deny-targets = [\"/etc\"] }")],
            ["target-denied", "allow"],
        ),
        (
            "a flag forgotten",
            vec![(
                "flags",
                "secure-flags",
                "rewrites = [\"options\"]\n[[policy.settings.rules]]\nadd = [\"nosuid\", \"nodev\"]",
            )],
            vec![("flags", "secure-flags", "rewrites = [\"options\"]\n[[policy.settings.rules]]\nadd = [\"nosuid\"]")],
            ["nodev", "allow"],
        ),
        (
            "a type more",
            vec![("types", "fstype-allow", "settings = { allow = [\"tmpfs\"] }")],
            vec![("types", "fstype-allow", "settings = { allow = [\"tmpfs\", \"erofs\"] }")],
            ["fstype-not-allowed", "allow"],
        ),
        (
            "stacking that is allowed",
            vec![limits("settings = { allow-stacking = false }")],
            vec![limits("settings = { allow-stacking = true }")],
            ["target-is-mount-point", "allow"],
        ),
        (
            "a limit that is one higher",
            vec![limits("settings = { below = [{ path = \"/mnt\", max = 3 }] }")],
            vec![limits("settings = { below = [{ path = \"/mnt\", max = 4 }] }")],
            ["too-many-below", "allow"],
        ),
        (
            "a prefix by characters",
            vec![rules(
                "[[policy.settings.rules]]\nmatch = \"path.within(target.path, '/srv/foo')\"\ndeny = { code = \"foo\", message = \"no\" }",
            )],
            vec![rules(
                "[[policy.settings.rules]]\nmatch = \"target.path.startsWith('/srv/foo')\"\ndeny = { code = \"foo\", message = \"no\" }",
            )],
            ["allow", "foo"],
        ),
        (
            "another label",
            vec![rules(
                "[[policy.settings.rules]]\nmatch = \"!('tier' in requester.labels) || requester.labels['tier'] != 'gold'\"\ndeny = { code = \"tier\", message = \"no\" }",
            )],
            vec![rules(
                "[[policy.settings.rules]]\nmatch = \"!('tier' in requester.labels) || requester.labels['tier'] != 'silver'\"\ndeny = { code = \"tier\", message = \"no\" }",
            )],
            ["allow", "tier"],
        ),
        (
            "a policy that is only watched",
            vec![("types", "fstype-allow", "settings = { allow = [\"tmpfs\"] }")],
            vec![("types", "fstype-allow", "mode = \"monitor\"\nsettings = { allow = [\"tmpfs\"] }")],
            ["fstype-not-allowed", "allow"],
        ),
        (
            "an order swapped",
            vec![
                (
                    "first",
                    "rules",
                    "rewrites = [\"options\"]\n[[policy.settings.rules]]\nmatch = \"!request.has_option('ro')\"\nrewrite = { add = [\"noexec\"] }",
                ),
                (
                    "second",
                    "rules",
                    "rewrites = [\"options\"]\n[[policy.settings.rules]]\nmatch = \"!request.has_option('noexec')\"\nrewrite = { add = [\"ro\"] }",
                ),
            ],
            vec![
                (
                    "second",
                    "rules",
                    "rewrites = [\"options\"]\n[[policy.settings.rules]]\nmatch = \"!request.has_option('noexec')\"\nrewrite = { add = [\"ro\"] }",
                ),
                (
                    "first",
                    "rules",
                    "rewrites = [\"options\"]\n[[policy.settings.rules]]\nmatch = \"!request.has_option('ro')\"\nrewrite = { add = [\"noexec\"] }",
                ),
            ],
            ["noexec", "allow"],
        ),
    ]
}

fn every_planted_change_is_shown() -> Result<()> {
    for (what, old, new, signs) in planted() {
        let json = diff(&old, &new, &["--runs", "6000"]).with_context(|| what.to_owned())?;
        let differences = json["differences"].as_array().context("no differences")?;
        let shows = |difference: &&Value| {
            let side = |name: &str| difference[name].to_string();
            side("old").contains(signs[0]) && side("new").contains(signs[1])
        };
        ensure!(differences.iter().any(|difference| shows(&difference)), "{what}: {json}");
    }
    Ok(())
}

fn equal_directories_have_no_difference() -> Result<()> {
    for (what, old, _, _) in planted() {
        let json = diff(&old, &old, &["--runs", "300"]).with_context(|| what.to_owned())?;
        ensure!(json["differences"].as_array().is_some_and(Vec::is_empty), "{what}: {json}");
    }
    let baseline = root().join("policies/baseline");
    let output = mountgate(&["policy", "diff", "--runs", "100"]).arg(&baseline).arg(&baseline).output()?;
    ensure!(
        status(&output) == 0 && text_of(&output).contains("no difference found in 100 runs"),
        "{}",
        text_of(&output)
    );
    Ok(())
}

fn each_difference_of_the_shipped_directories_is_true() -> Result<()> {
    let (out, shipped) = (folder()?, root().join("policies"));
    let mut diff = mountgate(&["policy", "diff", "--json", "--runs", "2000", "--output"]);
    let output = diff.arg(out.path()).arg(shipped.join("baseline")).arg(shipped.join("strict")).output()?;
    let json: Value = serde_json::from_slice(&output.stdout)?;
    let differences = json["differences"].as_array().context("no differences")?;
    ensure!(status(&output) == 5 && !differences.is_empty(), "{json}");
    for difference in differences {
        for (side, directory) in [("old", "baseline"), ("new", "strict")] {
            let file = difference["file"].as_str().context("no file")?;
            let mut check = mountgate(&["check", "--json", "--request", file, "--policies"]);
            let checked: Value = serde_json::from_slice(&check.arg(shipped.join(directory)).output()?.stdout)?;
            let code = if checked["error"].is_object() { &Value::Null } else { &checked["denied_by"]["code"] };
            ensure!(code.is_null() || difference[side]["code"] == *code, "{side}: {difference}\n{checked}");
        }
    }
    Ok(())
}

fn audited_requests_come_first() -> Result<()> {
    let (one, other) = ("settings = { allow = [\"tmpfs\"] }", "settings = { allow = [\"ext4\"] }");
    let old = policies(&directory(&[("types", "fstype-allow", one)]).0, &["fstype-allow"])?;
    let new = policies(&directory(&[("types", "fstype-allow", other)]).0, &["fstype-allow"])?;
    let out = folder()?;
    let audit = out.path().join("audit.jsonl");
    let mut mount = mountgate(&["mount", "--sandbox", "--audit"]);
    mount.arg(&audit).arg("--policies").arg(old.path()).args(["-t", "tmpfs", "tmpfs", "/mnt"]).output()?;
    let mut diff = mountgate(&["policy", "diff", "--json", "--runs", "1", "--replay"]);
    let output = diff.arg(&audit).arg(old.path()).arg(new.path()).arg("--output").arg(out.path()).output()?;
    let json: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(json["replayed"] == 1 && json["flips"][0]["line"] == 1, "{json}");
    ensure!(json["flips"][0]["is"]["code"] == "fstype-not-allowed", "{json}");
    // It's also what the search begins with.
    ensure!(fs::read_dir(out.path())?.count() == 2 && json["differences"][0]["new"]["verdict"] == "deny", "{json}");
    Ok(())
}
