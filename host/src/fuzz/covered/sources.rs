//! Whose code counts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// The lines of types with a `#[derive(…)]`, in which there is no other code.
fn derived(lines: &[String]) -> impl Iterator<Item = RangeInclusive<u32>> {
    let numbered = (1_u32..).zip(lines);
    let starts = numbered.filter(|(_, line)| line.trim_start().starts_with("#[derive("));
    starts.map(move |(start, line)| {
        let indent = &line[..line.len() - line.trim_start().len()];
        // The first line with the indent of the attribute that ends something, apart from other attributes.
        let is_end = |line: &str| {
            let line = line.strip_prefix(indent).filter(|line| !line.starts_with([' ', '\t', '#', ')']));
            line.is_some_and(|line| line.contains([';', '}']))
        };
        let length = lines.iter().skip(start as usize).take_while(|line| !is_end(line)).count();
        start..=start.saturating_add(u32::try_from(length).unwrap_or(u32::MAX)).saturating_add(1)
    })
}

/// Folders of sources. A plugin names its files itself: no other file is read.
pub struct Sources {
    folders: Vec<PathBuf>,
    read: fn(&Path) -> Option<String>,
    known: RefCell<BTreeMap<String, Vec<String>>>,
}

impl Sources {
    /// These folders, which are real paths, and what reads a file.
    pub fn new(folders: Vec<PathBuf>, read: fn(&Path) -> Option<String>) -> Self {
        Self { folders, read, known: RefCell::default() }
    }

    /// Whether the code of a line counts. Without any folder, all code does. What a macro makes of a `#[derive(…)]` doesn't: nobody wrote
    /// it.
    pub(super) fn count(&self, place: Option<(&str, u32)>) -> bool {
        if self.folders.is_empty() {
            return true;
        }
        let Some((file, line)) = place.filter(|(file, _)| self.has(Path::new(file))) else { return false };
        !self.with_lines(file, |lines| derived(lines).any(|range| range.contains(&line)))
    }

    /// The lines of a file, if it's in one of the folders.
    pub fn lines(&self, file: &str) -> Vec<String> {
        self.with_lines(file, <[String]>::to_vec)
    }

    fn with_lines<T>(&self, file: &str, look: impl FnOnce(&[String]) -> T) -> T {
        let mut known = self.known.borrow_mut();
        let lines = known.entry(file.to_owned()).or_insert_with(|| {
            // A name may hold `..`, or lead through a link.
            let real = Path::new(file).canonicalize().ok().filter(|real| self.has(real));
            let text = real.and_then(|real| (self.read)(&real)).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        });
        look(lines)
    }

    fn has(&self, file: &Path) -> bool {
        self.folders.iter().any(|folder| file.starts_with(folder))
    }
}
