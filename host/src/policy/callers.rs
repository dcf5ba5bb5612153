//! Whom a policy is for: callers whom the kernel knows, by their ids and their control group. What a caller says of itself isn't
//! looked at.

use serde::{Deserialize, Serialize};

use crate::model::paths::is_within;
use crate::model::requester::Requester;

/// Whom a policy is for. What isn't named may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Callers {
    /// User ids.
    pub uid: Option<Ids>,
    /// Group ids.
    pub gid: Option<Ids>,
    /// A control group, with all below it, see cgroups(7).
    pub cgroup: Option<String>,
}

/// One id or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "named for what they are")]
pub enum Ids {
    One(u32),
    Several(Vec<u32>),
}

impl Ids {
    fn hold(&self, id: u32) -> bool {
        match self {
            Self::One(one) => *one == id,
            Self::Several(several) => several.contains(&id),
        }
    }
}

impl Callers {
    /// Whether it names nobody, and so would be for everybody.
    pub(in crate::policy) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a caller is one of these.
    pub(in crate::policy) fn hold(&self, requester: &Requester) -> bool {
        let is_id = |ids: &Option<Ids>, id: u32| ids.as_ref().is_none_or(|ids| ids.hold(id));
        let is_in = |group: &String| requester.cgroup.as_ref().is_some_and(|own| is_within(own, group));
        // Which of his groups is the first one is the caller's to choose, see newgrp(1).
        let is_of_group = requester.groups.iter().chain([&requester.gid]).any(|group| is_id(&self.gid, *group));
        is_id(&self.uid, requester.uid) && is_of_group && self.cgroup.as_ref().is_none_or(is_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_named_must_fit() {
        let asks =
            |uid, cgroup: Option<&str>| Requester { uid, cgroup: cgroup.map(str::to_owned), ..Requester::default() };
        let callers = |text: &str| -> Callers { toml::from_str(text).expect("it's right") };
        assert!(callers("uid = 7").hold(&asks(7, None)) && !callers("uid = 7").hold(&asks(8, None)));
        assert!(callers("uid = [7, 8]").hold(&asks(8, None)));
        let of_groups = Requester { gid: 3, groups: vec![4, 5], ..Requester::default() };
        assert!(callers("gid = [5, 6]").hold(&of_groups) && callers("gid = 3").hold(&of_groups));
        assert!(!callers("gid = 6").hold(&of_groups));
        let in_slice = callers("cgroup = \"/tenant-a.slice\"");
        assert!(in_slice.hold(&asks(0, Some("/tenant-a.slice/x.scope"))));
        assert!(!in_slice.hold(&asks(0, Some("/tenant-a.slicex"))) && !in_slice.hold(&asks(0, None)));
        assert!(!callers("uid = 7\ncgroup = \"/a\"").hold(&asks(7, Some("/b"))));
        assert!(toml::from_str::<Callers>("name = 7").is_err());
    }
}
