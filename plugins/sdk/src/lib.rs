//! The SDK for mountgate policy plugins in Rust. Implement [`Policy`], name it in [`export!`], and build the crate as a
//! component. See `docs/writing-a-plugin.md`.
//!
//! A policy is a plain function of the settings, a review and a [`Mounts`]. Plain `cargo test` can test it with a
//! [`MountList`].

#[cfg(all(feature = "arena", any(target_family = "wasm", test)))]
mod arena;
#[doc(hidden)]
pub mod bindings;
mod locations;
mod mounts;
mod paths;
mod settings;
pub mod testing;

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

pub use bindings::exports::mountgate::policy::plugin::{Description, Kind, Problem};
pub use bindings::mountgate::policy::log;
pub use bindings::mountgate::policy::types::{
    Denial, Device, Edit, FileKind, Label, Location, Mount, MountOption, Operation, OptionPath, Outcome, OwnedEdit,
    Place, Propagation, PropagationType, Request, Requester, ResolvedPath, Review, Status, UnmountMode, Verdict, Via,
};
pub use locations::{Folders, lies_in};
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
    /// Its settings. Derive `Deserialize` with `deny_unknown_fields`, so that a misspelt key is an error.
    type Settings: DeserializeOwned;

    /// Problems in settings that could be deserialized.
    fn problems(_settings: &Self::Settings) -> Vec<Problem> {
        Vec::new()
    }

    /// Judges a request. The verdict must depend only on the arguments.
    ///
    /// # Errors
    /// The reason why the request can't be judged. The request is then denied.
    fn evaluate(settings: &Self::Settings, review: &Review, mounts: &impl Mounts) -> Result<Verdict, String>;

    /// Is told how a request ended.
    fn observe(_settings: &Self::Settings, _outcome: &Outcome, _mounts: &impl Mounts) {}
}

/// Makes a denial.
pub fn deny(code: &str, field: &str, reason: String) -> Verdict {
    Verdict::Deny(Denial { code: code.to_owned(), reason, field: Some(field.to_owned()), hint: None })
}

/// Makes a denial with a hint.
pub fn deny_with_hint(code: &str, field: &str, reason: String, hint: &str) -> Verdict {
    Verdict::Deny(Denial { code: code.to_owned(), reason, field: Some(field.to_owned()), hint: Some(hint.to_owned()) })
}

/// Connects a [`Policy`] to the component's exports.
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

/// Exports a [`Policy`] from this crate's component.
#[macro_export]
macro_rules! export {
    ($policy:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::Adapter<$policy>;
    $crate::bindings::export_policy!(Exported with_types_in $crate::bindings);
        };
    };
}
