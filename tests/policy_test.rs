//! `mountgate policy test`: the shipped directories, and what is said of cases that differ or are wrong.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{check, mountgate, policies, root, status, text_of, tmpfs};

tests! {
    plain the_shipped_policies_decide_their_cases_as_expected,
    plain a_difference_is_shown_with_its_reason,
    plain what_came_of_the_cases_can_be_blessed,
    plain a_wrong_case_file_is_told_with_its_line,
    plain reports_are_written_for_programs,
    plain a_policy_can_be_for_some_callers_only,
    plain a_case_says_which_paths_of_the_host_are_links,
    plain a_case_says_what_the_paths_in_options_are,
    plain rules_need_no_code_and_wrong_ones_are_found_with_their_place,
}

fn the_shipped_policies_decide_their_cases_as_expected() -> Result<()> {
    let mut cases = 0;
    let mut directories =
        ["baseline", "strict", "public-rules"].map(|name| root().join("policies").join(name)).to_vec();
    let recipes = fs::read_dir(root().join("policies/cookbook"))?.collect::<Result<Vec<_>, _>>()?;
    ensure!(recipes.len() >= 12, "{} recipes", recipes.len());
    directories.extend(recipes.iter().map(fs::DirEntry::path));
    for directory in directories {
        let output = mountgate(&["policy", "test", "--every-code", "--json"]).arg(&directory).output()?;
        ensure!(status(&output) == 0, "{}: {}", directory.display(), text_of(&output));
        let report: Value = serde_json::from_slice(&output.stdout)?;
        cases += report["passed"].as_u64().unwrap_or_default();
    }
    ensure!(cases >= 150, "{cases} cases");
    Ok(())
}

const TYPES: &str =
    "[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"tmpfs\"] }\n";

const CASES: &str = "# Kept.
[[case]]
name = \"a disk\"
run = \"mount -t ext4 /dev/sda1 /mnt\"
expect = { verdict = \"allow\" } # wrong
[[case]]
name = \"memory\"
run = [\"mount\", \"-t\", \"tmpfs\", \"tmpfs\", \"/mnt\"]
expect = { verdict = \"allow\", final = \"mount tmpfs tmpfs on /mnt\" }
";

fn with_cases(cases: &str) -> Result<TempDir> {
    let directory = policies(TYPES, &["fstype-allow"])?;
    fs::create_dir(directory.path().join("cases"))?;
    fs::write(directory.path().join("cases/all.toml"), cases)?;
    Ok(directory)
}

fn a_difference_is_shown_with_its_reason() -> Result<()> {
    let directory = with_cases(CASES)?;
    let output = mountgate(&["policy", "test"]).arg(directory.path()).output()?;
    let text = text_of(&output);
    ensure!(status(&output) == 5, "{text}");
    for line in [
        "differs  cases/all.toml:2  a disk",
        "- allow",
        "+ deny",
        "type ext4 may not be mounted",
        "1 as expected, 1 not",
    ] {
        ensure!(text.contains(line), "{line}: {text}");
    }
    let unreached = with_cases(&CASES.replace("ext4", "tmpfs").replace("/dev/sda1", "none"))?;
    let output = mountgate(&["policy", "test", "--every-code"]).arg(unreached.path()).output()?;
    ensure!(
        status(&output) == 5 && text_of(&output).contains("no case reaches  types: fstype-not-allowed"),
        "{}",
        text_of(&output)
    );
    Ok(())
}

fn what_came_of_the_cases_can_be_blessed() -> Result<()> {
    let directory = with_cases(CASES)?;
    let output = mountgate(&["policy", "test", "--bless"]).arg(directory.path()).output()?;
    ensure!(status(&output) == 0, "{}", text_of(&output));
    let text = fs::read_to_string(directory.path().join("cases/all.toml"))?;
    let expected = "expect = { verdict = \"deny\", policy = \"types\", code = \"fstype-not-allowed\" }";
    ensure!(text.starts_with("# Kept.") && text.contains(expected), "{text}");
    let output = mountgate(&["policy", "test"]).arg(directory.path()).output()?;
    ensure!(status(&output) == 0, "{}", text_of(&output));
    Ok(())
}

fn a_wrong_case_file_is_told_with_its_line() -> Result<()> {
    for (cases, said) in [
        (CASES.replace("expect = { verdict = \"allow\" }", "expct = 1"), "line 5: unknown field `expct`"),
        (CASES.replace("-t ext4", "--no-such-flag"), "line 2: case \"a disk\": unexpected argument"),
        (CASES.replace("# Kept.", "mount-table = \"nonsense\""), "the mount table"),
        (String::new(), "0 cases"),
    ] {
        let directory = with_cases(&cases)?;
        let output = mountgate(&["policy", "test"]).arg(directory.path()).output()?;
        let text = text_of(&output);
        ensure!(text.contains(said) && (status(&output) == 4 || cases.is_empty()), "{said}: {text}");
    }
    let directory = policies(TYPES, &["fstype-allow"])?;
    let output = mountgate(&["policy", "test"]).arg(directory.path()).output()?;
    ensure!(status(&output) == 4 && text_of(&output).contains("cases"), "{}", text_of(&output));
    Ok(())
}

fn reports_are_written_for_programs() -> Result<()> {
    let directory = with_cases(CASES)?;
    let junit = directory.path().join("report.xml");
    let report = format!("junit={}", junit.display());
    let output = mountgate(&["policy", "test", "--json", "--report", &report]).arg(directory.path()).output()?;
    let json: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(json["failed"] == 1 && json["cases"][0]["differences"][0]["field"] == "verdict", "{json}");
    let text = fs::read_to_string(junit)?;
    ensure!(text.contains("failures=\"1\"") && text.contains("deny where allow is expected"), "{text}");
    Ok(())
}

/// A policy without code, as docs/rules.md shows it.
fn rules_need_no_code_and_wrong_ones_are_found_with_their_place() -> Result<()> {
    let book = fs::read_to_string(root().join("docs/rules.md"))?;
    let (_, example) = book.split_once("```toml\n").context("there is no example")?;
    let (example, _) = example.split_once("```").context("it doesn't end")?;
    let directory = policies(example, &["rules"])?;
    fs::create_dir(directory.path().join("cases"))?;
    fs::write(
        directory.path().join("cases/all.toml"),
        "[[case]]\nname = \"elsewhere\"\nrun = \"mount --bind /etc /mnt\"\nexpect = { verdict = \"deny\", code = \"not-data\" }\n\
         [[case]]\nname = \"data\"\nrun = \"mount --bind /var/data/a /mnt\"\nexpect = { verdict = \"allow\", edits = [\"+ro\"] }\n\
         [[case]]\nname = \"a writer\"\nrun = \"mount --bind /var/data/a /mnt\"\nrequester = { labels = { may_write = \"yes\" } }\n\
         expect = { verdict = \"allow\", edits = [] }\n",
    )?;
    let output = mountgate(&["policy", "test", "--every-code"]).arg(directory.path()).output()?;
    ensure!(status(&output) == 0, "{}", text_of(&output));
    for (right, wrong, said) in [
        ("'bind' && !path", "'bind' && !pth", "settings.rules[0].match: 1:33: there is no pth"),
        ("rewrites = [\"options\"]", "", "its plugin changes options, and `rewrites` doesn't name that"),
        ("code = \"not-data\"", "code = \"Not data\"", "settings.rules[0].deny.code"),
    ] {
        let directory = policies(&example.replacen(right, wrong, 1), &["rules"])?;
        let output = mountgate(&["policy", "validate"]).arg(directory.path()).output()?;
        let text = text_of(&output);
        ensure!(status(&output) == 4 && text.contains(said), "{said}: {text}");
    }
    Ok(())
}

/// A configured path is judged by where it leads on the host, also in a case and in a request file.
fn a_case_says_which_paths_of_the_host_are_links() -> Result<()> {
    let text =
        "[[policy]]\nname = \"places\"\nplugin = \"path-guard.wasm\"\nsettings = { deny-targets = [\"/root\"] }\n";
    let directory = policies(text, &["path-guard"])?;
    fs::create_dir(directory.path().join("cases"))?;
    let mut cases = String::new();
    for (paths, verdict) in [
        ("", "allow"),
        ("paths = { \"/root\" = \"/var/roothome\" }", "deny"),
        ("paths = { \"/root\" = \"/elsewhere\" }", "allow"),
        ("paths = { \"/root\" = \"\" }", "fail"),
    ] {
        cases += &format!(
            "[[case]]\nname = \"link\"\nrun = \"mount -t tmpfs none /var/roothome/x\"\n{paths}\nexpect = {{ verdict = \"{verdict}\" }}\n"
        );
    }
    fs::write(directory.path().join("cases/all.toml"), cases)?;
    let output = mountgate(&["policy", "test"]).arg(directory.path()).output()?;
    ensure!(status(&output) == 0, "{}", text_of(&output));
    for (to, expected) in [(json!("/var/roothome"), 3), (json!("/elsewhere"), 0), (json!(null), 4)] {
        let mut request = tmpfs("/var/roothome/x", &[]);
        request["paths"] = json!({ "/root": to });
        let (status, answer, _) = check(directory.path(), &request)?;
        ensure!(status == expected, "{to}: {answer}");
    }
    Ok(())
}

fn a_case_says_what_the_paths_in_options_are() -> Result<()> {
    let text = "[[policy]]\nname = \"layers\"\nplugin = \"rules.wasm\"\n[[policy.settings.rules]]\n\
                match = \"option_paths.exists(o, o.found.kind == 'block-device' && o.found.path == '/srv/b')\"\n\
                deny = { code = \"no-device\", message = \"a device\" }\n";
    let directory = policies(text, &["rules"])?;
    fs::create_dir(directory.path().join("cases"))?;
    let second = "{ option = \"lowerdir\", found = { kind = \"block_device\", device = \"8:1\" } }";
    let mut cases = String::new();
    for (paths, verdict) in [
        (String::new(), "allow"),
        (format!("option-paths = [{second}]"), "allow"),
        (format!("option-paths = [{{ option = \"lowerdir\", found = {{}} }}, {second}]"), "deny"),
    ] {
        cases += &format!(
            "[[case]]\nname = \"layers\"\nrun = \"mount -t overlay -o lowerdir=/srv/a:/srv/b overlay /mnt/x\"\n{paths}\nexpect = {{ verdict = \"{verdict}\" }}\n"
        );
    }
    fs::write(directory.path().join("cases/all.toml"), cases)?;
    let output = mountgate(&["policy", "test"]).arg(directory.path()).output()?;
    ensure!(status(&output) == 0, "{}", text_of(&output));
    let wrong = "[[case]]\nname = \"none\"\nrun = \"mount -t tmpfs none /mnt/x\"\noption-paths = [{ option = \"size\", found = {} }]\nexpect = { verdict = \"allow\" }\n";
    fs::write(directory.path().join("cases/all.toml"), wrong)?;
    let output = mountgate(&["policy", "test"]).arg(directory.path()).output()?;
    ensure!(text_of(&output).contains("size names no path there"), "{}", text_of(&output));
    let mut request = tmpfs("/mnt/x", &[]);
    request["request"]["fstype"] = json!("overlay");
    request["request"]["options"] = json!([{ "name": "lowerdir", "value": "/srv/b" }]);
    for (kind, expected) in [("directory", 0), ("block_device", 3)] {
        request["option_paths"] = json!([{ "option": "lowerdir", "found": { "path": "/srv/b", "kind": kind } }]);
        let (status, answer, _) = check(directory.path(), &request)?;
        ensure!(status == expected, "{kind}: {answer}");
    }
    Ok(())
}

/// Each tenant meets its own policies, by what the kernel knows, and nobody meets none.
fn a_policy_can_be_for_some_callers_only() -> Result<()> {
    let of = |name: &str, whom: &str, types: &str| {
        format!(
            "[[policy]]\nname = \"{name}\"\nplugin = \"fstype-allow.wasm\"\nfor = {whom}\nsettings = {{ allow = [\"{types}\"] }}\n"
        )
    };
    let text = of("a", "{ uid = [1000, 1001] }", "tmpfs") + &of("b", "{ uid = 2000, cgroup = \"/b.slice\" }", "ramfs");
    let directory = policies(&text, &["fstype-allow"])?;
    fs::create_dir(directory.path().join("cases"))?;
    let mut cases = String::new();
    for (who, fstype, expected) in [
        ("uid = 1001", "tmpfs", "verdict = \"allow\""),
        ("uid = 1000", "ramfs", "verdict = \"deny\", policy = \"a\""),
        ("uid = 2000, cgroup = \"/b.slice/x.scope\"", "ramfs", "verdict = \"allow\""),
        ("uid = 2000, cgroup = \"/b.slice/x.scope\"", "tmpfs", "verdict = \"deny\", policy = \"b\""),
        ("uid = 2000, cgroup = \"/c.slice\"", "ramfs", "verdict = \"refuse\", code = \"no-policy\""),
        ("uid = 0, labels = { uid = \"1000\" }", "tmpfs", "verdict = \"refuse\", code = \"no-policy\""),
    ] {
        cases += &format!(
            "[[case]]\nname = \"{fstype}\"\nrun = \"mount -t {fstype} none /mnt\"\nrequester = {{ {who} }}\nexpect = {{ {expected} }}\n"
        );
    }
    fs::write(directory.path().join("cases/all.toml"), cases)?;
    let output = mountgate(&["policy", "test"]).arg(directory.path()).output()?;
    ensure!(status(&output) == 0, "{}", text_of(&output));
    // Who asks on a host is what the kernel says.
    let own = rustix::process::getuid().as_raw();
    let text =
        of("own", &format!("{{ uid = {own}, cgroup = \"/\" }}"), "tmpfs") + &of("other", "{ uid = 12345 }", "nothing");
    let directory = policies(&text, &["fstype-allow"])?;
    let output = mountgate(&["check", "--policies"])
        .arg(directory.path())
        .args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .output()?;
    ensure!(status(&output) == 0, "{}", text_of(&output));
    let nobody = policies(&of("nobody", "{}", "tmpfs"), &["fstype-allow"]);
    ensure!(nobody.is_err_and(|error| error.to_string().contains("`for` nobody in particular")));
    Ok(())
}
