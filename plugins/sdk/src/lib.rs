//! What a mountgate policy plugin in Rust is written with: implement [`Policy`], name it in [`export!`], build the crate
//! as a component. See `docs/writing-a-plugin.md`.
//!
//! Rules are plain functions of a review and a [`Mounts`], so that plain `cargo test` can run them with a [`MountList`].

#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod heap;
mod mounts;
mod paths;
mod settings;
pub mod testing;

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

pub use bindings::exports::mountgate::policy::plugin::{Description, Kind, Problem};
pub use bindings::mountgate::policy::log;
pub use bindings::mountgate::policy::types::{
    Denial, Device, Edit, FileKind, Label, Mount, MountOption, Operation, Outcome, OwnedEdit, Propagation,
    PropagationType, Request, Requester, ResolvedPath, Review, Status, UnmountMode, Verdict,
};
pub use mounts::{HostMounts, MountList, Mounts};
pub use paths::is_within;
pub use settings::{check_schema, parse};

/// A policy plugin.
pub trait Policy {
    /// Its name, e.g. `path-guard`.
    const NAME: &'static str;
    /// Its version, usually `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;
    /// Whether it may rewrite.
    const KIND: Kind;
    /// One line of help.
    const HELP: &'static str;
    /// The JSON Schema of its settings.
    const SCHEMA: &'static str;
    /// Its settings. Derive `Deserialize` with `deny_unknown_fields`: a misspelt key must not be ignored.
    type Settings: DeserializeOwned;

    /// What is wrong with settings that have the right shape.
    fn problems(_settings: &Self::Settings) -> Vec<Problem> {
        Vec::new()
    }

    /// Judges a request by nothing but its arguments.
    ///
    /// # Errors
    /// Why it can't be judged; the request is then denied.
    fn evaluate(settings: &Self::Settings, review: &Review, mounts: &impl Mounts) -> Result<Verdict, String>;

    /// Hears how a request ended.
    fn observe(_settings: &Self::Settings, _outcome: &Outcome, _mounts: &impl Mounts) {}
}

/// A denial in one line.
pub fn deny(code: &str, field: &str, reason: String) -> Verdict {
    Verdict::Deny(Denial { code: code.to_owned(), reason, field: Some(field.to_owned()), hint: None })
}

/// The same with a hint.
pub fn deny_with_hint(code: &str, field: &str, reason: String, hint: &str) -> Verdict {
    Verdict::Deny(Denial { code: code.to_owned(), reason, field: Some(field.to_owned()), hint: Some(hint.to_owned()) })
}

/// Between a [`Policy`] and the component's exports.
#[doc(hidden)]
pub struct Adapter<P>(PhantomData<P>);

impl<P: Policy> bindings::exports::mountgate::policy::plugin::Guest for Adapter<P> {
    fn describe() -> Description {
        Description {
            name: P::NAME.to_owned(),
            version: P::VERSION.to_owned(),
            kind: P::KIND,
            help: P::HELP.to_owned(),
            settings_schema: P::SCHEMA.to_owned(),
        }
    }

    fn validate_settings(settings: String) -> Vec<Problem> {
        match parse::<P::Settings>(&settings) {
            Ok(settings) => P::problems(&settings),
            Err(problems) => problems,
        }
    }

    fn evaluate(settings: String, review: Review) -> Result<Verdict, String> {
        let settings = serde_json::from_str(&settings).map_err(|error| error.to_string())?;
        P::evaluate(&settings, &review, &HostMounts)
    }

    fn observe(settings: String, outcome: Outcome) {
        if let Ok(settings) = serde_json::from_str(&settings) {
            P::observe(&settings, &outcome, &HostMounts);
        }
    }
}

/// Makes a [`Policy`] the one that this crate's component exports.
#[macro_export]
macro_rules! export {
    ($policy:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            #[global_allocator]
            static HEAP: $crate::heap::Heap = $crate::heap::Heap::new();
            type Exported = $crate::Adapter<$policy>;
    $crate::bindings::export_policy!(Exported with_types_in $crate::bindings);
        };
    };
}
