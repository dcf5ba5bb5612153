//! Policy directories, to a registry and from there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use oci_client::manifest::ImageIndexEntry;
use serde::{Deserialize, Serialize};

use crate::connection::{Connection, Speech};
use crate::failure::Failure;
use crate::host_program::HostProgram;
use crate::layout::{self, Artifact, NOT_OURS, POLICIES, Part, PluginOutline, SIGNATURE, digest};
use crate::place::Incoming;
use crate::reference::OciName;

const CONFIG: &str = "policies.toml";
const LOCK: &str = "policies.lock";
const SIGNED: &str = "policies.lock.minisig";
/// How many signatures of one directory are looked at.
const MAX_SIGNATURES: usize = 16;

/// As much of the lock as is needed: `mountgate` reads all of it.
#[derive(Deserialize)]
struct Lock {
    plugins: BTreeMap<String, String>,
}

/// What `mountgate policy validate` says.
#[derive(Deserialize)]
struct Validated {
    signer: Option<String>,
}

/// What was pushed.
#[derive(Serialize)]
pub(crate) struct Pushed {
    pub(crate) reference: String,
    digest: String,
    pub(crate) signature: bool,
}

/// Sends a directory, which must be sound and locked.
pub(crate) async fn push(
    host: &HostProgram,
    directory: &Path,
    name: &OciName,
    speech: Speech,
) -> Result<Pushed, Failure> {
    let tag = name.0.tag().filter(|_| name.0.digest().is_none()).ok_or_else(|| Failure::Usage {
        message: "a push needs a tag".to_owned(),
        hint: "e.g. oci://registry.example/policies:1; the digest is what comes of it",
    })?;
    let _: Validated = host.ask(&["policy", "validate"], directory, directory)?;
    let read = |file: &str| {
        let path = directory.join(file);
        fs::read(&path).map(Bytes::from).map_err(Failure::file(path))
    };
    let unlocked = |_| Failure::Usage {
        message: format!("{} isn't locked", directory.display()),
        hint: "only what is pinned is shipped: run `mountgate policy lock DIR` first",
    };
    let lock = read(LOCK).map_err(unlocked)?;
    let Lock { plugins: names } = toml::from_str(&String::from_utf8_lossy(&lock))
        .map_err(|error| Failure::content(format!("{LOCK}: {error}"), "run `mountgate policy lock DIR`"))?;
    let mut plugins: Vec<(&str, Artifact)> = Vec::new();
    for plugin in names.keys() {
        layout::check_name(plugin)?;
        let about: PluginOutline =
            host.ask(&["plugin", "inspect"], &directory.join(plugin), &directory.join(plugin))?;
        plugins.push((plugin, layout::plugin(read(plugin)?, &about)?));
    }
    let files = layout::files(&[(CONFIG, read(CONFIG)?), (LOCK, lock)])?;
    let all = plugins.iter().map(|(name, artifact)| (Some(*name), artifact));
    let index = layout::index(&std::iter::once((None, &files)).chain(all).collect::<Vec<_>>())?;
    let connection = Connection::new(&name.0, speech).await?;
    for artifact in plugins.iter().map(|(_, artifact)| artifact).chain([&files]) {
        connection.push(artifact, None).await?;
    }
    let digest = digest(&index);
    let signature = directory.join(SIGNED).exists();
    if signature {
        // The directory may be there already, without it.
        connection.push_index(&index, None).await?;
        push_signature(&connection, &index, layout::signature(&index, SIGNED, read(SIGNED)?)?).await?;
    }
    // Last, so that whoever pulls by the tag finds all of it.
    connection.push_index(&index, Some(tag)).await?;
    Ok(Pushed { reference: name.pinned(&digest), digest, signature })
}

/// Sends a signature, and puts it on the list of what refers to the directory where the registry keeps no such list.
async fn push_signature(connection: &Connection, index: &Bytes, signature: Artifact) -> Result<(), Failure> {
    connection.push(&signature, None).await?;
    let (subject, own) = (digest(index), digest(&signature.manifest));
    let known = connection.referrers(&subject, SIGNATURE).await?;
    if known.manifests.iter().any(|entry| entry.digest == own) {
        return Ok(());
    }
    let tag = subject.replace(':', "-");
    connection.push_index(&layout::referrers(known, &signature)?, Some(&tag)).await
}

/// What was pulled.
#[derive(Serialize)]
pub(crate) struct Pulled {
    pub(crate) directory: PathBuf,
    pub(crate) digest: String,
    pub(crate) signer: Option<String>,
    /// Where the directory is that was there before.
    pub(crate) previous: Option<PathBuf>,
}

/// Brings a directory, and puts it in place after `mountgate` found nothing wrong with it.
pub(crate) async fn pull(
    host: &HostProgram,
    name: &OciName,
    directory: &Path,
    speech: Speech,
) -> Result<Pulled, Failure> {
    let connection = Connection::new(&name.0, speech).await?;
    let incoming = Incoming::beside(directory)?;
    let (index, digest) = connection.manifest(&name.0).await?;
    let (own, plugins) = layout::read_index(&index)?;
    let signatures = connection.referrers(&digest, SIGNATURE).await?.manifests;
    if name.0.digest().is_none() && signatures.is_empty() {
        return Err(movable(name, &digest));
    }
    let mut parts = layout::read_files(&connection.manifest_of(&own).await?, POLICIES, &[CONFIG, LOCK])?;
    for plugin in plugins {
        let layer = layout::read_plugin(&connection.manifest_of(&plugin).await?)?;
        parts.push(Part { name: plugin.name, ..layer });
    }
    layout::check_total(&parts)?;
    for part in &parts {
        connection.fetch(part, &incoming.path().join(&part.name)).await?;
    }
    if !incoming.path().join(LOCK).exists() {
        return Err(Failure::content(
            format!("it has no {LOCK}"),
            "push it with mountgate, which ships only what is locked",
        ));
    }
    let signer = judge(host, &connection, &incoming, signatures).await?;
    if name.0.digest().is_none() && signer.is_none() {
        return Err(movable(name, &digest));
    }
    let directory = incoming.target().to_owned();
    let previous = incoming.put_in_place(is_shipped)?;
    Ok(Pulled { directory, digest, signer, previous })
}

/// Why a tag isn't enough.
fn movable(name: &OciName, digest: &str) -> Failure {
    Failure::Usage {
        message: format!(
            "a tag can be moved by others, and nobody whom you trust signed this; for now it is {}",
            name.pinned(digest)
        ),
        hint: "pull by the digest, or sign the directory and trust the key: see docs/policy-directory.md",
    }
}

/// Has `mountgate` check a directory, with each signature that there is until one is trusted.
async fn judge(
    host: &HostProgram,
    connection: &Connection,
    incoming: &Incoming,
    signatures: Vec<ImageIndexEntry>,
) -> Result<Option<String>, Failure> {
    let validate = || host.ask::<Validated>(&["policy", "validate"], incoming.path(), incoming.target());
    let file = incoming.path().join(SIGNED);
    let mut refusal = None;
    // A push puts the newest last.
    for entry in signatures.into_iter().rev().take(MAX_SIGNATURES) {
        let _ = fs::remove_file(&file);
        if let Err(error) = fetch_signature(connection, entry.digest, &file).await {
            refusal.get_or_insert(error);
            continue;
        }
        match validate() {
            Ok(Validated { signer: Some(signer) }) => return Ok(Some(signer)),
            // No key is trusted here, so nobody has looked at it.
            Ok(Validated { signer: None }) => break,
            Err(error) => refusal = Some(error),
        }
    }
    // What nobody has checked isn't put in place.
    let _ = fs::remove_file(&file);
    match validate() {
        Ok(validated) => Ok(validated.signer),
        Err(error) => Err(refusal.unwrap_or(error)),
    }
}

/// Fetches a signature.
async fn fetch_signature(connection: &Connection, digest: String, file: &Path) -> Result<(), Failure> {
    let part = Part { name: String::new(), digest, size: 0 };
    let parts = layout::read_files(&connection.manifest_of(&part).await?, SIGNATURE, &[SIGNED])?;
    let [part] = parts.as_slice() else {
        return Err(Failure::content("a signature must be one file", NOT_OURS));
    };
    connection.fetch(part, file).await
}

/// Whether a file of a directory is one that is shipped.
fn is_shipped(name: &OsStr) -> bool {
    [CONFIG, LOCK, SIGNED].iter().any(|file| name == *file) || Path::new(name).extension() == Some(OsStr::new("wasm"))
}
