//! Which denials of the policies no case has seen.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::policy::engine::policy::Policy;

/// A denial of a policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct PolicyCode {
    pub(crate) policy: String,
    pub(crate) code: String,
}

/// The denials that policies name and that weren't seen, and those that were seen and that no policy names.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Coverage {
    pub(crate) not_reached: Vec<PolicyCode>,
    pub(crate) not_named: Vec<PolicyCode>,
}

impl Coverage {
    /// Compares what the policies name with what was seen.
    pub(crate) fn of(policies: &[Policy], seen: &BTreeSet<PolicyCode>) -> Self {
        let of_policy = |policy: &Policy| {
            let name = policy.name.clone();
            let codes = policy.denial_codes.clone();
            codes.into_iter().map(move |code| PolicyCode { policy: name.clone(), code })
        };
        let named: BTreeSet<PolicyCode> = policies.iter().flat_map(of_policy).collect();
        Self {
            not_reached: named.difference(seen).cloned().collect(),
            not_named: seen.difference(&named).cloned().collect(),
        }
    }
}
