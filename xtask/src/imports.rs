//! Which file of `host/src` imports which. No two may import each other, directly or round about.
//!
//! Paths that begin with `crate`, `self` or `super` are read in the text, tests left out. An arrow goes to the file of the
//! longest part of the path that is a module.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The files of a crate and the arrows between them.
struct Imports {
    /// Each file with its number of lines.
    files: BTreeMap<PathBuf, usize>,
    arrows: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

/// Prints the number of files, arrows and circles, and how long the files are.
pub(crate) fn print(folder: &Path) -> Result<()> {
    let imports = Imports::read(folder)?;
    let mut lengths: Vec<usize> = imports.files.values().copied().collect();
    lengths.sort_unstable();
    let longest = imports.files.iter().max_by_key(|(_, lines)| **lines).context("there is no file")?;
    println!("files    {}", imports.files.len());
    println!("arrows   {}", imports.arrows.values().map(BTreeSet::len).sum::<usize>());
    println!("median   {} lines", lengths[lengths.len() / 2]);
    println!("longest  {} lines, {}", longest.1, longest.0.display());
    let circles = imports.circles();
    println!("circles  {}", circles.len());
    for circle in circles {
        let names: Vec<String> = circle.iter().map(|file| file.display().to_string()).collect();
        println!("  {} files: {}", circle.len(), names.join(" "));
    }
    Ok(())
}

impl Imports {
    fn read(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        collect(folder, Path::new(""), &mut files)?;
        let modules: BTreeMap<Vec<String>, PathBuf> =
            files.keys().map(|file: &PathBuf| (module(file), file.clone())).collect();
        let mut arrows: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        for (file, text) in &files {
            let targets = paths(&module(file), text).into_iter().filter_map(|path| {
                (1..=path.len()).rev().find_map(|end| modules.get(&path[..end])).filter(|target| *target != file)
            });
            arrows.insert(file.clone(), targets.cloned().collect());
        }
        Ok(Self { files: files.into_iter().map(|(file, text)| (file, text.lines().count())).collect(), arrows })
    }

    /// Groups of files that reach each other.
    fn circles(&self) -> Vec<Vec<&Path>> {
        let reach: BTreeMap<&Path, BTreeSet<&Path>> =
            self.files.keys().map(|file| (file.as_path(), self.reachable(file))).collect();
        let mut circles = Vec::new();
        let mut known = BTreeSet::new();
        for (file, reached) in &reach {
            let circle: Vec<&Path> = reached.iter().filter(|other| reach[**other].contains(file)).copied().collect();
            if !circle.is_empty() && circle.iter().all(|file| known.insert(*file)) {
                circles.push(circle);
            }
        }
        circles
    }

    fn reachable(&self, from: &Path) -> BTreeSet<&Path> {
        let mut reached = BTreeSet::new();
        let mut todo: Vec<&Path> = vec![from];
        while let Some(file) = todo.pop() {
            for target in self.arrows.get(file).into_iter().flatten() {
                if reached.insert(target.as_path()) {
                    todo.push(target);
                }
            }
        }
        reached
    }
}

fn collect(root: &Path, below: &Path, files: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    let folder = root.join(below);
    for entry in fs::read_dir(&folder).with_context(|| format!("{} can't be listed", folder.display()))? {
        let path = below.join(entry?.file_name());
        if root.join(&path).is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.insert(path.clone(), fs::read_to_string(root.join(&path))?);
        }
    }
    Ok(())
}

/// The module that a file holds: `a/b.rs` and `a/b/mod.rs` hold `crate::a::b`.
fn module(file: &Path) -> Vec<String> {
    let mut path: Vec<String> = vec!["crate".to_owned()];
    path.extend(file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()));
    if path.last().is_some_and(|name| matches!(name.as_str(), "mod" | "lib")) {
        path.pop();
    }
    path
}

/// The paths in a file's text that begin at the crate or beside its module.
fn paths(module: &[String], text: &str) -> Vec<Vec<String>> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut tokens = Vec::new();
    for line in code.lines() {
        let line = line.split("//").next().unwrap_or_default();
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = match first {
                _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                ':' if rest.starts_with("::") => 2,
                first => first.len_utf8(),
            };
            let (token, after) = rest.split_at(length);
            if !token.trim().is_empty() {
                tokens.push(token);
            }
            rest = after;
        }
    }
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let starts = matches!(tokens[at], "crate" | "self" | "super") && tokens.get(at + 1) == Some(&"::");
        let continues = at > 0 && tokens[at - 1] == "::";
        if starts && !continues {
            at = tree(&tokens, at, module, &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads a path, or a group of paths in braces, after what stands before it. Returns where it ends.
fn tree(tokens: &[&str], mut at: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    loop {
        match tokens.get(at).copied() {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| *token != "}") {
                    let next = tree(tokens, at, &path, found);
                    at = next + usize::from(tokens.get(next) == Some(&","));
                    if next == at && tokens.get(at) != Some(&"}") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Some("crate") => path = vec!["crate".to_owned()],
            Some("self") => {}
            Some("super") => drop(path.pop()),
            Some(name) => path.push(name.to_owned()),
            None => return at,
        }
        at += 1;
        if tokens.get(at) != Some(&"::") {
            found.push(path);
            return at;
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_files_of_the_host_import_each_other() {
        let imports = Imports::read(&crate::root().join("host/src")).expect("host/src is there");
        let arrows: usize = imports.arrows.values().map(BTreeSet::len).sum();
        assert!(imports.files.len() > 50 && arrows > 100, "{} files, {arrows} arrows", imports.files.len());
        assert_eq!(imports.circles(), Vec::<Vec<&Path>>::new());
    }

    #[test]
    fn a_circle_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("it's written");
        write("a.rs", "use crate::b::B;");
        write("b.rs", "use super::{c::{C, D}, e};\nfn f() { crate::c::g() }");
        write("c.rs", "//! crate::e\nuse crate::{a as other};\n#[cfg(test)]\nmod tests {\n    use crate::e;\n}");
        write("e.rs", "");
        let imports = Imports::read(folder.path()).expect("it's read");
        assert_eq!(imports.arrows.values().map(BTreeSet::len).sum::<usize>(), 4);
        assert_eq!(imports.circles(), [["a.rs", "b.rs", "c.rs"].map(Path::new)]);
    }
}
