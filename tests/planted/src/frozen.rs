//! Bugs that the fuzzer is not tuned for. Nobody changes the fuzzer for one of these.

use mountgate_sdk::{FileKind, Operation, Review};

use crate::{Bug, Effect};

pub(crate) const BUGS: [(&str, Bug); 12] = [
    ("suffix-multiplied", suffix),
    ("split-comparison", split),
    ("fields-that-are-equal", equal),
    ("depth-over-an-array", depth),
    ("number-that-allocates", allocates),
    ("contradicting-duplicates", contradicts),
    ("depends-on-an-id", id),
    ("checksum", checksum),
    ("quadratic-fuel", quadratic),
    ("prefix-by-characters", prefix),
    ("kind-and-device", kind),
    ("word-in-three-places", places),
];

/// `size=` with a suffix: what it comes to doesn't fit.
fn suffix(review: &Review) -> Effect {
    for option in review.request.options.iter().filter(|option| option.name == "size") {
        let value = option.value.as_deref().unwrap_or_default();
        let (digits, factor) = match value.as_bytes().last() {
            Some(b'k') => (&value[..value.len() - 1], 1_u32 << 10),
            Some(b'm') => (&value[..value.len() - 1], 1 << 20),
            Some(b'g') => (&value[..value.len() - 1], 1 << 30),
            _ => (value, 1),
        };
        if factor > 1 && digits.parse::<u32>().is_ok_and(|number| number.checked_mul(factor).is_none()) {
            return Effect::Trap;
        }
    }
    Effect::None
}

/// A word of 12 bytes in two comparisons.
fn split(review: &Review) -> Effect {
    let matches = |value: &str| value.len() == 12 && value.starts_with("tenant") && value.ends_with("-zebra");
    review.requester.labels.iter().any(|label| matches(&label.value)).into()
}

/// The type is the last part of the target.
fn equal(review: &Review) -> Effect {
    let last = review.request.target.rsplit('/').next().unwrap_or_default();
    (last.len() > 2 && review.request.fstype.as_deref() == Some(last)).into()
}

/// An array of ten for the parts of a path.
fn depth(review: &Review) -> Effect {
    (review.request.target.split('/').filter(|part| !part.is_empty()).count() > 10).into()
}

/// A number of options that is taken for a number of megabytes.
fn allocates(review: &Review) -> Effect {
    let option = review.request.options.iter().find(|option| option.name == "nr_inodes" || option.name == "uid");
    let number =
        option.and_then(|option| option.value.as_deref()).and_then(|value| value.parse::<usize>().ok()).unwrap_or(0);
    (number > 20_000).into()
}

/// `size` twice, with different values.
fn contradicts(review: &Review) -> Effect {
    let values: Vec<_> =
        review.request.options.iter().filter(|option| option.name == "size").map(|option| &option.value).collect();
    (values.len() > 1 && values.first() != values.last()).into()
}

/// One user of many.
fn id(review: &Review) -> Effect {
    (review.requester.uid == 70_077).into()
}

/// The bytes of a label add up to a number.
fn checksum(review: &Review) -> Effect {
    let sum = |text: &str| text.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    review.requester.labels.iter().any(|label| label.value.len() > 3 && sum(&label.value) % 251 == 17).into()
}

/// Each option is compared with each other one, and with each byte of the target.
fn quadratic(review: &Review) -> Effect {
    let options = &review.request.options;
    let mut same = 0_u32;
    for one in options {
        for other in options {
            for byte in review.request.target.bytes() {
                same =
                    same.wrapping_mul(33).wrapping_add(u32::from(one.name.len() == other.name.len()) + u32::from(byte));
            }
        }
    }
    (same == u32::MAX).into()
}

/// A folder whose name only begins like an allowed one.
fn prefix(review: &Review) -> Effect {
    let target = &review.request.target;
    (target.starts_with("/mnt/data") && !target.starts_with("/mnt/data/") && target.len() > "/mnt/data".len()).into()
}

/// A character device with a number of its own.
fn kind(review: &Review) -> Effect {
    let end = review.source.as_ref().filter(|end| end.kind == FileKind::CharDevice);
    end.and_then(|end| end.device.as_ref()).is_some_and(|device| device.minor > 100).into()
}

/// The same word as a label, as an option and in the target, in a request to unmount or to bind.
fn places(review: &Review) -> Effect {
    let request = &review.request;
    let is_asked = matches!(request.operation, Operation::Bind(_) | Operation::Mount);
    let word = review.requester.labels.first().map(|label| label.key.as_str()).filter(|word| word.len() > 2);
    let found = word
        .is_some_and(|word| request.target.contains(word) && request.options.iter().any(|option| option.name == word));
    (is_asked && found).into()
}
