//! The names of what is in registries: `oci://HOST/REPOSITORY:TAG` and `oci://HOST/REPOSITORY@sha256:DIGEST`.

use std::str::FromStr;

use oci_client::Reference;

/// A name in a registry, as an argument.
#[derive(Debug, Clone)]
pub(crate) struct OciName(pub(crate) Reference);

impl FromStr for OciName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest =
            text.strip_prefix("oci://").ok_or("it must begin with oci://, e.g. oci://registry.example/policies:1")?;
        // Without this, `latest` would be meant, and a push would replace it.
        if !rest.rsplit('/').next().is_some_and(|name| name.contains([':', '@'])) {
            return Err("it has neither a tag nor a digest: add e.g. :1, or @sha256:…".to_owned());
        }
        let reference = Reference::try_from(rest).map_err(|error| error.to_string())?;
        let is_sha256 = reference.digest().is_none_or(|digest| digest.starts_with("sha256:"));
        if !is_sha256 {
            return Err("only digests of the form sha256:… are known".to_owned());
        }
        let has_host = rest.split_once('/').is_some_and(|(host, _)| host == "localhost" || host.contains(['.', ':']));
        if has_host { Ok(Self(reference)) } else { Err("it names no registry: oci://HOST/REPOSITORY:TAG".to_owned()) }
    }
}

impl OciName {
    /// The same with this digest, for people.
    pub(crate) fn pinned(&self, digest: &str) -> String {
        format!("oci://{}/{}@{digest}", self.0.registry(), self.0.repository())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_needs_a_registry_and_a_tag_or_a_digest() {
        for name in ["oci://localhost/x:1", "oci://127.0.0.1:5000/a/x:1", "oci://registry.example/x:latest"] {
            assert!(name.parse::<OciName>().is_ok(), "{name}");
        }
        for name in ["oci://registry.example/x", "oci://127.0.0.1:5000/x", "oci://x:1", "registry.example/x:1"] {
            assert!(name.parse::<OciName>().is_err(), "{name}");
        }
    }
}
