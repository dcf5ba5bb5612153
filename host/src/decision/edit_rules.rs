//! Which edits of a policy the host lets pass.

use crate::model::edit::{Edit, Field};
use crate::model::failure::{Failure, FailureKind};
use crate::model::option_names::propagation_of_word;
use crate::model::options::Options;
use crate::model::request::{MountRequest, PropagationType};

/// Judges a policy's edits. It may change only the fields that it has permission for. It may take no protection away and
/// give no right back.
///
/// # Errors
/// How the policy failed.
pub(crate) fn check_edits(
    permitted: &[Field],
    edits: &[Edit],
    before: &MountRequest,
    after: &MountRequest,
) -> Result<(), Failure> {
    if let Some(edit) = edits.iter().find(|edit| !permitted.contains(&edit.field())) {
        let field = edit.field().name();
        return Err(Failure::new(
            FailureKind::NotPermitted,
            format!("it changed {field} ({edit}) without permission; to permit it, set rewrites = [\"{field}\"]"),
        ));
    }
    let (options, changed) = (&before.options, &after.options);
    if let Some(lost) = options.restrictions().find(|flag| !changed.restrictions().any(|kept| kept == *flag)) {
        return Err(Failure::new(FailureKind::Weakened, format!("it took {lost} away")));
    }
    let tells = |options: &Options| {
        let last = options.iter().rev().find_map(|option| propagation_of_word(&option.name));
        last.is_some_and(|propagation| propagation.kind == PropagationType::Shared)
    };
    if tells(changed) && !tells(options) {
        return Err(Failure::new(
            FailureKind::Weakened,
            "it made a bind tell its source what is mounted on it".to_owned(),
        ));
    }
    // A bind or a remount starts from flags that aren't in the request: only the requester may ask for rights.
    match changed.permissions().find(|right| !options.permissions().any(|asked| asked == *right)) {
        Some(right) => Err(Failure::new(FailureKind::Weakened, format!("it added {right}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::options::MountOption;
    use crate::model::request::Operation;

    fn request(options: &str) -> MountRequest {
        MountRequest {
            operation: Operation::Bind { recursive: false },
            source: Some("/srv".to_owned()),
            target: "/mnt".to_owned(),
            fstype: None,
            options: Options::parse(options),
        }
    }

    /// Applies these edits to a request with these options. Returns the code of the failure, if there is one.
    fn judged(permitted: &[Field], options: &str, edits: &[Edit]) -> Option<&'static str> {
        let before = request(options);
        let mut after = before.clone();
        edits.iter().for_each(|edit| edit.apply(&mut after));
        check_edits(permitted, edits, &before, &after).err().map(|failure| failure.kind.code())
    }

    fn add(name: &str) -> Edit {
        Edit::AddOption(MountOption::flag(name))
    }

    #[test]
    fn only_permitted_fields_may_change() {
        for (edit, field) in [
            (Edit::SetSource("/x".to_owned()), Field::Source),
            (Edit::SetTarget("/x".to_owned()), Field::Target),
            (Edit::SetFstype("ext4".to_owned()), Field::Fstype),
            (add("noatime"), Field::Options),
            (Edit::DropOption("noatime".to_owned()), Field::Options),
        ] {
            let others: Vec<Field> = [Field::Source, Field::Target, Field::Fstype, Field::Options]
                .into_iter()
                .filter(|f| *f != field)
                .collect();
            assert_eq!(judged(&others, "noatime", std::slice::from_ref(&edit)), Some("not-permitted"), "{edit}");
            assert_eq!(judged(&[field], "noatime", std::slice::from_ref(&edit)), None, "{edit}");
        }
    }

    #[test]
    fn a_restriction_can_neither_be_dropped_nor_contradicted() {
        for (strict, lax) in
            [("ro", "rw"), ("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec"), ("nosymfollow", "symfollow")]
        {
            let options = [Field::Options];
            assert_eq!(judged(&options, strict, &[Edit::DropOption(strict.to_owned())]), Some("weakened"), "-{strict}");
            assert_eq!(judged(&options, strict, &[add(lax)]), Some("weakened"), "+{lax} after {strict}");
            // The request doesn't have the restriction, but the source's mount may.
            assert_eq!(judged(&options, "", &[add(lax)]), Some("weakened"), "+{lax}");
            // The requester asked for it.
            assert_eq!(judged(&options, lax, &[add(lax)]), None, "+{lax} after {lax}");
            assert_eq!(judged(&options, lax, &[add(strict)]), None, "+{strict} after {lax}");
            let both = [Edit::DropOption(strict.to_owned()), add(strict)];
            assert_eq!(judged(&options, strict, &both), None, "-{strict} +{strict}");
        }
    }
}
