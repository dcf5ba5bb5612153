//! Policy directories that aren't sound: exit 4, with file, line and remedy, before anything is mounted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::support::{
    folder, mountgate, plugin, policies, private_folder, program, root, status, text_of, tmpfs, unpinned,
};

tests! {
    plain an_unknown_key_is_refused,
    plain a_missing_plugin_is_refused,
    plain an_unlisted_plugin_is_refused,
    plain another_digest_is_refused,
    plain a_plugin_without_a_digest_is_refused,
    plain a_core_module_is_refused,
    plain a_truncated_plugin_is_refused,
    plain a_component_for_another_world_is_refused,
    plain a_directory_that_others_can_write_is_refused,
    plain a_directory_below_a_folder_that_others_can_write_is_refused,
    plain a_directory_behind_a_link_that_others_can_replace_is_refused,
    privileged a_directory_of_another_user_is_refused,
    plain a_linked_plugin_is_refused,
    plain a_helper_that_names_no_daemon_is_refused,
    plain a_lock_file_is_written_through_no_link,
    plain every_wrong_setting_is_named,
    plain plugins_are_compiled_when_they_are_installed,
    plain what_an_evaluation_takes_is_measured,
    plain a_directory_without_policies_is_refused,
    plain compiled_code_that_others_can_reach_is_not_used,
    plain what_was_checked_before_is_believed_while_nothing_changes,
    plain the_shipped_directories_are_accepted,
}

const ONE: &str = "[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"tmpfs\"] }\n";

/// The directory is refused with exit 4 by what would mount, and the error holds all of these and a hint.
fn refused(directory: &Path, expected: &[&str]) -> Result<()> {
    let file = folder()?;
    let request = file.path().join("request.json");
    fs::write(&request, tmpfs("/mnt", &[]).to_string())?;
    let output = mountgate(&["check", "--policies"]).arg(directory).arg("--request").arg(&request).output()?;
    let text = text_of(&output);
    ensure!(status(&output) == 4, "{text}");
    for part in expected.iter().chain(&["hint: "]) {
        ensure!(text.contains(part), "{part:?} isn't in\n{text}");
    }
    Ok(())
}

fn an_unknown_key_is_refused() -> Result<()> {
    let directory = unpinned(&format!("{ONE}colour = \"red\"\n"), &["fstype-allow"])?;
    refused(directory.path(), &["policies.toml:", "colour"])
}

fn a_missing_plugin_is_refused() -> Result<()> {
    refused(unpinned(ONE, &[])?.path(), &["policies.toml:3", "fstype-allow.wasm", "No such file"])
}

fn an_unlisted_plugin_is_refused() -> Result<()> {
    refused(unpinned(ONE, &["fstype-allow", "path-guard"])?.path(), &["path-guard.wasm", "no policy uses it"])
}

fn another_digest_is_refused() -> Result<()> {
    let directory = policies(ONE, &["fstype-allow"])?;
    fs::copy(plugin("path-guard"), directory.path().join("fstype-allow.wasm"))?;
    refused(directory.path(), &["policies.lock", "has the digest", "policy lock"])
}

fn a_plugin_without_a_digest_is_refused() -> Result<()> {
    refused(unpinned(ONE, &["fstype-allow"])?.path(), &["policies.toml:2", "no digest", "policy lock"])
}

/// A directory whose only plugin has these bytes.
fn with_plugin(bytes: &[u8]) -> Result<tempfile::TempDir> {
    let directory = unpinned(ONE, &[])?;
    fs::write(directory.path().join("fstype-allow.wasm"), bytes)?;
    let locked = mountgate(&["policy", "lock"]).arg(directory.path()).output()?;
    ensure!(locked.status.success(), "{}", text_of(&locked));
    Ok(directory)
}

fn a_core_module_is_refused() -> Result<()> {
    refused(with_plugin(b"\0asm\x01\0\0\0")?.path(), &["policies.toml:2", "core module", "wasm-tools"])
}

fn a_truncated_plugin_is_refused() -> Result<()> {
    let bytes = fs::read(plugin("fstype-allow"))?;
    refused(with_plugin(&bytes[..bytes.len() / 2])?.path(), &["policies.toml:2", "isn't a sound component"])?;
    refused(with_plugin(b"")?.path(), &["isn't WebAssembly"])
}

fn a_component_for_another_world_is_refused() -> Result<()> {
    refused(with_plugin(b"\0asm\x0d\0\x01\0")?.path(), &["another world"])
}

fn a_directory_that_others_can_write_is_refused() -> Result<()> {
    let directory = policies(ONE, &["fstype-allow"])?;
    let file = directory.path().join("policies.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
    refused(directory.path(), &["others can write", "chmod go-w"])?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))?;
    refused(directory.path(), &["others can write", "chmod go-w"])
}

/// A policy directory in a folder that others can write.
fn below_an_open_folder() -> Result<(tempfile::TempDir, PathBuf)> {
    let open = folder()?;
    let directory = open.path().join("policies");
    fs::rename(policies(ONE, &["fstype-allow"])?.keep(), &directory)?;
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o777))?;
    Ok((open, directory))
}

fn a_directory_below_a_folder_that_others_can_write_is_refused() -> Result<()> {
    let (open, directory) = below_an_open_folder()?;
    refused(&directory, &["others can write", "put another folder in its place", "chmod go-w"])?;
    // Sticky, as /tmp is: others can't rename what isn't theirs.
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o1777))?;
    let output = mountgate(&["policy", "validate"]).arg(&directory).output()?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn a_directory_behind_a_link_that_others_can_replace_is_refused() -> Result<()> {
    let directory = policies(ONE, &["fstype-allow"])?;
    let open = folder()?;
    let link = open.path().join("link");
    std::os::unix::fs::symlink(directory.path(), &link)?;
    let output = mountgate(&["policy", "validate"]).arg(&link).output()?;
    ensure!(output.status.success(), "{}", text_of(&output));
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o777))?;
    refused(&link, &["others can write", "put another folder in its place"])?;
    // Sticky, as /tmp is: everybody can make a link there, and lead it elsewhere.
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o1777))?;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(&link, Some(65533), None)?;
        refused(&link, &["is a link of user 65533", "name the folder itself"])?;
        let output = mountgate(&["policy", "lock"]).arg(&link).output()?;
        ensure!(!output.status.success() && text_of(&output).contains("a link of user"), "{}", text_of(&output));
    }
    Ok(())
}

fn a_directory_of_another_user_is_refused() -> Result<()> {
    let directory = policies(ONE, &["fstype-allow"])?;
    let plugin = directory.path().join("fstype-allow.wasm");
    std::os::unix::fs::chown(&plugin, Some(1000), None)?;
    refused(directory.path(), &["fstype-allow.wasm", "belongs to user 1000", "chown root"])?;
    std::os::unix::fs::chown(&plugin, Some(0), None)?;
    std::os::unix::fs::chown(directory.path(), Some(1000), None)?;
    refused(directory.path(), &["belongs to user 1000", "chown root"])
}

fn a_linked_plugin_is_refused() -> Result<()> {
    let directory = unpinned(ONE, &[])?;
    std::os::unix::fs::symlink(plugin("fstype-allow"), directory.path().join("fstype-allow.wasm"))?;
    refused(directory.path(), &["fstype-allow.wasm", "links aren't followed"])
}

fn a_helper_that_names_no_daemon_is_refused() -> Result<()> {
    for helper in ["fuse", "fuse3", "fuse.", "fuse.*", "fuse.-o", "fuseblk", "fuse=fuse", "nfs=", "a=b=c"] {
        let directory = unpinned(&format!("[host]\nhelpers = [{helper:?}]\n{ONE}"), &["fstype-allow"])?;
        refused(directory.path(), &["policies.toml:2", helper, "fuse.sshfs"])?;
    }
    let directory = policies(
        &format!("[host]\nhelpers = [\"fuse.sshfs\", \"fuse3.x\", \"nfs\", \"efs=nfs4\"]\n{ONE}"),
        &["fstype-allow"],
    )?;
    let output = mountgate(&["policy", "validate"]).arg(directory.path()).output()?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn a_lock_file_is_written_through_no_link() -> Result<()> {
    let directory = unpinned(ONE, &["fstype-allow"])?;
    let other = folder()?;
    let elsewhere = other.path().join("file");
    fs::write(&elsewhere, "kept")?;
    std::os::unix::fs::symlink(&elsewhere, directory.path().join("policies.lock"))?;
    let output = mountgate(&["policy", "lock"]).arg(directory.path()).output()?;
    ensure!(output.status.success(), "{}", text_of(&output));
    let lock = directory.path().join("policies.lock");
    ensure!(fs::read_to_string(&elsewhere)? == "kept" && fs::symlink_metadata(&lock)?.is_file());
    ensure!(fs::metadata(&lock)?.permissions().mode() & 0o777 == 0o644);
    let names: Vec<_> =
        fs::read_dir(directory.path())?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
    ensure!(names.len() == 3, "something is left behind: {names:?}");
    Ok(())
}

fn every_wrong_setting_is_named() -> Result<()> {
    let text = "[[policy]]\nname = \"g\"\nplugin = \"path-guard.wasm\"\n\
                settings = { deny-targets = [\"etc\", 5], colour = 1 }\n";
    refused(policies(text, &["path-guard"])?.path(), &["policies.toml:2", "settings.deny-targets[1]", "colour"])
}

fn plugins_are_compiled_when_they_are_installed() -> Result<()> {
    let directory = policies("[[policy]]\nname = \"g\"\nplugin = \"path-guard.wasm\"\n", &["path-guard"])?;
    let cache = private_folder()?;
    let compile = |folder: &Path| {
        let mut compile = mountgate(&["policy", "compile", "--json"]);
        compile.arg(directory.path()).env("MOUNTGATE_CACHE", folder).output()
    };
    let output = compile(cache.path())?;
    ensure!(status(&output) == 0 && text_of(&output).contains("\"policies\":1"), "{}", text_of(&output));
    ensure!(fs::read_dir(cache.path())?.count() > 0);
    let output = compile(Path::new(""))?;
    ensure!(status(&output) == 2 && text_of(&output).contains("can't be kept"), "{}", text_of(&output));
    // What can't be written isn't ready: here folders lie where the files belong.
    for entry in fs::read_dir(cache.path())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cwasm") {
            fs::remove_file(&path)?;
            fs::create_dir(&path)?;
        }
    }
    let output = compile(cache.path())?;
    ensure!(status(&output) == 2 && text_of(&output).contains("couldn't be kept"), "{}", text_of(&output));
    Ok(())
}

fn what_an_evaluation_takes_is_measured() -> Result<()> {
    let directory = root().join("policies/baseline");
    let output = mountgate(&["plugin", "bench", "--rounds", "2", "--json"]).arg(&directory).output()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let rows = report["policies"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(status(&output) == 0 && rows.len() == 4, "{}", text_of(&output));
    ensure!(rows.iter().all(|row| row["median_fuel"].as_u64().is_some_and(|fuel| fuel > 1000)), "{report}");
    Ok(())
}

fn a_directory_without_policies_is_refused() -> Result<()> {
    refused(unpinned("[host]\n", &[])?.path(), &["policies.toml", "lists no policy"])
}

fn compiled_code_that_others_can_reach_is_not_used() -> Result<()> {
    let directory = policies(ONE, &["fstype-allow"])?;
    let cache = private_folder()?;
    let request = cache.path().join("request.json");
    fs::write(&request, tmpfs("/mnt", &[]).to_string())?;
    let check = || -> Result<String> {
        let mut check = mountgate(&["check", "--policies"]);
        let output =
            check.arg(directory.path()).arg("--request").arg(&request).env("MOUNTGATE_CACHE", cache.path()).output()?;
        ensure!(output.status.success(), "{}", text_of(&output));
        Ok(text_of(&output))
    };
    ensure!(!check()?.contains("WARN"));
    let compiled = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|end| end == "cwasm");
    let entries = fs::read_dir(cache.path())?.collect::<Result<Vec<_>, _>>()?;
    let code = entries.iter().find(|entry| compiled(entry)).map(fs::DirEntry::path);
    let code = anyhow::Context::context(code, "nothing was kept")?;
    // Compiled code of ours that others could have written, in a folder of ours; and a folder that others can enter.
    fs::set_permissions(&code, fs::Permissions::from_mode(0o666))?;
    ensure!(check()?.contains("isn't used: others have access to it"));
    fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o755))?;
    ensure!(check()?.contains("aren't kept in"));
    Ok(())
}

fn what_was_checked_before_is_believed_while_nothing_changes() -> Result<()> {
    let directory = policies(ONE, &["fstype-allow"])?;
    let directory = directory.path();
    let cache = private_folder()?;
    let request = cache.path().join("request.json");
    fs::write(&request, tmpfs("/mnt", &[]).to_string())?;
    let check_with = |program: &Path| -> Result<(i32, String)> {
        let mut check = Command::new(program);
        check.args(["check", "--request"]).arg(&request).arg("--policies").arg(directory);
        let output = check.env("MOUNTGATE_CACHE", cache.path()).output()?;
        Ok((status(&output), text_of(&output)))
    };
    let check = || check_with(program());
    let record = || -> Result<PathBuf> {
        let names = fs::read_dir(cache.path())?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        let is_record =
            |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("record-"));
        anyhow::Context::context(names.iter().find(is_record).cloned(), "there is no record")
    };
    // Only what has settled is believed.
    std::thread::sleep(Duration::from_secs(3));
    // A record that says something else than the directory tells which of the two was read.
    let forge = || -> Result<()> {
        if let Ok(record) = record() {
            fs::remove_file(record)?;
        }
        ensure!(check()?.0 == 0);
        let text = fs::read_to_string(record()?)?;
        let (known, checked) = anyhow::Context::context(text.split_once("\"checked\":"), "nothing was checked")?;
        let forged = checked.replace(r#"\"allow\":[\"tmpfs\"]"#, r#"\"allow\":[\"ext4\"]"#);
        ensure!(forged != checked, "{checked}");
        fs::write(record()?, format!("{known}\"checked\":{forged}"))?;
        Ok(())
    };
    forge()?;
    ensure!(check()?.0 == 3, "what was checked before isn't believed");
    // A record of another text.
    let text = fs::read_to_string(record()?)?;
    fs::write(record()?, text.replace("[[policy]]", "[[policy]] "))?;
    ensure!(check()?.0 == 0);
    // Another program, although it has the same version.
    let other = private_folder()?;
    let copy = other.path().join("mountgate");
    fs::copy(program(), &copy)?;
    ensure!(check_with(&copy)?.0 == 0);
    let config = directory.join("policies.toml");
    // The same text in another file.
    forge()?;
    fs::copy(&config, directory.join("new"))?;
    fs::rename(directory.join("new"), &config)?;
    ensure!(check()?.0 == 0);
    // Another text in the same file.
    std::thread::sleep(Duration::from_secs(3));
    forge()?;
    let text = fs::read_to_string(&config)?;
    fs::write(&config, text.replace("tmpfs", "ramfs"))?;
    ensure!(check()?.1.contains("isn't what was locked"));
    fs::write(&config, text)?;
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    for file in ["policies.toml", "policies.lock"] {
        forge()?;
        mode(&directory.join(file), 0o666)?;
        let (status, text) = check()?;
        ensure!(status == 4 && text.contains("others can write it"), "{text}");
        mode(&directory.join(file), 0o644)?;
        std::thread::sleep(Duration::from_secs(3));
    }
    forge()?;
    fs::write(directory.join("more.wasm"), "")?;
    ensure!(check()?.1.contains("no policy uses it"));
    fs::remove_file(directory.join("more.wasm"))?;
    std::thread::sleep(Duration::from_secs(3));
    forge()?;
    fs::write(directory.join("fstype-allow.wasm"), "other")?;
    ensure!(check()?.1.contains("has the digest"));
    Ok(())
}

fn the_shipped_directories_are_accepted() -> Result<()> {
    for name in ["baseline", "strict"] {
        let output = mountgate(&["policy", "validate"]).arg(root().join("policies").join(name)).output()?;
        ensure!(output.status.success(), "{}", text_of(&output));
    }
    Ok(())
}
