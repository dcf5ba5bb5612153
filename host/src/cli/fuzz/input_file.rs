//! Inputs of the fuzzer as request files, which `mountgate check --request` reads.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sha1::{Digest, Sha1};

use crate::cli::request_file::{Lines, Mounts, RequestFile};
use crate::fuzz::input::Input;
use crate::fuzz::tables::Table;
use crate::model::ends::{FileKind, ResolvedPath};
use crate::model::paths::lexical;

/// An input in its one form: a line of JSON, with its mounts.
pub(in crate::cli) fn canonical(input: &Input) -> anyhow::Result<String> {
    let lines = input.table.text().to_owned();
    let file = RequestFile {
        request: input.request.clone(),
        source: input.source.clone(),
        target: Some(input.target.clone()),
        option_paths: input.option_paths.clone(),
        requester: input.requester.clone(),
        mount_table: (!lines.is_empty()).then_some(Mounts::Lines(Lines { lines })),
        paths: input.table.paths().clone(),
    };
    Ok(serde_json::to_string(&file)? + "\n")
}

/// The name of an input's file: SHA-1 of its text, as libFuzzer names them.
pub(super) fn name(text: &str) -> String {
    Sha1::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a request file.
pub(super) fn read(path: &Path) -> anyhow::Result<Input> {
    let (file, _) = RequestFile::read(path)?;
    let text = String::from_utf8_lossy(&file.mounts(path)?).into_owned();
    let table = Table::with_paths(text, file.paths)?;
    let target = file.target.unwrap_or_else(|| ResolvedPath {
        path: lexical(&file.request.target),
        kind: FileKind::Directory,
        location: None,
        device: None,
        storage: Vec::new(),
        symlinks: Vec::new(),
        covering_mount: None,
    });
    Ok(Input {
        request: file.request,
        source: file.source,
        target,
        option_paths: file.option_paths,
        requester: file.requester,
        table,
    })
}

/// Writes a file in one piece. It's made under a name that nobody can foresee, where no link is followed: the folder may be /tmp.
pub(in crate::cli) fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    // A device or a link, such as /dev/stdout, is written to and stays what it is.
    if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        return fs::write(path, text).with_context(|| format!("{} can't be written", path.display()));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{:016x}", fastrand::u64(..)));
    File::create_new(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&new, path))
        .inspect_err(|_| drop(fs::remove_file(&new)))
        .with_context(|| format!("{} can't be written", path.display()))
}

/// The requests of a folder by name. What isn't one is told, and left out.
pub(in crate::cli) fn read_folder(folder: &Path) -> anyhow::Result<Vec<(PathBuf, Input)>> {
    let paths = files(folder)?;
    let input = |path: PathBuf| match read(&path) {
        Ok(input) => Some((path, input)),
        Err(error) => {
            tracing::warn!("{} isn't used: {error:#}", path.display());
            None
        }
    };
    Ok(paths.into_iter().filter_map(input).collect())
}

/// The files of a folder by name, without those that are hidden.
pub(super) fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{} can't be listed", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| !is_hidden(path) && !path.is_dir());
    paths.sort();
    Ok(paths)
}

/// A word of a command line of sh(1).
pub(in crate::cli) fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
