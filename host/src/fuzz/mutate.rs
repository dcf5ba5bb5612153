//! Changes inputs as values: paths, options, labels, numbers, ends. Never as bytes, so that most of what comes of it is a request.

use std::sync::Arc;

use fastrand::Rng;

use super::derive::{with_number, with_text};
use super::dictionary::{Dictionary, OPTIONS};
use super::input::Input;
use super::instrument::notes::Comparison;
use super::tables::{Table, Tables};
use crate::model::ends::{FileKind, OptionPath, ResolvedPath};
use crate::model::location::{Device, Location};
use crate::model::option_paths::paths_in;
use crate::model::options::{MountOption, Options};
use crate::model::paths::{is_within, lexical};
use crate::model::requester::Label;

/// How many words are remembered.
const MAX_WORDS: usize = 512;
/// How long a text may become.
const MAX_TEXT: usize = 1500;
/// How many paths of a host may be links.
const MAX_PATHS: usize = 4;
/// At how many paths in options something else than a directory is found.
const MAX_OPTION_PATHS: usize = 8;
/// How many mounts a table may have.
const MAX_MOUNTS: usize = 5000;
const NUMBERS: [u32; 9] = [0, 1, 7, 100, 1000, 1001, 65_534, 65_535, u32::MAX];
const CHARACTERS: [char; 14] = ['a', 'A', '0', '9', '-', '_', '.', '/', ' ', ':', '=', 'ü', '\u{a0}', '\u{1f600}'];

/// Changes inputs, the same way for the same seed.
#[derive(Debug)]
pub(super) struct Mutator<'d> {
    random: Rng,
    dictionary: &'d Dictionary,
    /// What plugins compared with.
    words: Vec<String>,
    numbers: Vec<u64>,
}

impl<'d> Mutator<'d> {
    pub(super) fn new(seed: u64, dictionary: &'d Dictionary) -> Self {
        Self { random: Rng::with_seed(seed ^ 0x6d75_7461_7465), dictionary, words: Vec::new(), numbers: Vec::new() }
    }

    /// A changed copy; `other` is another input, of which parts may be taken.
    pub(super) fn mutate(&mut self, input: &Input, other: &Input, tables: &Tables) -> Input {
        let mut input = input.clone();
        for _ in 0..1 + self.random.u32(0..4) {
            match self.random.u8(0..16) {
                0..=2 => self.change_target(&mut input),
                3 => self.change_source(&mut input),
                4..=7 => self.change_options(&mut input),
                8 | 9 => self.change_labels(&mut input),
                10 => self.change_numbers(&mut input),
                11 => self.change_ends(&mut input),
                12 => self.change_table(&mut input, other, tables),
                13 => {
                    if let Some(fstype) = &mut input.request.fstype {
                        *fstype = self.changed(fstype);
                    }
                }
                14 => input.request.operation = other.request.operation,
                _ => self.splice(&mut input, other),
            }
        }
        consistent(&mut input);
        input
    }

    /// Remembers what was compared, and returns inputs in which one side of a comparison takes the place of the other.
    /// At most `room` of them are made.
    pub(super) fn learn(&mut self, input: &Input, comparisons: &[Comparison], room: usize) -> Vec<Input> {
        let mut derived = Vec::new();
        for comparison in comparisons {
            if derived.len() >= room {
                break;
            }
            match comparison {
                Comparison::Numbers(one, other) => {
                    self.remember_number(*one);
                    self.remember_number(*other);
                    for (from, to) in [(*one, *other), (*other, *one)] {
                        derived.extend(with_number(input, from, to));
                    }
                }
                Comparison::Texts(one, other) => {
                    for (from, to) in [(one, other), (other, one)] {
                        let (Ok(from), Ok(to)) = (std::str::from_utf8(from), std::str::from_utf8(to)) else { continue };
                        self.remember(to);
                        derived.extend(with_text(input, from, to));
                    }
                }
            }
        }
        derived.truncate(room);
        derived.iter_mut().for_each(consistent);
        derived
    }

    fn remember(&mut self, word: &str) {
        if word.is_empty() || word.chars().any(char::is_control) || self.words.iter().any(|known| known == word) {
            return;
        }
        if self.words.len() == MAX_WORDS {
            let at = self.random.usize(0..MAX_WORDS);
            self.words.swap_remove(at);
        }
        self.words.push(word.to_owned());
    }

    fn remember_number(&mut self, number: u64) {
        if self.numbers.contains(&number) {
            return;
        }
        if self.numbers.len() == MAX_WORDS {
            let at = self.random.usize(0..MAX_WORDS);
            self.numbers.swap_remove(at);
        }
        self.numbers.push(number);
    }

    /// A word of the settings, one that a plugin compared with, or an own one.
    fn word(&mut self) -> String {
        // What a policy looks for mostly stands in its settings.
        let lists = [&self.words, &self.dictionary.words, &self.dictionary.paths, &self.dictionary.of_settings];
        let list = lists[self.random.usize(0..4)];
        match list.len() {
            0 => "x".to_owned(),
            len => list[self.random.usize(0..len)].clone(),
        }
    }

    fn word_of_settings(&mut self) -> String {
        let words = &self.dictionary.of_settings;
        if words.is_empty() { self.word() } else { words[self.random.usize(0..words.len())].clone() }
    }

    fn number(&mut self) -> u64 {
        match (self.random.u8(0..3), self.numbers.len()) {
            (0, len) if len > 0 => self.numbers[self.random.usize(0..len)],
            (1, _) => self.random.u64(0..2000),
            _ => u64::from(NUMBERS[self.random.usize(0..NUMBERS.len())]),
        }
    }

    /// A text with a small change.
    fn changed(&mut self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        let at = self.random.usize(0..=chars.len());
        match self.random.u8(0..10) {
            0 => chars.insert(at, CHARACTERS[self.random.usize(0..CHARACTERS.len())]),
            1 if at < chars.len() => drop(chars.remove(at)),
            2 if at < chars.len() => chars[at] = CHARACTERS[self.random.usize(0..CHARACTERS.len())],
            3 if at < chars.len() => {
                let c = chars[at];
                chars[at] = if c.is_uppercase() { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() };
            }
            4 if at < chars.len() => {
                let near = u32::from(chars[at]).wrapping_add(if self.random.bool() { 1 } else { u32::MAX });
                chars[at] = char::from_u32(near).filter(|c| !c.is_control()).unwrap_or('x');
            }
            5 => return self.word(),
            6 => return format!("{text}{}", self.word()),
            7 => return format!("{}{text}", self.word()),
            8 => return self.number().to_string(),
            _ => {
                let again: Vec<char> = chars.clone();
                chars.extend(again);
            }
        }
        chars.into_iter().take(MAX_TEXT).collect()
    }

    fn change_target(&mut self, input: &mut Input) {
        let path = input.request.target.clone();
        input.request.target = self.changed_path(&path);
    }

    fn change_source(&mut self, input: &mut Input) {
        if let Some(source) = input.request.source.clone() {
            let changed = if source.starts_with('/') { self.changed_path(&source) } else { self.changed(&source) };
            input.request.source = Some(changed);
        }
    }

    fn changed_path(&mut self, path: &str) -> String {
        let mut parts: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
        let at = self.random.usize(0..=parts.len());
        match self.random.u8(0..7) {
            0 => {
                let word = self.word();
                parts.insert(at, word.trim_matches('/').to_owned());
            }
            1 if at < parts.len() => drop(parts.remove(at)),
            2 if at < parts.len() => {
                let part = parts[at].clone();
                parts[at] = self.changed(&part).replace('/', "");
            }
            3 if at < parts.len() => {
                let part = parts[at].clone();
                parts.insert(at, part);
            }
            4 => {
                let word = self.word();
                return if word.starts_with('/') { word } else { format!("/{word}") };
            }
            5 => return self.changed(path),
            _ => parts.push(self.number().to_string()),
        }
        format!("/{}", parts.join("/"))
    }

    fn change_options(&mut self, input: &mut Input) {
        let mut options: Vec<MountOption> = input.request.options.iter().cloned().collect();
        let at = self.random.usize(0..=options.len());
        match self.random.u8(0..8) {
            0 | 1 => {
                let name = if self.random.bool() {
                    OPTIONS[self.random.usize(0..OPTIONS.len())].to_owned()
                } else {
                    self.word()
                };
                let value = self
                    .random
                    .bool()
                    .then(|| if self.random.bool() { self.word() } else { self.number().to_string() });
                options.insert(at, MountOption { name, value });
            }
            2 if at < options.len() => drop(options.remove(at)),
            3 if at < options.len() => {
                let copy = options[at].clone();
                options.push(copy);
            }
            4 if options.len() > 1 => {
                let (one, other) = (at % options.len(), self.random.usize(0..options.len()));
                options.swap(one, other);
            }
            5 if at < options.len() => {
                let value = options[at].value.clone().unwrap_or_default();
                options[at].value = Some(self.changed(&value));
            }
            6 if at < options.len() => {
                let name = options[at].name.clone();
                options[at].name = self.changed(&name);
            }
            _ => {
                let copies = options.clone();
                options.extend(copies);
            }
        }
        options.truncate(200);
        input.request.options = options.into_iter().collect::<Options>();
    }

    fn change_labels(&mut self, input: &mut Input) {
        let labels = &mut input.requester.labels;
        if labels.is_empty() || self.random.u8(0..5) == 0 {
            // What a policy looks for is a pair, of which both words stand in its settings.
            let label = match self.random.bool() {
                true => Label { key: self.word(), value: self.word() },
                false => Label { key: self.word_of_settings(), value: self.word_of_settings() },
            };
            labels.insert(self.random.usize(0..=labels.len()), label);
            labels.truncate(50);
            return;
        }
        let at = self.random.usize(0..labels.len());
        match self.random.u8(0..4) {
            0 => drop(labels.remove(at)),
            1 => labels[at].key = self.changed(&labels[at].key.clone()),
            2 if labels.len() < 50 => labels.push(labels[at].clone()),
            _ => {
                labels[at].value = match self.random.u8(0..4) {
                    0 => self.word(),
                    1 => self.word_of_settings(),
                    _ => self.changed(&labels[at].value),
                };
            }
        }
    }

    fn change_numbers(&mut self, input: &mut Input) {
        let number = u32::try_from(self.number()).unwrap_or(u32::MAX);
        let word = self.word();
        let requester = &mut input.requester;
        match self.random.u8(0..7) {
            0 => requester.uid = number,
            1 => requester.gid = number,
            2 => requester.uid = requester.gid,
            3 => requester.gid = requester.uid.wrapping_add(number),
            4 => requester.cgroup = Some(format!("/{}", word.trim_start_matches('/'))),
            5 => requester.cgroup = None,
            _ => requester.uid ^= 1 << self.random.u32(0..32),
        }
    }

    /// Meets other mounts: those of another input, some that a search begins with, or its own with a small change.
    fn change_table(&mut self, input: &mut Input, other: &Input, tables: &Tables) {
        input.table = match self.random.u8(0..8) {
            0 => tables.pick(&mut self.random),
            1 => other.table.clone(),
            2 | 3 => self.with_other_paths(input).unwrap_or_else(|| other.table.clone()),
            _ => self.changed_table(input).unwrap_or_else(|| tables.pick(&mut self.random)),
        };
    }

    /// The table of an input on a host where one path more, or one less, is a link.
    fn with_other_paths(&mut self, input: &Input) -> Option<Arc<Table>> {
        let known = &self.dictionary.paths;
        let mut paths = input.table.paths().clone();
        if paths.len() >= MAX_PATHS || (!paths.is_empty() && self.random.bool()) {
            let gone = paths.keys().nth(self.random.usize(0..paths.len()))?.clone();
            paths.remove(&gone);
        } else {
            let path = known.get(self.random.usize(0..known.len().max(1)))?;
            // A policy that gives up where a configured path leads nowhere is right.
            let to = match self.random.u8(0..3) {
                0 => Some(input.target.path.clone()),
                1 => input.source.as_ref().map(|source| source.path.clone()),
                _ => known.get(self.random.usize(0..known.len())).cloned(),
            };
            if let Some(to) = to.filter(|to| to.starts_with('/') && path.starts_with('/')) {
                paths.insert(path.clone(), Some(to));
            }
        }
        Table::with_paths(input.table.text().to_owned(), paths).ok()
    }

    /// The table of an input with one line added, removed or changed, or with many more.
    fn changed_table(&mut self, input: &Input) -> Option<Arc<Table>> {
        let mut lines: Vec<String> = input.table.text().lines().map(str::to_owned).collect();
        if lines.is_empty() {
            lines.push("20 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw".to_owned());
        }
        let at = self.random.usize(0..lines.len());
        let ids = lines.iter().filter_map(|line| line.split(' ').next()?.parse::<u64>().ok());
        let next = ids.max().filter(|id| *id < u64::MAX / 2)? + 1;
        match self.random.u8(0..8) {
            0 => drop(lines.remove(at)),
            1 | 2 => {
                let mount_point =
                    if self.random.bool() { input.request.target.clone() } else { self.changed_path("/mnt") };
                let device = self.random.u32(30..60);
                lines.push(format!("{next} 20 0:{device} / {} rw - tmpfs tmpfs rw", escaped(&mount_point)));
            }
            3 => {
                let count = [1, 10, 100, 1000, 5000][usize::from(self.random.u8(0..20) % 17 / 4).min(4)];
                let more = (0..count).map(|n| format!("{} 20 0:{} / /mnt/m{n} rw - tmpfs tmpfs rw", next + n, 100 + n));
                lines.extend(more);
            }
            _ => {
                let mut fields: Vec<String> = lines[at].split(' ').map(str::to_owned).collect();
                let field = self.random.usize(2..fields.len().max(3));
                let word = if self.random.bool() { self.word() } else { self.changed(fields.get(field)?) };
                *fields.get_mut(field)? = match field {
                    2 => format!("0:{}", self.random.u32(0..64)),
                    3 | 4 => escaped(&format!("/{}", word.trim_start_matches('/'))),
                    _ => escaped(&word),
                };
                lines[at] = fields.join(" ");
            }
        }
        lines.truncate(MAX_MOUNTS);
        let table = Table::with_paths(lines.join("\n") + "\n", input.table.paths().clone());
        table.ok().filter(|table| table.is_of_a_host())
    }

    fn change_ends(&mut self, input: &mut Input) {
        let kinds = [
            FileKind::Directory,
            FileKind::Regular,
            FileKind::BlockDevice,
            FileKind::CharDevice,
            FileKind::Fifo,
            FileKind::Socket,
        ];
        let (kind, number) = (kinds[self.random.usize(0..6)], self.number());
        let word = self.word();
        let what = self.random.u8(0..7);
        let is_source = self.random.bool();
        if what == 6 {
            let is_device = matches!(kind, FileKind::BlockDevice | FileKind::CharDevice);
            let device = Device { major: 8, minor: u32::try_from(number).unwrap_or(1) % 64 };
            input.option_paths = ends_of_options(input, kind, Some(device).filter(|_| is_device));
            return;
        }
        let path = input.request.source.clone().unwrap_or_default();
        let end: &mut ResolvedPath = match &mut input.source {
            Some(source) if is_source => source,
            _ => &mut input.target,
        };
        match what {
            0 => end.kind = kind,
            1 => end.device = Some(Device { major: 8, minor: u32::try_from(number).unwrap_or(1) % 256 }),
            2 => end.symlinks.push(if word.starts_with('/') { word } else { format!("/{word}") }),
            3 => {
                let major = [0, 8][usize::from(is_source)];
                let device = Device { major, minor: u32::try_from(number).unwrap_or(1) % 64 };
                let location = Location { device, path: lexical(&format!("/{word}")) };
                if number % 8 == 7 && is_source {
                    end.storage = vec![location];
                } else {
                    end.location = (number % 3 > 0).then_some(location);
                }
            }
            4 => end.symlinks.push(if path.starts_with('/') { path } else { end.path.clone() }),
            _ => end.covering_mount = Some(20 + number % 8),
        }
        end.symlinks.truncate(20);
    }

    fn splice(&mut self, input: &mut Input, other: &Input) {
        match self.random.u8(0..5) {
            0 => input.request.options = other.request.options.clone(),
            1 => input.requester.labels.clone_from(&other.requester.labels),
            2 => input.request.target.clone_from(&other.request.target),
            3 => {
                input.requester.uid = other.requester.uid;
                input.requester.gid = other.requester.gid;
            }
            _ => {
                input.request.source.clone_from(&other.request.source);
                input.source.clone_from(&other.source);
                input.request.operation = other.request.operation;
                input.request.fstype.clone_from(&other.request.fstype);
            }
        }
    }
}

/// A word of mountinfo, as the kernel escapes it.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        ' ' | '\t' | '\n' | '\\' => format!("\\{:03o}", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// What the host would have found at the paths that are written now.
fn consistent(input: &mut Input) {
    if !input.request.target.starts_with('/') {
        input.request.target.insert(0, '/');
    }
    let at = |end: &mut ResolvedPath, written: &str| {
        if end.symlinks.is_empty() {
            end.path = lexical(written);
        }
    };
    at(&mut input.target, &input.request.target);
    // A directory is bound on a directory, and anything else on a file.
    if let Some(source) = input.source.as_ref().filter(|_| input.request.operation.source_is_path()) {
        let is_directory = source.kind == FileKind::Directory;
        if is_directory != (input.target.kind == FileKind::Directory) {
            input.target.kind = if is_directory { FileKind::Directory } else { FileKind::Regular };
        }
    }
    if let (Some(end), Some(written)) = (&mut input.source, &input.request.source)
        && written.starts_with('/')
    {
        at(end, written);
    }
    fit_ends_of_options(input);
    without_impossible_links(input);
}

/// Leaves of what was found in options what was found at their paths of now. At the others are directories.
pub(super) fn fit_ends_of_options(input: &mut Input) {
    if input.option_paths.is_empty() {
        return;
    }
    let mut before = std::mem::take(&mut input.option_paths);
    let mut fitting = ends_of_options(input, FileKind::Directory, None);
    for end in &mut fitting {
        let is_it = |known: &OptionPath| known.option == end.option && known.found.path == end.found.path;
        if let Some(at) = before.iter().position(is_it) {
            *end = before.remove(at);
        }
    }
    let is_plain = |end: &OptionPath| end.found.kind == FileKind::Directory && end.found.location.is_none();
    if !fitting.iter().all(is_plain) {
        input.option_paths = fitting;
    }
}

/// What the host finds at the paths in the options, if all of it is of one kind.
fn ends_of_options(input: &Input, kind: FileKind, device: Option<Device>) -> Vec<OptionPath> {
    let found = |path: &str| ResolvedPath {
        path: lexical(path),
        kind,
        location: None,
        device,
        storage: Vec::new(),
        symlinks: Vec::new(),
        covering_mount: None,
    };
    let options = input.request.options.iter();
    let written = options.flat_map(|option| paths_in(option).into_iter().map(move |written| (option, written)));
    let ends = written.map(|(option, written)| OptionPath { option: option.name.clone(), found: found(&written.path) });
    ends.take(MAX_OPTION_PATHS).collect()
}

/// Takes away the links of the host that the rest of an input rules out.
pub(super) fn without_impossible_links(input: &mut Input) {
    // What was found at the ends goes through no link, and neither does what a link leads to.
    let in_options = input.option_paths.iter().map(|end| &end.found);
    let ends = [Some(&input.target), input.source.as_ref()].into_iter().flatten().chain(in_options);
    let ends: Vec<&str> = ends.map(|end| end.path.as_str()).collect();
    let paths = input.table.paths();
    let reals = paths.values().flatten().map(String::as_str);
    let is_wrong = |path: &String| ends.iter().copied().chain(reals.clone()).any(|real| is_within(real, path));
    if paths.keys().any(is_wrong) {
        let left =
            paths.iter().filter(|(path, _)| !is_wrong(path)).map(|(path, to)| (path.clone(), to.clone())).collect();
        if let Ok(table) = Table::with_paths(input.table.text().to_owned(), left) {
            input.table = table;
        }
    }
}
