//! Inputs that are made of what a plugin compared: one side takes the place of the other, wherever it may have come from.

use super::input::Input;
use crate::model::options::MountOption;

/// How long a text becomes because its length is compared with that.
const MAX_LENGTH: usize = 64;

/// The texts of an input, apart from those of its options.
fn texts(input: &mut Input) -> Vec<&mut String> {
    let mut texts = vec![&mut input.request.target];
    texts.extend(&mut input.request.source);
    texts.extend(&mut input.request.fstype);
    texts.extend(&mut input.requester.cgroup);
    for label in &mut input.requester.labels {
        texts.extend([&mut label.key, &mut label.value]);
    }
    texts
}

/// The input with another option in the place of one.
fn with_option(input: &Input, number: usize, other: MountOption) -> Input {
    let mut changed = input.clone();
    let mut options: Vec<MountOption> = input.request.options.iter().cloned().collect();
    options[number] = other;
    changed.request.options = options.into_iter().collect();
    changed
}

/// Inputs in which a text takes the place of another.
pub(super) fn with_text(input: &Input, from: &str, to: &str) -> Vec<Input> {
    let mut derived = Vec::new();
    if from.is_empty() {
        return derived;
    }
    let mut copy = input.clone();
    let found = texts(&mut copy).into_iter().enumerate().filter(|(_, text)| text.contains(from));
    let numbers: Vec<usize> = found.map(|(number, _)| number).collect();
    for number in numbers {
        let mut changed = input.clone();
        let mut all = texts(&mut changed);
        *all[number] = all[number].replacen(from, to, 1);
        derived.push(changed);
    }
    for (number, option) in input.request.options.iter().enumerate() {
        for is_value in [false, true] {
            let text = if is_value { option.value.as_deref().unwrap_or_default() } else { option.name.as_str() };
            if !text.contains(from) {
                continue;
            }
            let text = text.replacen(from, to, 1);
            let other = match is_value {
                true => MountOption { value: Some(text), ..option.clone() },
                false => MountOption { name: text, ..option.clone() },
            };
            derived.push(with_option(input, number, other));
        }
    }
    derived
}

/// Inputs in which a number takes the place of the value of an option that has all bits of another: what is compared may be some bits of a
/// mode.
fn with_bits(input: &Input, from: u64, to: u64) -> Vec<Input> {
    let mut derived = Vec::new();
    for (number, option) in input.request.options.iter().enumerate() {
        let Some(value) = option.value.as_ref().filter(|_| from != 0) else { continue };
        for (radix, text) in [(8, format!("{to:o}")), (10, to.to_string())] {
            let has_bits = |value: u64| value & from == from && value != from;
            if u64::from_str_radix(value, radix).is_ok_and(has_bits) {
                derived.push(with_option(input, number, MountOption { value: Some(text), ..option.clone() }));
            }
        }
    }
    derived
}

/// Inputs in which a text of one length gets another: what is compared may be the length of a text.
fn with_length(input: &Input, from: u64, to: u64) -> Vec<Input> {
    let mut derived = Vec::new();
    let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to)) else { return derived };
    if from == 0 || !(1..=MAX_LENGTH).contains(&to) {
        return derived;
    }
    let resized = |text: &str| {
        let longer = text.chars().chain(std::iter::repeat_n('x', to));
        let mut len = 0;
        let fits = |c: &char| {
            len += c.len_utf8();
            len <= to
        };
        longer.take_while(fits).collect::<String>()
    };
    let mut copy = input.clone();
    let of_length = texts(&mut copy).into_iter().enumerate().filter(|(_, text)| text.len() == from);
    for (number, text) in of_length.map(|(number, text)| (number, resized(text))).collect::<Vec<_>>() {
        let mut changed = input.clone();
        *texts(&mut changed)[number] = text;
        derived.push(changed);
    }
    for (number, option) in input.request.options.iter().enumerate() {
        let is_name = option.name.len() == from;
        let value = option.value.as_ref().filter(|value| value.len() == from);
        let named = is_name.then(|| MountOption { name: resized(&option.name), ..option.clone() });
        let valued = value.map(|value| MountOption { value: Some(resized(value)), ..option.clone() });
        derived.extend(named.into_iter().chain(valued).map(|other| with_option(input, number, other)));
    }
    derived
}

/// Inputs in which a number takes the place of another: as an id, in decimal digits, or as the bytes of a text.
pub(super) fn with_number(input: &Input, from: u64, to: u64) -> Vec<Input> {
    let mut derived = Vec::new();
    let mut with = |change: &dyn Fn(&mut Input)| {
        let mut changed = input.clone();
        change(&mut changed);
        derived.push(changed);
    };
    if let Ok(to) = u32::try_from(to) {
        if u64::from(input.requester.uid) == from {
            with(&|input| input.requester.uid = to);
        }
        if u64::from(input.requester.gid) == from {
            with(&|input| input.requester.gid = to);
        }
    }
    derived.extend(with_text(input, &from.to_string(), &to.to_string()));
    derived.extend(with_bits(input, from, to));
    derived.extend(with_length(input, from, to));
    let bytes = |number: u64| {
        let bytes = number.to_le_bytes();
        let len = 8 - usize::try_from(number.leading_zeros() / 8).unwrap_or(0);
        String::from_utf8(bytes[..len].to_vec()).ok().filter(|text| !text.chars().any(char::is_control))
    };
    if let (Some(from), Some(to)) = (bytes(from), bytes(to)) {
        derived.extend(with_text(input, &from, &to));
    }
    derived
}
