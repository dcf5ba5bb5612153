//! What `policy lock` pins, and who must have signed it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::support::{folder, mountgate, plugin, policies, status, text_of};

tests! {
    plain a_lock_notices_whatever_is_changed,
    plain a_changed_directory_is_locked_again_only_if_that_is_meant,
    plain a_lock_of_another_version_is_told,
    privileged where_keys_are_trusted_only_what_they_signed_is_used,
    privileged a_key_that_others_can_write_is_no_key,
    privileged keys_that_cannot_be_read_are_not_taken_for_none,
}

const TYPES: &str =
    "[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"tmpfs\"] }\n";

fn locked() -> Result<TempDir> {
    policies(TYPES, &["fstype-allow"])
}

fn validate(directory: &Path) -> Result<(i32, String)> {
    let output = mountgate(&["policy", "validate"]).arg(directory).output()?;
    Ok((status(&output), text_of(&output)))
}

fn a_lock_notices_whatever_is_changed() -> Result<()> {
    for (change, said) in [
        (TYPES.replace("tmpfs", "ext4"), "types: its settings"),
        (format!("{TYPES}grants = [\"wasi\"]\n"), "types: grants [] is now [Wasi]"),
        (format!("{TYPES}limits = {{ fuel = 7 }}\n"), "types: fuel 10000000 is now 7"),
        (format!("{TYPES}mode = \"monitor\"\n"), "types: mode Enforce is now Monitor"),
        (format!("[host]\nhelpers = [\"nfs\"]\n{TYPES}"), "[host], the order of the policies"),
        (format!("{TYPES}{}", TYPES.replace("\"types\"", "\"more\"")), "new policy more (fstype-allow.wasm)"),
    ] {
        let directory = locked()?;
        fs::write(directory.path().join("policies.toml"), change)?;
        let (status, text) = validate(directory.path())?;
        ensure!(status == 4 && text.contains("isn't what was locked") && text.contains(said), "{said}: {text}");
    }
    let directory = locked()?;
    fs::copy(plugin("mount-limits"), directory.path().join("fstype-allow.wasm"))?;
    let (status, text) = validate(directory.path())?;
    ensure!(status == 4 && text.contains("has the digest"), "{text}");
    Ok(())
}

fn a_changed_directory_is_locked_again_only_if_that_is_meant() -> Result<()> {
    let directory = locked()?;
    let lock = |arguments: &[&str]| mountgate(&["policy", "lock"]).args(arguments).arg(directory.path()).output();
    // Nothing has changed: nothing is asked.
    ensure!(status(&lock(&[])?) == 0);
    let before = fs::read(directory.path().join("policies.lock"))?;
    fs::write(directory.path().join("policies.toml"), format!("{TYPES}grants = [\"wasi\"]\n"))?;
    let output = lock(&[])?;
    let text = text_of(&output);
    ensure!(
        status(&output) == 2 && text.contains("changed  types: grants [] is now [Wasi]") && text.contains("--yes"),
        "{text}"
    );
    ensure!(fs::read(directory.path().join("policies.lock"))? == before);
    ensure!(status(&lock(&["--yes"])?) == 0 && validate(directory.path())?.0 == 0);
    let text = fs::read_to_string(directory.path().join("policies.lock"))?;
    for line in ["version = 2", "contract = \"0.1.0\"", "grants = [\"wasi\"]", "fuel = 300000000"] {
        ensure!(text.contains(line), "{line}: {text}");
    }
    Ok(())
}

fn a_lock_of_another_version_is_told() -> Result<()> {
    let directory = locked()?;
    let file = directory.path().join("policies.lock");
    let text = fs::read_to_string(&file)?;
    for (version, said) in
        [("version = 3", "it has version 3, and this mountgate reads version 2"), ("", "it has version 1")]
    {
        fs::write(&file, text.replace("version = 2", version))?;
        let (status, text) = validate(directory.path())?;
        ensure!(status == 4 && text.contains(said) && text.contains("policy lock"), "{said}: {text}");
    }
    Ok(())
}

/// Makes a key pair `NAME.pub` and `NAME.key`.
pub(crate) fn key(folder: &Path, name: &str) -> Result<()> {
    let files = ["pub", "key"].map(|end| folder.join(format!("{name}.{end}")));
    let output =
        Command::new("minisign").args(["-G", "-W", "-f", "-p"]).arg(&files[0]).arg("-s").arg(&files[1]).output()?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

pub(crate) fn sign(directory: &Path, key: &Path) -> Result<()> {
    let output =
        Command::new("minisign").args(["-S", "-m"]).arg(directory.join("policies.lock")).arg("-s").arg(key).output()?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn where_keys_are_trusted_only_what_they_signed_is_used() -> Result<()> {
    let (keys, trusted, directory) = (folder()?, folder()?, locked()?);
    for name in ["ours", "theirs"] {
        key(keys.path(), name)?;
    }
    let check = |said: &str, expected: i32| -> Result<()> {
        let output =
            mountgate(&["policy", "validate", "--trusted-keys"]).arg(trusted.path()).arg(directory.path()).output()?;
        let text = text_of(&output);
        ensure!(status(&output) == expected && text.contains(said), "{said}: {text}");
        Ok(())
    };
    // Without a trusted key, nobody needs to sign.
    check("types", 0)?;
    fs::copy(keys.path().join("ours.pub"), trusted.path().join("ours.pub"))?;
    check("nobody has signed this directory", 4)?;
    sign(directory.path(), &keys.path().join("theirs.key"))?;
    check("no trusted key made this signature", 4)?;
    sign(directory.path(), &keys.path().join("ours.key"))?;
    check("signed by ours", 0)?;
    // A request is decided by it, and by nothing else.
    let output = mountgate(&["check", "--policies"])
        .arg(directory.path())
        .arg("--trusted-keys")
        .arg(trusted.path())
        .args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .output()?;
    ensure!(status(&output) == 0, "{}", text_of(&output));
    // What is changed after that needs a new lock, and so a new signature.
    fs::write(directory.path().join("policies.toml"), TYPES.replace("tmpfs", "ext4"))?;
    check("isn't what was locked", 4)?;
    let output = mountgate(&["policy", "lock", "--yes"]).arg(directory.path()).output()?;
    ensure!(status(&output) == 0, "{}", text_of(&output));
    check("no trusted key made this signature", 4)?;
    fs::write(directory.path().join("policies.lock.minisig"), "untrusted comment: x\n")?;
    check("it isn't a signature of minisign", 4)?;
    fs::remove_file(directory.path().join("policies.lock"))?;
    check("only locked directories can be signed", 4)
}

fn a_key_that_others_can_write_is_no_key() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let (trusted, directory) = (folder()?, locked()?);
    key(trusted.path(), "ours")?;
    fs::set_permissions(trusted.path().join("ours.pub"), fs::Permissions::from_mode(0o666))?;
    let output =
        mountgate(&["policy", "validate", "--trusted-keys"]).arg(trusted.path()).arg(directory.path()).output()?;
    ensure!(status(&output) == 4 && text_of(&output).contains("others could write it"), "{}", text_of(&output));
    fs::set_permissions(trusted.path().join("ours.pub"), fs::Permissions::from_mode(0o644))?;
    fs::write(trusted.path().join("bad.pub"), "nonsense")?;
    let output =
        mountgate(&["policy", "validate", "--trusted-keys"]).arg(trusted.path()).arg(directory.path()).output()?;
    ensure!(status(&output) == 4 && text_of(&output).contains("it isn't a key"), "{}", text_of(&output));
    Ok(())
}

fn keys_that_cannot_be_read_are_not_taken_for_none() -> Result<()> {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (world, directory) = (folder()?, locked()?);
    let refused = |keys: &Path, said: &str| -> Result<()> {
        let output = mountgate(&["policy", "validate", "--trusted-keys"]).arg(keys).arg(directory.path()).output()?;
        ensure!(status(&output) == 4 && text_of(&output).contains(said), "{said}: {}", text_of(&output));
        Ok(())
    };
    let [absent, file, dangling, open] = ["absent", "file", "dangling", "open"].map(|name| world.path().join(name));
    // Whoever names a folder means that there are keys in it.
    refused(&absent, "the trusted keys can't be read: No such file")?;
    fs::write(&file, "")?;
    refused(&file, "the trusted keys can't be read: Not a directory")?;
    symlink(&absent, &dangling)?;
    refused(&dangling, "the trusted keys can't be read: No such file")?;
    // Who can write the folder above can take the keys away.
    fs::create_dir_all(open.join("keys"))?;
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777))?;
    refused(&open.join("keys"), "and so put another folder in its place")?;
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755))?;
    // Where no folder is named and there is none at the usual place, nobody needs to sign. One that can't be read is none of that.
    let script =
        "mount -t tmpfs tmpfs /etc/mountgate 2>/dev/null || { mount -t tmpfs tmpfs /etc; mkdir /etc/mountgate; }
        $M policy validate $D; ln -s /none /etc/mountgate/trusted-keys; ! $M policy validate $D";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc", script])
        .env("M", crate::support::program())
        .env("D", directory.path())
        .env("MOUNTGATE_CACHE", crate::support::cache())
        .output()?;
    ensure!(output.status.success() && text_of(&output).contains("can't be read"), "{}", text_of(&output));
    Ok(())
}
