//! How plugins and policy directories lie in a registry.
//!
//! A plugin has the layout that CNCF's working group for WebAssembly describes: a configuration, and one layer. A policy directory is
//! an OCI image index: one manifest for its own files, one for each plugin. Nothing of it depends on the time or on the machine, so
//! equal directories have equal digests. See the OCI image specification, version 1.1.

use std::collections::BTreeMap;

use bytes::Bytes;
use oci_client::manifest::{
    ImageIndexEntry, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageIndex, OciImageManifest,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// What a policy directory is called.
pub(crate) const POLICIES: &str = "application/vnd.mountgate.policies.v1+json";
/// What the signature of a policy directory is called.
pub(crate) const SIGNATURE: &str = "application/vnd.mountgate.signature.v1+minisign";
const TOML: &str = "application/toml";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const WASM: &str = "application/wasm";
/// Kubewarden's layer of a plugin.
const WASM_OF_KUBEWARDEN: &str = "application/vnd.wasm.content.layer.v1+wasm";
/// The annotation that has a file's name.
const TITLE: &str = "org.opencontainers.image.title";

/// A manifest, with what it refers to.
pub(crate) struct Artifact {
    pub(crate) manifest: Bytes,
    pub(crate) blobs: Vec<Bytes>,
    kind: &'static str,
}

/// A plugin: `about` is what `mountgate plugin inspect` says of it.
pub(crate) fn plugin(component: Bytes, about: &PluginOutline) -> Result<Artifact, Failure> {
    let config = json!({
        // A time that was noted would make equal plugins differ.
        "created": "1970-01-01T00:00:00Z",
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [digest(&component)],
        "component": { "exports": [format!("mountgate:policy/plugin@{}", about.contract)], "imports": about.imports },
    });
    let config = Bytes::from(to_json(&config)?);
    let manifest = image(None, descriptor(WASM_CONFIG, &config, None), vec![descriptor(WASM, &component, None)]);
    Ok(Artifact { manifest: to_json(&manifest)?.into(), blobs: vec![config, component], kind: WASM_CONFIG })
}

/// What is said of a plugin in a registry.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct PluginOutline {
    contract: String,
    imports: Vec<String>,
}

/// The files of a policy directory that aren't plugins.
pub(crate) fn files(files: &[(&str, Bytes)]) -> Result<Artifact, Failure> {
    plain(POLICIES, None, TOML, files)
}

/// The signature of a policy directory.
pub(crate) fn signature(index: &Bytes, name: &str, text: Bytes) -> Result<Artifact, Failure> {
    let subject = descriptor(OCI_IMAGE_INDEX_MEDIA_TYPE, index, None);
    plain(SIGNATURE, Some(subject), SIGNATURE, &[(name, text)])
}

fn plain(
    kind: &'static str,
    subject: Option<OciDescriptor>,
    media_type: &str,
    files: &[(&str, Bytes)],
) -> Result<Artifact, Failure> {
    let config = Bytes::from_static(b"{}");
    let layers = files.iter().map(|(name, bytes)| descriptor(media_type, bytes, Some(name))).collect();
    let manifest = OciImageManifest { subject, ..image(Some(kind), descriptor(EMPTY, &config, None), layers) };
    let blobs = std::iter::once(config).chain(files.iter().map(|(_, bytes)| bytes.clone())).collect();
    Ok(Artifact { manifest: to_json(&manifest)?.into(), blobs, kind })
}

/// A policy directory.
pub(crate) fn index(artifacts: &[(Option<&str>, &Artifact)]) -> Result<Bytes, Failure> {
    let manifests = artifacts.iter().map(|(name, artifact)| artifact.entry(*name)).collect();
    to_json(&index_of(Some(POLICIES), manifests)).map(Bytes::from)
}

/// A list of what refers to something, with one more on it; for registries that keep no such list themselves.
pub(crate) fn referrers(mut known: OciImageIndex, artifact: &Artifact) -> Result<Bytes, Failure> {
    known.manifests.push(artifact.entry(None));
    to_json(&index_of(None, known.manifests)).map(Bytes::from)
}

impl Artifact {
    fn entry(&self, name: Option<&str>) -> ImageIndexEntry {
        ImageIndexEntry {
            media_type: OCI_IMAGE_MEDIA_TYPE.to_owned(),
            digest: digest(&self.manifest),
            size: size(&self.manifest),
            platform: None,
            annotations: titled(name),
            artifact_type: Some(self.kind.to_owned()),
        }
    }
}

fn index_of(kind: Option<&str>, manifests: Vec<ImageIndexEntry>) -> OciImageIndex {
    OciImageIndex {
        schema_version: 2,
        media_type: Some(OCI_IMAGE_INDEX_MEDIA_TYPE.to_owned()),
        manifests,
        artifact_type: kind.map(str::to_owned),
        annotations: None,
    }
}

fn image(kind: Option<&str>, config: OciDescriptor, layers: Vec<OciDescriptor>) -> OciImageManifest {
    OciImageManifest {
        media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
        config,
        layers,
        artifact_type: kind.map(str::to_owned),
        ..OciImageManifest::default()
    }
}

fn descriptor(media_type: &str, bytes: &Bytes, name: Option<&str>) -> OciDescriptor {
    OciDescriptor {
        media_type: media_type.to_owned(),
        digest: digest(bytes),
        size: size(bytes),
        annotations: titled(name),
        ..OciDescriptor::default()
    }
}

fn titled(name: Option<&str>) -> Option<BTreeMap<String, String>> {
    name.map(|name| BTreeMap::from([(TITLE.to_owned(), name.to_owned())]))
}

fn size(bytes: &Bytes) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}

/// The digest of bytes, as registries write it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value)
        .map_err(|error| Failure::content(format!("it can't be written as JSON: {error}"), "report this"))
}

/// A part of something that is pulled: where its bytes are, and the name that they get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
}

pub(crate) const NOT_OURS: &str = "nothing was changed; see whether the reference is the right one: plugins and policy directories are pulled by commands of their own";

/// How many plugins a policy directory in a registry has at most.
const MAX_PLUGINS: usize = 256;

/// The manifests of a policy directory: that of its own files, and the plugins by file name. Old programs that copy an index leave its
/// `artifactType` out; the manifest of the files has one as well.
pub(crate) fn read_index(bytes: &[u8]) -> Result<(Part, Vec<Part>), Failure> {
    let wrong = |what: &str| Failure::content(format!("it isn't a policy directory: {what}"), NOT_OURS);
    let index: OciImageIndex = serde_json::from_slice(bytes).map_err(|error| wrong(&error.to_string()))?;
    if let Some(kind) = index.artifact_type.as_deref().filter(|kind| *kind != POLICIES) {
        return Err(wrong(&format!("it is {kind} where {POLICIES} is expected")));
    }
    let has_name = |entry: &&ImageIndexEntry| entry.annotations.as_ref().is_some_and(|list| list.contains_key(TITLE));
    let (plugins, own): (Vec<_>, Vec<_>) = index.manifests.iter().partition(has_name);
    let [own] = own.as_slice() else { return Err(wrong("it must have one manifest of files")) };
    if plugins.len() > MAX_PLUGINS {
        return Err(wrong(&format!("it has {} plugins, where {MAX_PLUGINS} are possible", plugins.len())));
    }
    let part = |entry: &ImageIndexEntry, name: String| {
        Ok(Part { name, digest: entry.digest.clone(), size: checked_size(entry.size)? })
    };
    let plugins = plugins.into_iter().map(|entry| {
        let name = file_name(entry.annotations.as_ref())?;
        if name.ends_with(".wasm") {
            part(entry, name)
        } else {
            Err(wrong(&format!("{name:?} isn't the name of a plugin")))
        }
    });
    Ok((part(own, String::new())?, plugins.collect::<Result<_, _>>()?))
}

/// The one layer of a plugin.
pub(crate) fn read_plugin(bytes: &[u8]) -> Result<Part, Failure> {
    let wrong = |what: &str| Failure::content(format!("it isn't a plugin: {what}"), NOT_OURS);
    let manifest: OciImageManifest = serde_json::from_slice(bytes).map_err(|error| wrong(&error.to_string()))?;
    let [layer] = manifest.layers.as_slice() else { return Err(wrong("it must have one layer")) };
    if ![WASM, WASM_OF_KUBEWARDEN].contains(&layer.media_type.as_str()) {
        return Err(wrong(&format!("its layer is {} where {WASM} is expected", layer.media_type)));
    }
    Ok(Part { name: String::new(), digest: layer.digest.clone(), size: checked_size(layer.size)? })
}

/// The files of a manifest of this kind, which may have these names only.
pub(crate) fn read_files(bytes: &[u8], kind: &str, names: &[&str]) -> Result<Vec<Part>, Failure> {
    let wrong = |what: &str| Failure::content(format!("it isn't a part of a policy directory: {what}"), NOT_OURS);
    let manifest: OciImageManifest = serde_json::from_slice(bytes).map_err(|error| wrong(&error.to_string()))?;
    let found = manifest.artifact_type.as_deref().unwrap_or("without an artifactType");
    if found != kind {
        return Err(wrong(&format!("it is {found} where {kind} is expected")));
    }
    manifest
        .layers
        .iter()
        .map(|layer| {
            let name = file_name(layer.annotations.as_ref())?;
            if !names.contains(&name.as_str()) {
                return Err(wrong(&format!("{name:?} doesn't belong in it")));
            }
            Ok(Part { name, digest: layer.digest.clone(), size: checked_size(layer.size)? })
        })
        .collect()
}

/// The name of a file, which must be one of a file in a folder, and not a hidden one.
fn file_name(annotations: Option<&BTreeMap<String, String>>) -> Result<String, Failure> {
    let name = annotations.and_then(|list| list.get(TITLE)).map(String::as_str).unwrap_or_default();
    check_name(name).map(|()| name.to_owned())
}

/// Refuses a name that a file of a policy directory can't have in a registry.
pub(crate) fn check_name(name: &str) -> Result<(), Failure> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !is_plain {
        let message = format!("{name:?} can't be the name of a file of a policy directory in a registry");
        return Err(Failure::content(
            message,
            "name it with letters and digits of ASCII, and any of ._- after the first",
        ));
    }
    Ok(())
}

/// What `mountgate` reads of one file at most.
const MAX_FILE: u64 = 256 << 20;

fn checked_size(size: i64) -> Result<u64, Failure> {
    u64::try_from(size).ok().filter(|size| *size <= MAX_FILE).ok_or_else(|| {
        Failure::content(format!("a size of {size} bytes isn't possible: a file has 256 MiB at most"), NOT_OURS)
    })
}

/// What one pull brings at most.
const MAX_TOTAL: u64 = 1 << 30;

/// Refuses what is too much to bring, before any of it is brought.
pub(crate) fn check_total(parts: &[Part]) -> Result<(), Failure> {
    let total: u64 = parts.iter().map(|part| part.size).sum();
    if total > MAX_TOTAL {
        return Err(Failure::content(format!("it has {total} bytes: a pull brings 1 GiB at most"), NOT_OURS));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titled_index(name: &str) -> Vec<u8> {
        let files = files(&[("policies.toml", Bytes::from_static(b"x"))]).expect("it can be made");
        index(&[(None, &files), (Some(name), &files)]).expect("it can be made").to_vec()
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["../x.wasm", "/x.wasm", ".x.wasm", "", "a/b.wasm", "x\n.wasm", "x.toml"] {
            let text = String::from_utf8(titled_index("plugin.wasm")).expect("JSON is text");
            let text = text.replace("plugin.wasm", &name.escape_default().to_string());
            assert!(read_index(text.as_bytes()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn equal_directories_have_equal_digests() {
        assert_eq!(titled_index("a.wasm"), titled_index("a.wasm"));
        assert_ne!(titled_index("a.wasm"), titled_index("b.wasm"));
    }

    #[test]
    fn sizes_that_no_file_has_are_refused() {
        for size in [-1, i64::MAX, (256 << 20) + 1] {
            assert!(checked_size(size).is_err(), "{size}");
        }
        assert_eq!(checked_size(5).ok(), Some(5));
        let part = Part { name: String::new(), digest: String::new(), size: 256 << 20 };
        assert!(check_total(&vec![part.clone(); 4]).is_ok() && check_total(&vec![part; 5]).is_err());
    }
}
