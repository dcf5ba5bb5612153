//! Policies and plugins through a registry: Debian's docker-registry on loopback, which knows no referrers.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::pinning::{key, sign};
use crate::support::{folder, mountgate, plugin, policies, status, text_of, tmpfs};

tests! {
    plain a_directory_is_pushed_pulled_and_run_from,
    plain a_plugin_is_pushed_copied_and_pulled,
    plain what_is_not_replaced_by_a_pull_stays,
    plain a_damaged_directory_is_not_put_in_place,
    plain a_registry_that_fails_is_told,
    plain only_what_a_trusted_key_signed_is_pulled,
    plain credentials_are_those_of_docker,
    plain a_killed_pull_leaves_the_old_directory_or_the_new_one,
}

const TMPFS: &str =
    "[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"tmpfs\"] }\n";

/// A registry with an empty store.
struct Registry {
    folder: TempDir,
    port: u16,
    server: Child,
}

impl Registry {
    fn start() -> Result<Self> {
        Self::with("")
    }

    /// Starts one whose configuration has these lines too.
    fn with(more: &str) -> Result<Self> {
        let folder = folder()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = folder.path().join("config.yml");
        let store = folder.path().join("store");
        fs::write(
            &config,
            format!(
                "version: 0.1\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: \"127.0.0.1:{port}\" }}\n{more}",
                store.display()
            ),
        )?;
        let mut command = Command::new("docker-registry");
        let server = command
            .args(["serve"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("docker-registry isn't installed: run `cargo xtask setup --tests`")?;
        let registry = Self { folder, port, server };
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < end, "the registry doesn't start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }

    fn name(&self, rest: &str) -> String {
        format!("oci://127.0.0.1:{}/{rest}", self.port)
    }

    /// Pushes a directory and says by which reference it is pulled.
    fn push(&self, directory: &Path) -> Result<String> {
        let output = run(&["policy", "push"]).arg(directory).arg(self.name("team/policies:1")).output()?;
        ensure!(status(&output) == 0, "{}", text_of(&output));
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        Ok(answer["reference"].as_str().context("no reference")?.to_owned())
    }

    /// The file of a blob in the registry's store.
    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.folder.path().join(format!("store/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The program, for a registry without TLS.
fn run(command: &[&str]) -> Command {
    let mut run = mountgate(&[]);
    run.arg("--json").args(command).arg("--plain-http").env("DOCKER_CONFIG", "/nonexistent");
    run
}

fn pull(reference: &str, directory: &Path) -> Result<Output> {
    Ok(run(&["policy", "pull"]).arg(reference).arg(directory).output()?)
}

fn pulled(reference: &str, directory: &Path) -> Result<Value> {
    let output = pull(reference, directory)?;
    ensure!(status(&output) == 0, "{}", text_of(&output));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn locked(text: &str) -> Result<TempDir> {
    policies(text, &["fstype-allow"])
}

/// What lies in a folder, by name, with the bytes of files.
fn content(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut list = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let bytes = if entry.file_type()?.is_file() { fs::read(entry.path())? } else { Vec::new() };
        list.push((entry.file_name().to_string_lossy().into_owned(), bytes));
    }
    list.sort();
    Ok(list)
}

fn skopeo(arguments: &[&str]) -> Result<String> {
    let output = Command::new("skopeo").args(arguments).output().context("skopeo isn't installed")?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(String::from_utf8(output.stdout)?)
}

fn a_directory_is_pushed_pulled_and_run_from() -> Result<()> {
    let (registry, directory, root) = (Registry::start()?, locked(TMPFS)?, folder()?);
    let reference = registry.push(directory.path())?;
    // Equal directories have equal digests, wherever they are pushed from.
    ensure!(registry.push(locked(TMPFS)?.path())? == reference);
    let target = root.path().join("mountgate");
    pulled(&reference, &target)?;
    ensure!(content(&target)? == content(directory.path())?);
    let (decided, answer, _) = crate::support::check(&target, &tmpfs("/mnt", &[]))?;
    ensure!(decided == 0, "{answer}");
    let mut other = tmpfs("/mnt", &[]);
    other["request"]["fstype"] = "ext4".into();
    let (decided, answer, _) = crate::support::check(&target, &other)?;
    ensure!(decided == 3, "{answer}");
    // What others make of it: an index, copied without a change.
    let at = |name: &str| format!("docker://127.0.0.1:{}/{name}", registry.port);
    let index: Value =
        serde_json::from_str(&skopeo(&["inspect", "--raw", "--tls-verify=false", &at("team/policies:1")])?)?;
    ensure!(index["artifactType"] == "application/vnd.mountgate.policies.v1+json", "{index}");
    ensure!(index["manifests"].as_array().map(Vec::len) == Some(2), "{index}");
    skopeo(&[
        "copy",
        "--all",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &at("team/policies:1"),
        &at("copy:1"),
    ])?;
    // skopeo 1.9 leaves out what it doesn't know of an index, so the copy has another digest.
    let output = pull(&registry.name("copy:1"), &root.path().join("copy"))?;
    let text = text_of(&output);
    let (_, copy) = text.split_once("oci://").context("no digest is named")?;
    let copy = copy.split(['"', ' ', '\n']).next().unwrap_or_default();
    pulled(&format!("oci://{copy}"), &root.path().join("copy"))?;
    ensure!(content(&root.path().join("copy"))? == content(directory.path())?);
    Ok(())
}

fn a_plugin_is_pushed_copied_and_pulled() -> Result<()> {
    let (registry, folder) = (Registry::start()?, folder()?);
    let component = plugin("fstype-allow");
    let output = run(&["plugin", "push"]).arg(&component).arg(registry.name("plugin:1")).output()?;
    ensure!(status(&output) == 0, "{}", text_of(&output));
    let pushed: Value = serde_json::from_slice(&output.stdout)?;
    let reference = pushed["reference"].as_str().context("no reference")?;
    let at = |name: &str| format!("docker://127.0.0.1:{}/{name}", registry.port);
    skopeo(&["copy", "--src-tls-verify=false", "--dest-tls-verify=false", &at("plugin:1"), &at("copy:1")])?;
    let config: Value =
        serde_json::from_str(&skopeo(&["inspect", "--config", "--raw", "--tls-verify=false", &at("copy:1")])?)?;
    ensure!(
        config["architecture"] == "wasm" && config["component"]["exports"][0] == "mountgate:policy/plugin@0.1.0",
        "{config}"
    );
    let file = folder.path().join("plugin.wasm");
    let pull = |reference: &str| run(&["plugin", "pull"]).arg(reference).arg(&file).output();
    let output = pull(&reference.replace("plugin@", "copy@"))?;
    ensure!(status(&output) == 0 && fs::read(&file)? == fs::read(&component)?, "{}", text_of(&output));
    // Not by a tag, which may be another plugin tomorrow.
    let output = pull(&registry.name("plugin:1"))?;
    ensure!(status(&output) == 2 && text_of(&output).contains("can be moved by others"), "{}", text_of(&output));
    // And nothing else than a plugin.
    let output = pull(&registry.push(locked(TMPFS)?.path())?)?;
    ensure!(status(&output) == 4 && text_of(&output).contains("isn't a plugin"), "{}", text_of(&output));
    ensure!(content(folder.path())?.len() == 1);
    Ok(())
}

fn what_is_not_replaced_by_a_pull_stays() -> Result<()> {
    let (registry, root) = (Registry::start()?, folder()?);
    let target = root.path().join("mountgate");
    let (first, second) =
        (registry.push(locked(TMPFS)?.path())?, registry.push(locked(&format!("# new\n{TMPFS}"))?.path())?);
    pulled(&first, &target)?;
    fs::create_dir(target.join("trusted-keys"))?;
    fs::write(target.join("trusted-keys/note"), "ours")?;
    fs::write(target.join("old.wasm"), "of the one before")?;
    let answer = pulled(&second, &target)?;
    ensure!(fs::read_to_string(target.join("trusted-keys/note"))? == "ours" && !target.join("old.wasm").exists());
    ensure!(fs::read_to_string(target.join("policies.toml"))?.starts_with("# new"));
    let previous = root.path().join(".mountgate.previous");
    ensure!(answer["previous"] == Value::from(previous.to_string_lossy()), "{answer}");
    ensure!(previous.join("old.wasm").exists());
    Ok(())
}

fn a_damaged_directory_is_not_put_in_place() -> Result<()> {
    let (registry, directory, root) = (Registry::start()?, locked(TMPFS)?, folder()?);
    let target = root.path().join("mountgate");
    let good = registry.push(directory.path())?;
    pulled(&good, &target)?;
    let before = content(&target)?;
    let next = registry.push(locked(&format!("# next\n{TMPFS}"))?.path())?;
    let digest = next.rsplit('@').next().unwrap_or_default();
    let index: Value = serde_json::from_slice(&fs::read(registry.blob(digest))?)?;
    let manifest = |at: usize| -> Result<Value> {
        let digest = index["manifests"][at]["digest"].as_str().context("no digest")?;
        Ok(serde_json::from_slice(&fs::read(registry.blob(digest))?)?)
    };
    let layer = |manifest: &Value| registry.blob(manifest["layers"][0]["digest"].as_str().unwrap_or_default());
    let (config, component) = (layer(&manifest(0)?), layer(&manifest(1)?));
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&Path, Damage, &str); 5] = [
        (&config, |bytes| bytes[0] ^= 1, "Invalid digest"),
        (
            &component,
            |bytes| {
                let last = bytes.len() - 1;
                bytes[last] ^= 1
            },
            "Invalid digest",
        ),
        (&component, |bytes| bytes.truncate(bytes.len() / 2), ""),
        (&component, |bytes| bytes.push(0), ""),
        (
            &registry.blob(digest),
            |bytes| {
                let last = bytes.len() - 2;
                bytes[last] = b' '
            },
            "",
        ),
    ];
    for (file, damage, said) in damages {
        let whole = fs::read(file)?;
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(file, bytes)?;
        let output = pull(&next, &target)?;
        let text = text_of(&output);
        ensure!(
            [1, 4].contains(&status(&output)) && text.contains(said) && text.contains("hint"),
            "{}: {text}",
            file.display()
        );
        ensure!(content(&target)? == before && content(root.path())?.len() == 1, "{text}");
        fs::write(file, whole)?;
    }
    // A blob that is gone.
    fs::remove_file(&component)?;
    let output = pull(&next, &target)?;
    ensure!(status(&output) == 1 && content(&target)? == before, "{}", text_of(&output));
    // A directory that isn't sound: mountgate itself judges it.
    let digestless = locked(TMPFS)?;
    fs::write(digestless.path().join("policies.toml"), "[host]\nfoo = 1\n")?;
    let output = run(&["policy", "push"]).arg(digestless.path()).arg(registry.name("bad:1")).output()?;
    ensure!(status(&output) == 4 && text_of(&output).contains("unknown field"), "{}", text_of(&output));
    Ok(())
}

fn a_registry_that_fails_is_told() -> Result<()> {
    let folder = folder()?;
    let target = folder.path().join("mountgate");
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let closed = { TcpListener::bind("127.0.0.1:0")?.local_addr()?.port() };
    let digest = "0".repeat(64);
    for port in [silent.local_addr()?.port(), closed] {
        let reference = format!("oci://127.0.0.1:{port}/x@sha256:{digest}");
        let output = run(&["policy", "pull", "--timeout", "1"]).arg(reference).arg(&target).output()?;
        let text = text_of(&output);
        ensure!(status(&output) == 1 && text.contains("try again") && !target.exists(), "{text}");
    }
    let registry = Registry::start()?;
    let output = pull(&registry.name(&format!("x@sha256:{digest}")), &target)?;
    ensure!(status(&output) == 1 && content(folder.path())?.is_empty(), "{}", text_of(&output));
    // Scripts read the same form as from any command, wherever the flag stands.
    let output = mountgate(&["policy", "pull", "--plain-http"])
        .arg(format!("oci://127.0.0.1:1/x@sha256:{:064}", 0))
        .arg(&target)
        .args(["--json", "--color", "never"])
        .env("MOUNTGATE_CACHE", "")
        .output()?;
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let error = &answer["error"];
    ensure!(error["code"] == "registry-failed" && error["exit"] == 1 && error["hint"].is_string(), "{answer}");
    for wrong in ["registry.example/x:1", "oci://x:1", "oci://", "oci://127.0.0.1:1/x@sha512:00"] {
        ensure!(status(&pull(wrong, &target)?) == 2, "{wrong}");
    }
    Ok(())
}

fn only_what_a_trusted_key_signed_is_pulled() -> Result<()> {
    let (registry, directory, root) = (Registry::start()?, locked(TMPFS)?, folder()?);
    let (keys, trusted) = (folder()?, folder()?);
    for name in ["ours", "theirs"] {
        key(keys.path(), name)?;
    }
    fs::copy(keys.path().join("ours.pub"), trusted.path().join("ours.pub"))?;
    let target = root.path().join("mountgate");
    let pull = |reference: &str| {
        run(&["policy", "pull"]).arg("--trusted-keys").arg(trusted.path()).arg(reference).arg(&target).output()
    };
    let refused = |reference: &str, said: &str| -> Result<()> {
        let output = pull(reference)?;
        let text = text_of(&output);
        ensure!(status(&output) == 4 && text.contains(said) && !target.exists(), "{said}: {text}");
        Ok(())
    };
    let reference = registry.push(directory.path())?;
    refused(&reference, "nobody has signed")?;
    sign(directory.path(), &keys.path().join("theirs.key"))?;
    ensure!(registry.push(directory.path())? == reference, "a signature changes no digest");
    refused(&reference, "no trusted key made this signature")?;
    // A second signature beside the first: either may be the trusted one.
    sign(directory.path(), &keys.path().join("ours.key"))?;
    registry.push(directory.path())?;
    // What is signed may be pulled by its tag as well.
    for reference in [&reference, &registry.name("team/policies:1")] {
        let output = pull(reference)?;
        ensure!(status(&output) == 0, "{}", text_of(&output));
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(answer["signer"] == "ours", "{answer}");
    }
    let output = self::pull(&registry.name("team/policies:1"), &root.path().join("other"))?;
    ensure!(status(&output) == 2 && text_of(&output).contains("a tag can be moved"), "{}", text_of(&output));
    Ok(())
}

/// `secret` of the user `team`, by bcrypt.
const HTPASSWD: &str = "team:$2a$04$RYj/CFZ7qpEtqhaHwKh89u1aBHr9K3asYHh63PJxTi6LGFq5E4wuu\n";

fn credentials_are_those_of_docker() -> Result<()> {
    let (folder, directory) = (folder()?, locked(TMPFS)?);
    let users = folder.path().join("htpasswd");
    fs::write(&users, HTPASSWD)?;
    let registry = Registry::with(&format!("auth: {{ htpasswd: {{ realm: test, path: {} }} }}\n", users.display()))?;
    let push = |config: &Path| {
        run(&["policy", "push"]).arg(directory.path()).arg(registry.name("x:1")).env("DOCKER_CONFIG", config).output()
    };
    let output = push(Path::new("/nonexistent"))?;
    ensure!(status(&output) == 1 && text_of(&output).contains("log in"), "{}", text_of(&output));
    // team:secret, as base64.
    let config = format!("{{\"auths\": {{\"127.0.0.1:{}\": {{\"auth\": \"dGVhbTpzZWNyZXQ=\"}}}}}}", registry.port);
    fs::write(folder.path().join("config.json"), config)?;
    let output = push(folder.path())?;
    ensure!(status(&output) == 0, "{}", text_of(&output));
    // A store that has none for this registry.
    let helper = folder.path().join("docker-credential-empty");
    fs::write(&helper, "#!/bin/sh\ncat > /dev/null\necho 'credentials not found in native keychain'; exit 1\n")?;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755))?;
    fs::write(folder.path().join("config.json"), "{\"credsStore\": \"empty\"}")?;
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default());
    let mut anonymous = run(&["policy", "push"]);
    let open = Registry::start()?;
    anonymous.arg(directory.path()).arg(open.name("x:1")).env("DOCKER_CONFIG", folder.path()).env("PATH", path);
    let output = anonymous.output()?;
    ensure!(status(&output) == 0, "{}", text_of(&output));
    fs::write(folder.path().join("config.json"), "{")?;
    let output = push(folder.path())?;
    ensure!(status(&output) == 1 && text_of(&output).contains("config.json"), "{}", text_of(&output));
    Ok(())
}

fn a_killed_pull_leaves_the_old_directory_or_the_new_one() -> Result<()> {
    let (registry, root) = (Registry::start()?, folder()?);
    let target = root.path().join("mountgate");
    let mut versions = Vec::new();
    for comment in ["# one\n", "# two\n"] {
        let directory = locked(&format!("{comment}{TMPFS}"))?;
        versions.push((registry.push(directory.path())?, content(directory.path())?));
    }
    let start = Instant::now();
    pulled(&versions[0].0, &target)?;
    let whole = start.elapsed();
    let mut placed = 0;
    for round in 0..50_u32 {
        let (reference, wanted) = &versions[usize::from(round % 2 == 0)];
        let (_, other) = &versions[usize::from(round % 2 == 1)];
        let mut child =
            run(&["policy", "pull"]).arg(reference).arg(&target).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // Moments all over the pull, most of them near its end.
        std::thread::sleep(whole.mul_f64(f64::from(round * 37 % 50) / 40.0));
        // The program becomes mountgate-registry, which has the same number.
        child.kill()?;
        child.wait()?;
        let found = content(&target)?;
        ensure!(found == *wanted || found == *other, "round {round}: neither the old one nor the new one");
        placed += u32::from(found == *wanted);
    }
    ensure!(placed > 0, "no pull came so far");
    // Nothing of the killed ones is left after the next.
    pulled(&versions[0].0, &target)?;
    ensure!(content(&target)? == versions[0].1);
    let names: Vec<String> = content(root.path())?.into_iter().map(|(name, _)| name).collect();
    if names.iter().any(|name| name != "mountgate" && name != ".mountgate.previous") {
        bail!("{names:?}");
    }
    Ok(())
}
