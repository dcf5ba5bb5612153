//! The SDK for mountgate policy plugins in Rust. Implement [`Policy`], name it in [`export!`], and build the crate as a
//! component. See `docs/writing-a-plugin.md`.
//!
//! A policy is a plain function of the settings, a review and a [`Mounts`]. Plain `cargo test` can test it with a
//! [`MountList`].

#[cfg(all(feature = "arena", any(target_family = "wasm", test)))]
mod arena;
#[doc(hidden)]
pub mod bindings;
mod denials;
mod locations;
mod mounts;
mod options;
mod paths;
mod settings;
pub mod testing;

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

pub use bindings::exports::mountgate::policy::plugin::{Description, Kind, Preparation, Problem};
pub use bindings::mountgate::policy::log;
pub use bindings::mountgate::policy::types::{
    Denial, Device, Edit, FileKind, Label, Location, Mount, MountOption, Operation, OptionPath, Outcome, OwnedEdit,
    Peer, Place, Propagation, PropagationType, Request, Requester, ResolvedPath, Review, Status, UnmountMode, Verdict,
    Via,
};
pub use denials::{Code, deny, deny_with_hint};
pub use locations::{Folders, NamedFolders, lies_in};
pub use mounts::{HostMounts, MountList, Mounts};
pub use options::last_of;
pub use paths::{is_export_within, is_on_host, is_within};
pub use settings::{parse, schema};

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
    /// The codes of its denials.
    const CODES: &'static [Code];
    /// The fields of a request that it changes, for one that rewrites: `source`, `target`, `fstype`, `options`.
    const CHANGES: &'static [&'static str] = &[];
    /// Its settings. Derive `Deserialize` with `deny_unknown_fields`, so that a misspelt key is an error, and `JsonSchema`: the
    /// comments of the fields become descriptions.
    type Settings: DeserializeOwned + JsonSchema;

    /// The codes that can be answered with these settings.
    fn codes(_settings: &Self::Settings) -> Vec<Code> {
        Self::CODES.to_vec()
    }

    /// Problems in settings that could be deserialized.
    fn problems(_settings: &Self::Settings) -> Vec<Problem> {
        Vec::new()
    }

    /// Judges a request. The verdict must depend only on the arguments.
    ///
    /// # Errors
    /// The reason why the request can't be judged. The request is then denied.
    fn evaluate(settings: &Self::Settings, review: &Review, mounts: &impl Mounts) -> Result<Verdict, String>;

    /// What is told how each request ended. None, and no time is spent on it.
    fn observer<M: Mounts>(_settings: &Self::Settings) -> Option<Observer<Self::Settings, M>> {
        None
    }
}

/// A function that is told how a request ended.
pub type Observer<Settings, M> = fn(&Settings, &Outcome, &M);

/// A policy plugin that makes something of its settings, once, and is given that for each request. Every [`Policy`] is one.
pub trait Prepared {
    /// As [`Policy::NAME`].
    const NAME: &'static str;
    /// As [`Policy::VERSION`].
    const VERSION: &'static str;
    /// As [`Policy::KIND`].
    const KIND: Kind;
    /// As [`Policy::HELP`].
    const HELP: &'static str;
    /// As [`Policy::Settings`].
    type Settings: DeserializeOwned + JsonSchema;
    /// What is made of them.
    type Form;

    /// Makes bytes of the settings, with the codes of all denials.
    ///
    /// # Errors
    /// All problems in the settings.
    fn prepare(settings: &str) -> Result<Preparation, Vec<Problem>>;

    /// Reads what [`Self::prepare`] has made.
    ///
    /// # Errors
    /// Why it can't be read. The request is then denied.
    fn read(prepared: &[u8]) -> Result<Self::Form, String>;

    /// As [`Policy::evaluate`].
    ///
    /// # Errors
    /// The reason why the request can't be judged. The request is then denied.
    fn evaluate(form: &Self::Form, review: &Review, mounts: &impl Mounts) -> Result<Verdict, String>;

    /// Is told how a request ended, where the preparation says that it observes.
    fn observe(_form: &Self::Form, _outcome: &Outcome, _mounts: &impl Mounts) {}
}

impl<P: Policy> Prepared for P {
    const NAME: &'static str = P::NAME;
    const VERSION: &'static str = P::VERSION;
    const KIND: Kind = P::KIND;
    const HELP: &'static str = P::HELP;
    type Settings = P::Settings;
    type Form = P::Settings;

    fn prepare(settings: &str) -> Result<Preparation, Vec<Problem>> {
        let form = parse(settings)?;
        let problems = P::problems(&form);
        match problems.is_empty() {
            true => Ok(Preparation {
                prepared: settings.as_bytes().to_vec(),
                denial_codes: P::codes(&form).iter().map(ToString::to_string).collect(),
                changes: P::CHANGES.iter().map(|field| (*field).to_owned()).collect(),
                observes: P::observer::<HostMounts>(&form).is_some(),
            }),
            false => Err(problems),
        }
    }

    fn read(prepared: &[u8]) -> Result<P::Settings, String> {
        serde_json::from_slice(prepared).map_err(|error| error.to_string())
    }

    fn evaluate(settings: &P::Settings, review: &Review, mounts: &impl Mounts) -> Result<Verdict, String> {
        P::evaluate(settings, review, mounts)
    }

    fn observe(settings: &P::Settings, outcome: &Outcome, mounts: &impl Mounts) {
        if let Some(observer) = P::observer(settings) {
            observer(settings, outcome, mounts);
        }
    }
}

/// Connects a plugin to the component's exports.
#[doc(hidden)]
pub struct Adapter<P>(PhantomData<P>);

impl<P: Prepared> bindings::exports::mountgate::policy::plugin::Guest for Adapter<P> {
    fn describe() -> Description {
        report_panics();
        Description {
            name: P::NAME.to_owned(),
            version: P::VERSION.to_owned(),
            kind: P::KIND,
            help: P::HELP.to_owned(),
            settings_schema: schema::<P>(),
        }
    }

    fn prepare(settings: String) -> Result<Preparation, Vec<Problem>> {
        report_panics();
        P::prepare(&settings)
    }

    fn evaluate(prepared: Vec<u8>, review: Review) -> Result<Verdict, String> {
        report_panics();
        P::evaluate(&P::read(&prepared)?, &review, &HostMounts)
    }

    fn observe(prepared: Vec<u8>, outcome: Outcome) {
        report_panics();
        if let Ok(form) = P::read(&prepared) {
            P::observe(&form, &outcome, &HostMounts);
        }
    }
}

/// Writes the message of a panic to the log: the host shows it with the failure.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| log::write(log::Level::Error, &panic.to_string(), &[])));
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
