//! What a plugin returns, as WIT values.

use super::parts::parts;
use crate::decision::edit_rules::check_edits;
use crate::model::edit::Field;
use crate::model::options::Options;
use crate::model::request::{MountRequest, Operation};
use crate::model::untrusted::is_hidden;
use crate::model::verdict::Verdict;
use crate::policy::engine::bindings::mountgate::policy::types as wit;
use crate::policy::engine::contract_v0_1::verdict as converted;

/// The options of the request that is changed.
const OPTIONS: &str = "ro,nosuid,dev,noexec,password=hidden-word,nosymfollow,rslave";
const RESTRICTIONS: [(&str, &str); 5] =
    [("ro", "rw"), ("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec"), ("nosymfollow", "symfollow")];

/// A verdict: `allow`; `deny` with code, reason, field and hint; or else a word that stands for edits, and those, each a part
/// that begins with a character for its kind. One that passes has nothing that drives a terminal, and leaves no restriction out and gives no right.
///
/// # Panics
/// Where that doesn't hold.
pub(super) fn verdict(data: &[u8]) {
    let mut parts = parts(data);
    let verdict = match parts.next().as_deref() {
        Some("allow") => wit::Verdict::Allow,
        Some("deny") => wit::Verdict::Deny(wit::Denial {
            code: parts.next().unwrap_or_default(),
            reason: parts.next().unwrap_or_default(),
            field: parts.next(),
            hint: parts.next(),
        }),
        _ => wit::Verdict::Rewrite(parts.filter_map(|part| edit(&part)).collect()),
    };
    match converted(verdict).check() {
        Err(problem) => assert!(!problem.chars().any(is_hidden), "{problem:?}"),
        Ok(Verdict::Allow) => {}
        Ok(Verdict::Deny(denial)) => {
            assert!(!denial.code.is_empty() && denial.code.len() <= 64 && !denial.reason.trim().is_empty());
            let texts = [Some(&denial.reason), denial.field.as_ref(), denial.hint.as_ref()];
            assert!(!texts.into_iter().flatten().any(|text| text.chars().any(char::is_control)));
        }
        Ok(Verdict::Rewrite(edits)) => {
            let before = MountRequest {
                operation: Operation::Bind { recursive: false },
                source: Some("/srv".to_owned()),
                target: "/mnt".to_owned(),
                fstype: None,
                options: Options::parse(OPTIONS),
            };
            let mut after = before.clone();
            edits.iter().for_each(|edit| edit.apply(&mut after));
            let all = [Field::Source, Field::Target, Field::Fstype, Field::Options];
            let shown: Vec<String> = edits.iter().map(ToString::to_string).collect();
            assert!(!shown.iter().any(|text| text.chars().any(char::is_control)));
            if check_edits(&all, &edits, &before, &after).is_err() {
                return;
            }
            for (restriction, right) in RESTRICTIONS {
                let counts = |request: &MountRequest| {
                    let mut names = request.options.iter().rev().map(|option| option.name.clone());
                    names.find(|name| name == restriction || name == right)
                };
                let (was, is) = (counts(&before), counts(&after));
                assert!(was.as_deref() != Some(restriction) || was == is, "{restriction} was taken away: {shown:?}");
                assert!(is.as_deref() != Some(right) || was == is, "{right} was given: {shown:?}");
            }
        }
    }
}

/// An edit as text: `s`, `t` and `f` set the source, target and type, `+` adds an option, `-` drops some.
fn edit(text: &str) -> Option<wit::Edit> {
    let mut rest = text.chars();
    let kind = rest.next()?;
    let rest = rest.as_str();
    Some(match kind {
        's' => wit::Edit::SetSource(rest.to_owned()),
        't' => wit::Edit::SetTarget(rest.to_owned()),
        'f' => wit::Edit::SetFstype(rest.to_owned()),
        '+' => {
            let (name, value) = rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value)));
            wit::Edit::AddOption(wit::MountOption { name: name.to_owned(), value: value.map(str::to_owned) })
        }
        '-' => wit::Edit::DropOption(rest.to_owned()),
        _ => return None,
    })
}
