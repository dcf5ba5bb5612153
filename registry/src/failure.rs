//! What goes wrong on the way to a registry and back, and how the program ends then.

use std::path::PathBuf;

use oci_client::errors::{DigestError, OciDistributionError};

/// Why nothing was pushed or put in place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A reference, or a file that was named, isn't what the command takes.
    #[error("{message}")]
    Usage { message: String, hint: &'static str },
    /// The registry can't be reached, or doesn't do what it's asked.
    #[error("{message}")]
    Registry { message: String, hint: &'static str },
    /// What the registry has isn't what was asked for.
    #[error("{message}")]
    Content { message: String, hint: &'static str },
    /// A file or folder of this machine.
    #[error("{path}: {error}", path = path.display())]
    File { path: PathBuf, error: std::io::Error },
    /// `mountgate` refuses it, in its own words; `answer` is what it says to scripts.
    #[error("{message}")]
    Judged { message: String, status: u8, answer: Option<serde_json::Value> },
}

impl Failure {
    pub(crate) fn content(message: impl Into<String>, hint: &'static str) -> Self {
        Self::Content { message: message.into(), hint }
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { path, error }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Usage { hint, .. } | Self::Registry { hint, .. } | Self::Content { hint, .. } => Some(hint),
            Self::File { .. } | Self::Judged { .. } => None,
        }
    }

    /// What kind of failure it is, for scripts.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Usage { .. } => "usage",
            Self::Registry { .. } => "registry-failed",
            Self::Content { .. } => "content-invalid",
            Self::File { .. } => "failed",
            Self::Judged { .. } => "refused",
        }
    }

    /// The exit status; `mountgate` has the same.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            Self::Registry { .. } | Self::File { .. } => 1,
            Self::Content { .. } => 4,
            Self::Judged { status, .. } => *status,
        }
    }
}

/// What to do about content that isn't what its digest says.
pub(crate) const CHANGED: &str =
    "nothing was changed; what the registry holds was changed or damaged: push it again, or ask whoever runs it";
const LOG_IN: &str = "log in, so that ~/.docker/config.json has the password: `docker login`, or `skopeo login --compat-auth-file ~/.docker/config.json`";
const UNREACHABLE: &str =
    "nothing was changed; see whether the registry runs, then try again (--plain-http for one without TLS)";

impl From<OciDistributionError> for Failure {
    fn from(error: OciDistributionError) -> Self {
        use OciDistributionError as Oci;
        match &error {
            Oci::DigestError(_)
            | Oci::JsonError(_)
            | Oci::ManifestEncodingError(_)
            | Oci::ManifestParsingError(_)
            | Oci::UnsupportedMediaTypeError(_)
            | Oci::UnsupportedSchemaVersionError(_)
            | Oci::VersionedParsingError(_) => Self::content(chain(&error), CHANGED),
            Oci::UnauthorizedError { .. } | Oci::AuthenticationFailure(_) => {
                Self::Registry { message: chain(&error), hint: LOG_IN }
            }
            Oci::RequestError(request)
                if request.status().is_some_and(|status| [401, 403].contains(&status.as_u16())) =>
            {
                Self::Registry { message: chain(&error), hint: LOG_IN }
            }
            Oci::ServerError { code: 401 | 403, .. } => Self::Registry { message: chain(&error), hint: LOG_IN },
            Oci::RegistryError { envelope, .. } if envelope.errors.iter().any(is_about_rights) => {
                Self::Registry { message: chain(&error), hint: LOG_IN }
            }
            Oci::ImageManifestNotFoundError(_) | Oci::ServerError { code: 404, .. } | Oci::RegistryError { .. } => {
                Self::Registry { message: chain(&error), hint: "see whether the name and the digest are right" }
            }
            _ => Self::Registry { message: chain(&error), hint: UNREACHABLE },
        }
    }
}

fn is_about_rights(error: &oci_client::errors::OciError) -> bool {
    use oci_client::errors::OciErrorCode::{Denied, Unauthorized};
    matches!(error.code, Denied | Unauthorized)
}

/// What a stream of bytes from a registry ends with.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<DigestError>()) {
            Some(digest) => Self::content(digest.to_string(), CHANGED),
            None => Self::Registry { message: chain(&error), hint: UNREACHABLE },
        }
    }
}

/// An error with all its causes: a library's own words often are "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
