//! The languages that plugins can be written in with a command.

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};

/// A language of plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Rust,
    JavaScript,
    Python,
}

impl Language {
    const ALL: [Self; 3] = [Self::Rust, Self::JavaScript, Self::Python];

    /// The file that a project in it has.
    pub(crate) fn manifest(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::JavaScript => "package.json",
            Self::Python => "pyproject.toml",
        }
    }

    /// That of a project.
    ///
    /// # Errors
    /// A folder that is no project.
    pub(crate) fn of(project: &Path) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|language| project.join(language.manifest()).exists());
        match found {
            Some(language) => Ok(language),
            None => bail!(
                "{} holds no plugin: there is no {}",
                project.display(),
                Self::ALL.map(|language| language.manifest()).join(", nor ")
            ),
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
        })
    }
}
