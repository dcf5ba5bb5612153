//! Single plugins, to a registry and from there.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use serde::Serialize;

use crate::connection::{Connection, Speech};
use crate::failure::Failure;
use crate::host_program::HostProgram;
use crate::layout::{self, PluginOutline, digest};
use crate::reference::OciName;

/// What was pushed or pulled.
#[derive(Serialize)]
pub(crate) struct Carried {
    pub(crate) reference: String,
    digest: String,
    /// The digest of the component itself, as `policies.lock` has it.
    sha256: String,
}

/// Sends a plugin.
pub(crate) async fn push(host: &HostProgram, file: &Path, name: &OciName, speech: Speech) -> Result<Carried, Failure> {
    let tag = name.0.tag().filter(|_| name.0.digest().is_none()).ok_or_else(|| Failure::Usage {
        message: "a push needs a tag".to_owned(),
        hint: "e.g. oci://registry.example/plugin:1; the digest is what comes of it",
    })?;
    let about: PluginOutline = host.ask(&["plugin", "inspect"], file, file)?;
    let component = Bytes::from(fs::read(file).map_err(Failure::file(file))?);
    let sha256 = digest(&component);
    let artifact = layout::plugin(component, &about)?;
    Connection::new(&name.0, speech).await?.push(&artifact, Some(tag)).await?;
    let digest = digest(&artifact.manifest);
    Ok(Carried { reference: name.pinned(&digest), digest, sha256 })
}

/// Brings a plugin, and puts it in place after `mountgate` found that it is one.
pub(crate) async fn pull(host: &HostProgram, name: &OciName, file: &Path, speech: Speech) -> Result<Carried, Failure> {
    if name.0.digest().is_none() {
        return Err(Failure::Usage {
            message: "a tag can be moved by others".to_owned(),
            hint: "pull a plugin by its digest: oci://HOST/REPOSITORY@sha256:DIGEST",
        });
    }
    let connection = Connection::new(&name.0, speech).await?;
    let (manifest, digest) = connection.manifest(&name.0).await?;
    let layer = layout::read_plugin(&manifest)?;
    let parent = file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let folder =
        tempfile::Builder::new().prefix(".mountgate-plugin-").tempdir_in(parent).map_err(Failure::file(parent))?;
    let incoming = folder.path().join("plugin.wasm");
    connection.fetch(&layer, &incoming).await?;
    let _: PluginOutline = host.ask(&["plugin", "inspect"], &incoming, file)?;
    fs::rename(&incoming, file).map_err(Failure::file(file))?;
    Ok(Carried { reference: name.pinned(&digest), digest, sha256: layer.digest })
}
