//! Bugs that may be looked at while the fuzzer is tuned.

use mountgate_sdk::{Edit, MountOption, Operation, Review, Verdict};

use crate::{Bug, Effect};

pub(crate) const BUGS: [(&str, Bug); 12] = [
    ("label-of-8-bytes", label),
    ("three-nested-conditions", nested),
    ("loop-on-a-path", loops),
    ("non-ascii-slice", slice),
    ("ids-that-add-up", sum),
    ("order-of-options", order),
    ("link-equals-source", link),
    ("octal-bits", octal),
    ("depends-on-the-pid", pid),
    ("rewrite-that-grows", grows),
    ("case-folding", folding),
    ("many-options", many),
];

fn label(review: &Review) -> Effect {
    review.requester.labels.iter().any(|label| label.key == "zone-key").into()
}

fn nested(review: &Review) -> Effect {
    let request = &review.request;
    if matches!(request.operation, Operation::Bind(true)) && request.target.starts_with("/srv/") {
        return request.options.iter().any(|option| option.name == "nosymfollow").into();
    }
    Effect::None
}

fn loops(review: &Review) -> Effect {
    let mut rest = review.request.target.as_str();
    while let Some(at) = rest.find('/') {
        // Two slashes in a row: it never moves on.
        let next = rest.get(at + 1..).unwrap_or_default();
        if !next.starts_with('/') {
            rest = next;
        }
    }
    Effect::None
}

fn slice(review: &Review) -> Effect {
    let target = &review.request.target;
    // The first eight bytes, which may end within a character.
    (target.len() > 8 && !target.is_char_boundary(8)).into()
}

fn sum(review: &Review) -> Effect {
    let (uid, gid) = (review.requester.uid, review.requester.gid);
    (uid > 0 && gid > 0 && uid.wrapping_add(gid) == 4242).into()
}

fn order(review: &Review) -> Effect {
    let names: Vec<&str> = review.request.options.iter().map(|option| option.name.as_str()).collect();
    let at = |name: &str| names.iter().position(|found| *found == name);
    match (at("nodev"), at("ro"), at("noexec")) {
        (Some(first), Some(second), Some(third)) => (first < second && second < third && names.len() == 4).into(),
        _ => Effect::None,
    }
}

fn link(review: &Review) -> Effect {
    let source = review.request.source.as_deref().unwrap_or_default();
    review.target.symlinks.iter().any(|link| link == source).into()
}

fn octal(review: &Review) -> Effect {
    let mode =
        review.request.options.iter().filter(|option| option.name == "mode").find_map(|option| option.value.as_ref());
    let bits = mode.and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(0);
    (bits & 0o7007 == 0o4002).into()
}

fn pid(review: &Review) -> Effect {
    if review.request.target.starts_with("/opt") && review.requester.pid.is_multiple_of(2) {
        return add("noatime");
    }
    Effect::None
}

fn grows(review: &Review) -> Effect {
    let option = |name: &str| review.request.options.iter().rev().find(|option| option.name == name);
    match option("uid").and_then(|option| option.value.as_ref()) {
        Some(value) if value.len() < 40 => {
            let value = Some(format!("{value}0"));
            Effect::Answer(Verdict::Rewrite(vec![Edit::AddOption(MountOption { name: "uid".to_owned(), value })]))
        }
        _ => Effect::None,
    }
}

fn folding(review: &Review) -> Effect {
    let fstype = review.request.fstype.as_deref().unwrap_or_default();
    (fstype != "xfs" && fstype.eq_ignore_ascii_case("xfs")).into()
}

fn many(review: &Review) -> Effect {
    (review.request.options.len() > 30).into()
}

pub(crate) fn add(name: &str) -> Effect {
    Effect::Answer(Verdict::Rewrite(vec![Edit::AddOption(MountOption { name: name.to_owned(), value: None })]))
}
