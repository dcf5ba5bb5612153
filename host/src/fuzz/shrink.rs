//! Makes an input smaller for as long as it shows the same.

use super::input::Input;
use super::mutate::{fit_ends_of_options, without_impossible_links};
use super::tables::Table;
use crate::model::options::Options;
use crate::model::paths::lexical;
use crate::model::requester::Requester;

/// How many lines of a table are left out one by one.
const MAX_LINES: usize = 20;

pub(super) fn shrink(mut input: Input, shows: impl Fn(&Input) -> bool) -> Input {
    while let Some(smaller) = candidates(&input).into_iter().find(|smaller| shows(smaller)) {
        input = smaller;
    }
    input
}

/// Every input that is one step smaller, the boldest step first.
fn candidates(input: &Input) -> Vec<Input> {
    let mut smaller = Vec::new();
    let mut with = |change: &dyn Fn(&mut Input)| {
        let mut candidate = input.clone();
        change(&mut candidate);
        fit_ends_of_options(&mut candidate);
        without_impossible_links(&mut candidate);
        smaller.push(candidate);
    };
    let options: Vec<_> = input.request.options.iter().cloned().collect();
    if !options.is_empty() {
        with(&|input| input.request.options = Options::default());
    }
    if options.len() > 2 {
        for half in [&options[..options.len() / 2], &options[options.len() / 2..]] {
            with(&|input| input.request.options = half.iter().cloned().collect());
        }
    }
    for i in 0..options.len() {
        let left = || options.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, option)| option.clone());
        with(&|input| input.request.options = left().collect());
        if options[i].value.is_some() {
            with(&|input| {
                let mut options = options.clone();
                options[i].value = None;
                input.request.options = options.into_iter().collect();
            });
        }
    }
    let lines: Vec<&str> = input.table.text().lines().collect();
    let mut with_lines = |left: &[&str]| {
        let text = left.iter().map(|line| format!("{line}\n")).collect();
        if let Ok(table) = Table::with_paths(text, input.table.paths().clone())
            && table.is_of_a_host()
        {
            with(&|input| input.table = table.clone());
        }
    };
    if !lines.is_empty() {
        with_lines(&[]);
        with_lines(&lines[..1]);
    }
    if lines.len() > 2 {
        with_lines(&lines[..lines.len() / 2]);
        with_lines(&lines[lines.len() / 2..]);
    }
    // Line by line where there are few.
    for i in 0..if lines.len() <= MAX_LINES { lines.len() } else { 0 } {
        let left: Vec<&str> = lines.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, line)| *line).collect();
        with_lines(&left);
    }
    for path in input.table.paths().keys() {
        let mut paths = input.table.paths().clone();
        paths.remove(path);
        if let Ok(table) = Table::with_paths(input.table.text().to_owned(), paths) {
            with(&|input| input.table = table.clone());
        }
    }
    if input.target.path != input.request.target || !input.target.symlinks.is_empty() {
        with(&|input| {
            input.target.path = lexical(&input.request.target);
            input.target.symlinks.clear();
        });
        with(&|input| {
            input.request.target = input.target.path.clone();
            input.target.symlinks.clear();
        });
    }
    if input.request.target != "/mnt" {
        with(&|input| {
            input.request.target = "/mnt".to_owned();
            input.target.path = "/mnt".to_owned();
        });
    }
    if let Some((parent, name)) = input.request.target.rsplit_once('/')
        && !parent.is_empty()
        && !name.is_empty()
    {
        with(&|input| {
            input.request.target = parent.to_owned();
            input.target.path = lexical(parent);
        });
    }
    let pid = input.requester.pid;
    let plain = Requester { pid: pid % 2 + 2, ..Requester::default() };
    if input.requester != plain {
        with(&|input| input.requester = plain.clone());
    }
    for i in 0..input.requester.labels.len() {
        with(&|input| drop(input.requester.labels.remove(i)));
    }
    with(&|input| input.requester.cgroup = None);
    if input.request.source.as_deref().is_some_and(|source| !source.starts_with('/')) {
        with(&|input| input.request.source = Some("x".to_owned()));
    }
    if !input.option_paths.is_empty() {
        with(&|input| input.option_paths.clear());
    }
    if input.target.location.is_some() {
        with(&|input| input.target.location = None);
    }
    if input.target.covering_mount.is_some() {
        with(&|input| input.target.covering_mount = None);
    }
    // A candidate that is the input itself would never end.
    smaller.retain(|candidate| size(candidate) < size(input));
    smaller
}

/// What shrinks.
fn size(input: &Input) -> usize {
    let options: usize = input.request.options.iter().map(|option| 100 + option.to_string().len()).sum();
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let labels: usize = input.requester.labels.iter().map(|label| 10 + label.key.len() + label.value.len()).sum();
    let requester = usize::from(input.requester.uid != 0)
        + usize::from(input.requester.gid != 0)
        + usize::from(input.requester.pid > 3)
        + text(&input.requester.cgroup)
        + labels;
    options
        + input.table.text().len()
        + input.table.paths().len() * 10
        + input.option_paths.len() * 10
        + requester
        + text(&input.request.source)
        + usize::from(input.target.location.is_some())
        + input.target.symlinks.len() * 10
        + input.request.target.len()
        + usize::from(input.request.target != "/mnt")
        + input.target.path.len()
        + usize::from(input.target.covering_mount.is_some())
}
