//! Calls the host's parsers for libFuzzer. `targets/` has one program for each.

use std::sync::LazyLock;

use tempfile::TempDir;

/// What the parsers that need files may write to.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().expect("a temporary folder can be made"));

/// Gives bytes to the parser of this name.
///
/// # Panics
/// Where something doesn't hold that must hold of every input.
pub fn run(name: &str, data: &[u8]) {
    let (_, parser) = mountgate::parsers::ALL.iter().find(|(known, _)| *known == name).expect("it's one of them");
    parser(data, FOLDER.path());
}
