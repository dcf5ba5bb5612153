//! A connection to one repository of a registry: manifests and blobs there and back, each compared with its digest.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::{OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciImageIndex};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tokio::io::AsyncWriteExt;

use crate::failure::{CHANGED, Failure};
use crate::layout::{Artifact, Part, digest};

/// How a registry is spoken with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Speech {
    /// HTTP without TLS.
    pub(crate) is_plain: bool,
    /// How long the registry may take to answer at all, and to send the next bytes.
    pub(crate) patience: Duration,
}

/// What is sent at once.
const PIECE: usize = 64 << 10;

/// A repository of a registry.
pub(crate) struct Connection {
    client: Client,
    auth: RegistryAuth,
    /// Where things go, or come from.
    name: Reference,
    progress: ProgressBar,
}

impl Connection {
    /// Prepares a connection. Nothing is sent yet.
    pub(crate) async fn new(name: &Reference, speech: Speech) -> Result<Self, Failure> {
        // A second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig {
            protocol: if speech.is_plain { ClientProtocol::Http } else { ClientProtocol::Https },
            use_monolithic_push: true,
            connect_timeout: Some(speech.patience),
            read_timeout: Some(speech.patience),
            user_agent: concat!("mountgate-registry/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config)?;
        let auth = credentials(name.registry())?;
        client.store_auth_if_needed(name.resolve_registry(), &auth).await;
        let style = ProgressStyle::with_template("{msg} {bytes}/{total_bytes} {bytes_per_sec} {bar:30}");
        let progress = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Ok(Self { client, auth, name: name.clone(), progress })
    }

    /// Sends a manifest and what it refers to, blobs first. It gets the tag, or only its digest.
    pub(crate) async fn push(&self, artifact: &Artifact, tag: Option<&str>) -> Result<(), Failure> {
        for blob in &artifact.blobs {
            self.push_blob(blob).await?;
        }
        self.push_manifest(&artifact.manifest, OCI_IMAGE_MEDIA_TYPE, tag).await
    }

    /// Sends a list of manifests.
    pub(crate) async fn push_index(&self, index: &Bytes, tag: Option<&str>) -> Result<(), Failure> {
        self.push_manifest(index, OCI_IMAGE_INDEX_MEDIA_TYPE, tag).await
    }

    async fn push_blob(&self, blob: &Bytes) -> Result<(), Failure> {
        let digest = digest(blob);
        if self.client.blob_exists(&self.name, &digest).await? {
            return Ok(());
        }
        let size = u64::try_from(blob.len()).unwrap_or(u64::MAX);
        self.expect("sending", size);
        let (progress, blob) = (self.progress.clone(), blob.clone());
        let pieces = (0..blob.len()).step_by(PIECE).map(move |start| {
            let piece = blob.slice(start..blob.len().min(start + PIECE));
            progress.inc(u64::try_from(piece.len()).unwrap_or(0));
            Ok(piece)
        });
        self.client.push_blob_stream(&self.name, stream::iter(pieces), &digest, Some(size)).await?;
        Ok(())
    }

    async fn push_manifest(
        &self,
        manifest: &Bytes,
        media_type: &'static str,
        tag: Option<&str>,
    ) -> Result<(), Failure> {
        let name = match tag {
            Some(tag) => self.tagged(tag),
            None => self.name.clone_with_digest(digest(manifest)),
        };
        let media_type = http::HeaderValue::from_static(media_type);
        self.client.push_manifest_raw(&name, manifest.clone(), media_type).await?;
        Ok(())
    }

    fn tagged(&self, tag: &str) -> Reference {
        Reference::with_tag(self.name.registry().to_owned(), self.name.repository().to_owned(), tag.to_owned())
    }

    /// The manifest that a reference names, and its digest.
    pub(crate) async fn manifest(&self, name: &Reference) -> Result<(Bytes, String), Failure> {
        let accepted = [OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE];
        let (bytes, _) = self.client.pull_manifest_raw(name, &self.auth, &accepted).await?;
        let found = digest(&bytes);
        match name.digest() {
            Some(expected) if expected != found => Err(wrong_digest(expected, &found)),
            _ => Ok((bytes, found)),
        }
    }

    /// The manifest of a part.
    pub(crate) async fn manifest_of(&self, part: &Part) -> Result<Bytes, Failure> {
        self.manifest(&self.name.clone_with_digest(part.digest.clone())).await.map(|(bytes, _)| bytes)
    }

    /// Writes a part to a new file.
    pub(crate) async fn fetch(&self, part: &Part, file: &Path) -> Result<(), Failure> {
        self.expect("receiving", part.size);
        let mut blob = self.client.pull_blob_stream(&self.name, part.digest.as_str()).await?;
        let mut out = tokio::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(file)
            .await
            .map_err(Failure::file(file))?;
        let mut left = part.size;
        while let Some(bytes) = blob.stream.next().await {
            let bytes = bytes?;
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            left = left.checked_sub(size).ok_or_else(|| wrong_size(part))?;
            self.progress.inc(size);
            out.write_all(&bytes).await.map_err(Failure::file(file))?;
        }
        if left > 0 {
            return Err(wrong_size(part));
        }
        out.flush().await.map_err(Failure::file(file))?;
        out.sync_all().await.map_err(Failure::file(file))
    }

    /// What refers to a manifest and has this type.
    pub(crate) async fn referrers(&self, digest: &str, kind: &str) -> Result<OciImageIndex, Failure> {
        Ok(self.client.pull_referrers(&self.name.clone_with_digest(digest.to_owned()), Some(kind)).await?)
    }

    fn expect(&self, what: &'static str, size: u64) {
        self.progress.set_message(what);
        self.progress.inc_length(size);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.progress.finish_and_clear();
    }
}

fn wrong_digest(expected: &str, found: &str) -> Failure {
    Failure::content(format!("the registry sent {found} where {expected} was asked for"), CHANGED)
}

fn wrong_size(part: &Part) -> Failure {
    Failure::content(format!("the registry sent another size of {} than {} bytes", part.digest, part.size), CHANGED)
}

/// What `docker login` and its like have stored.
fn credentials(registry: &str) -> Result<RegistryAuth, Failure> {
    use CredentialRetrievalError as Missing;
    let unusable = |error: Missing| Failure::Registry {
        message: format!("the credentials for {registry} can't be had: {error}"),
        hint: "see ~/.docker/config.json, or the folder that DOCKER_CONFIG names",
    };
    match docker_credential::get_credential(registry) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(RegistryAuth::Basic(user, password)),
        Ok(DockerCredential::IdentityToken(token)) => Ok(RegistryAuth::Bearer(token)),
        Err(Missing::ConfigNotFound | Missing::NoCredentialConfigured) => Ok(RegistryAuth::Anonymous),
        // A store of credentials that has none for this registry: it says so in these words, which docker knows it by as well.
        Err(Missing::HelperFailure { ref stdout, ref stderr, .. })
            if [stdout, stderr].iter().any(|said| said.contains("credentials not found")) =>
        {
            Ok(RegistryAuth::Anonymous)
        }
        // It says the same of a file that isn't there and of one that can't be read.
        Err(Missing::ConfigReadError) if !has_docker_config() => Ok(RegistryAuth::Anonymous),
        Err(error) => Err(unusable(error)),
    }
}

fn has_docker_config() -> bool {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home);
    folder.is_some_and(|folder| folder.join("config.json").symlink_metadata().is_ok())
}
