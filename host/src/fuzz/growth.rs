//! Inputs with more and more of something, to see how the work grows.

use super::input::Input;
use crate::model::options::{MountOption, Options};
use crate::model::requester::Label;

/// How many there are, each time twice as many.
pub(super) const COUNTS: [usize; 3] = [32, 64, 128];

/// Makes an input with so many more.
type Grow = fn(&Input, usize) -> Input;

/// What there can be many of.
pub(super) const GROWN: [(&str, Grow); 5] = [
    ("options", options),
    ("labels", labels),
    ("folders in the target", folders),
    ("letters in the target", letters),
    ("letters in an option", long_option),
];

fn options(input: &Input, count: usize) -> Input {
    let last = input.request.options.iter().last().cloned();
    let last = last.unwrap_or_else(|| MountOption { name: "x".to_owned(), value: None });
    let more = (0..count).map(|i| MountOption { name: format!("{}{i}", last.name), value: last.value.clone() });
    let mut grown = input.clone();
    grown.request.options = input.request.options.iter().cloned().chain(more).collect();
    grown
}

fn labels(input: &Input, count: usize) -> Input {
    let last = input.requester.labels.last().cloned();
    let last = last.unwrap_or_else(|| Label { key: "x".to_owned(), value: "x".to_owned() });
    let mut grown = input.clone();
    let more = (0..count).map(|i| Label { key: format!("{}{i}", last.key), value: last.value.clone() });
    grown.requester.labels.extend(more);
    grown
}

fn folders(input: &Input, count: usize) -> Input {
    with_target(input, &"/a".repeat(count))
}

fn letters(input: &Input, count: usize) -> Input {
    // A file name has 255 bytes at most.
    with_target(input, &format!("/{}", "a".repeat(199)).repeat(count / 16))
}

fn with_target(input: &Input, more: &str) -> Input {
    let mut grown = input.clone();
    for path in [&mut grown.request.target, &mut grown.target.path] {
        path.push_str(more);
    }
    if let Some(location) = &mut grown.target.location {
        location.path.push_str(more);
    }
    grown
}

fn long_option(input: &Input, count: usize) -> Input {
    let mut options: Vec<MountOption> = input.request.options.iter().cloned().collect();
    if options.is_empty() {
        options.push(MountOption { name: "x".to_owned(), value: None });
    }
    if let Some(last) = options.last_mut() {
        last.value = Some(format!("{}{}", last.value.as_deref().unwrap_or_default(), "a".repeat(count * 8)));
    }
    let mut grown = input.clone();
    grown.request.options = options.into_iter().collect::<Options>();
    grown
}
