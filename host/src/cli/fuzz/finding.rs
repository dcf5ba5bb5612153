//! A finding as a folder: the request, a case for `mountgate policy test`, and what it means.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::json;

use super::input_file::{canonical, shell_word};
use crate::fuzz::input::Input;
use crate::fuzz::oracles::{EXPLAINED, Oracle};
use crate::fuzz::run::Finding;
use crate::model::ends::{OptionPath, ResolvedPath};
use crate::model::untrusted::for_people;

/// The request, in the folder of a finding.
pub(super) const REQUEST: &str = "request.json";
/// The other request, where two were compared.
const AGAIN: &str = "again.json";
/// The settings, where they aren't those of the policy.
pub(super) const SETTINGS: &str = "settings.toml";

/// Writes a finding, in the place of the one of its name that an earlier search has found. Returns its folder.
pub(super) fn write(folder: &Path, finding: &Finding, number: usize, policies: &Path) -> anyhow::Result<PathBuf> {
    let name = file_name(&finding.symptom.policy);
    let number = if number == 0 { String::new() } else { format!("-{}", number + 1) };
    let name = format!("finding-{name}-{}{number}", finding.symptom.oracle.code());
    let (path, new) = (folder.join(&name), folder.join(format!(".{name}.{:016x}", fastrand::u64(..))));
    let replace = || -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        fs::create_dir(&new)?;
        fs::write(new.join(REQUEST), canonical(&finding.input)?)?;
        if let Some(again) = &finding.again {
            fs::write(new.join(AGAIN), canonical(again)?)?;
        }
        match &finding.settings {
            Some(settings) => {
                fs::write(new.join(SETTINGS), toml::to_string_pretty(&json!({ "policy": { "settings": settings } }))?)?
            }
            None => {
                fs::write(new.join("case.toml"), case(finding)?)?;
                fs::write(new.join("trace.json"), serde_json::to_string_pretty(&finding.trace)? + "\n")?;
            }
        }
        fs::write(new.join("README.md"), explanation(finding, &path, policies))?;
        match renameat_with(CWD, &new, CWD, &path, RenameFlags::EXCHANGE) {
            // The one that was there before.
            Ok(()) => Ok(fs::remove_dir_all(&new)?),
            Err(Errno::NOENT) => Ok(fs::rename(&new, &path)?),
            // A file system that can't exchange two folders in one step, such as NFS.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                if path.exists() {
                    fs::remove_dir_all(&path)?;
                }
                Ok(fs::rename(&new, &path)?)
            }
            Err(error) => Err(error.into()),
        }
    };
    replace()
        .inspect_err(|_| drop(fs::remove_dir_all(&new)))
        .with_context(|| format!("{} can't be written", path.display()))?;
    Ok(path)
}

/// The name of a policy as a part of a file name: another for each policy.
fn file_name(policy: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let part = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    policy.bytes().map(part).collect()
}

/// The command that shows a finding.
pub(super) fn command(finding: &Finding, folder: &Path, policies: &Path) -> String {
    let quoted = |path: &Path| shell_word(&path.to_string_lossy());
    let only = finding.alone.as_ref().map(|policy| format!(" --only {}", shell_word(policy))).unwrap_or_default();
    // How the fuel grows is seen with many.
    let request = if finding.symptom.oracle == Oracle::FuelGrows { AGAIN } else { REQUEST };
    format!("mountgate check --policies {}{only} --request {}", quoted(policies), quoted(&folder.join(request)))
}

fn explanation(finding: &Finding, folder: &Path, policies: &Path) -> String {
    let symptom = &finding.symptom;
    let code = symptom.oracle.code();
    let meaning = EXPLAINED.iter().find(|(known, _)| *known == code).map_or("", |(_, meaning)| meaning);
    if finding.settings.is_some() {
        return format!(
            "# {}: {code}\n\n{}\n\n{meaning}\n\nGive the policy the settings in `{SETTINGS}`. The request in `{REQUEST}`: `{}`\n",
            for_people(&symptom.policy),
            for_people(&symptom.message),
            for_people(&finding.input.request.to_string())
        );
    }
    let mut text = format!(
        "# {}: {code}\n\n{}\n\n{meaning}\n\nThe request: `{}`\n\n    {}\n",
        for_people(&symptom.policy),
        for_people(&symptom.message),
        for_people(&finding.input.request.to_string()),
        command(finding, folder, policies)
    );
    if finding.again.is_some() {
        let what = match symptom.oracle {
            Oracle::PropertyViolated => "what the policies allow: the property denies it",
            Oracle::FuelGrows => "the request with many of them: its trace has the fuel",
            _ => "the other request, which got another verdict",
        };
        let _ = write!(text, "\n`{AGAIN}` is {what}.\n");
    }
    let _ = write!(
        text,
        "\n`case.toml` has the request as a case of `mountgate policy test`. It expects what happens now: write down what should happen, and \
         put it among the cases of the policy directory. `trace.json` says what each policy was asked and answered.\n"
    );
    text
}

/// The request as a case of `mountgate policy test`.
fn case(finding: &Finding) -> anyhow::Result<String> {
    let Input { request, source, target, option_paths, requester, table } = &finding.input;
    let found = |end: &ResolvedPath| {
        let mut found = json!({ "path": end.path, "kind": end.kind });
        if let Some(device) = end.device {
            found["device"] = json!(device.to_string());
        }
        if !end.symlinks.is_empty() {
            found["symlinks"] = json!(end.symlinks);
        }
        found
    };
    let labels: serde_json::Map<_, _> =
        requester.labels.iter().map(|label| (label.key.clone(), json!(label.value))).collect();
    let mut asker = json!({ "uid": requester.uid, "gid": requester.gid });
    if let Some(cgroup) = &requester.cgroup {
        asker["cgroup"] = json!(cgroup);
    }
    if !labels.is_empty() {
        asker["labels"] = labels.into();
    }
    let mut case = json!({
        "name": format!("{}: {}", finding.symptom.policy, finding.symptom.oracle.code()),
        "request": request,
        "requester": asker,
        "target": found(target),
        "expect": { "verdict": finding.verdict },
    });
    if let Some(source) = source {
        case["source"] = found(source);
    }
    if !option_paths.is_empty() {
        let found = |path: &OptionPath| json!({ "option": path.option, "found": found(&path.found) });
        case["option-paths"] = option_paths.iter().map(found).collect::<Vec<_>>().into();
    }
    if !table.text().is_empty() {
        case["mount-table"] = json!(table.text());
    }
    if !table.paths().is_empty() {
        let leads = |(path, to): (&String, &Option<String>)| (path.clone(), json!(to.clone().unwrap_or_default()));
        case["paths"] = table.paths().iter().map(leads).collect::<serde_json::Map<_, _>>().into();
    }
    let file = json!({ "case": [case] });
    Ok(format!("# What happens now. Write down what should happen.\n{}", toml::to_string_pretty(&file)?))
}
