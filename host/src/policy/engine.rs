//! Runs plugins: a narrow wrapper over wasmtime that gives each evaluation a fresh instance with bounds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, types::ComponentItem};
use wasmtime::{Store, Trap};

use super::bindings::PolicyPre;
use super::bindings::exports::mountgate::policy::plugin;
use super::bindings::mountgate::policy::types;
use super::cache::Cache;
use super::contract_v0_1::{self as contract, Outcome, Review};
use super::directory::{DirectoryError, Grant, Mode, PluginFile, PolicyDirectory, PolicyEntry};
use super::failure::{Failure, FailureKind};
use super::imports::{HostState, TooManyCalls};
use super::limits::{HOST_CALL_BYTES, Limits, Meter};
use super::runtime::Runtime;
use super::seen::Seen;
use super::wasi;
use crate::mount_table::Snapshot;
use crate::verdict::{Field, Verdict};

/// The version of the contract that this program speaks.
const CONTRACT: &str = "0.1.0";
/// How often the clock behind deadlines ticks.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// What makes instances of plugins.
pub struct Engine(Arc<Runtimes>);

struct Runtimes {
    closed: Runtime,
    /// For plugins that are granted WASI, where there are any.
    with_wasi: OnceLock<Runtime>,
    is_pooled: bool,
}

/// The clock behind deadlines, for whoever has nothing else to do than to wait.
pub(crate) struct Clock(Weak<Runtimes>);

impl Clock {
    /// Ticks once. Says whether anybody still needs the time.
    pub(crate) fn tick(&self) -> bool {
        let runtimes = self.0.upgrade();
        if let Some(runtimes) = &runtimes {
            runtimes.closed.engine.increment_epoch();
            if let Some(with_wasi) = runtimes.with_wasi.get() {
                with_wasi.engine.increment_epoch();
            }
        }
        runtimes.is_some()
    }
}

/// Whether a plugin may answer with a rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It may, and runs before the validating ones.
    Mutating,
    /// It judges the final request.
    Validating,
}

/// What a plugin says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields of the WIT record")]
pub struct Description {
    pub name: String,
    pub version: String,
    pub kind: Kind,
    pub help: String,
    pub settings_schema: String,
}

/// A line that a policy wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct LogLine {
    pub level: tracing::Level,
    pub text: String,
}

/// What came of one evaluation.
#[derive(Debug)]
pub struct Evaluation {
    /// The checked verdict, or how the policy failed.
    pub result: Result<Verdict, Failure>,
    /// Fuel used.
    pub fuel: u64,
    /// Whether it was refused memory or table space, even if it went on without.
    pub hit_limit: bool,
    /// What it wrote.
    pub log: Vec<LogLine>,
}

/// A policy that is ready to judge.
pub struct Policy {
    /// Its name in the chain.
    pub name: String,
    /// What its plugin says of itself.
    pub description: Description,
    /// Whether it's followed.
    pub mode: Mode,
    /// The fields that it may change.
    pub rewrites: Vec<Field>,
    runner: Runner,
}

/// A plugin with its settings and bounds, of which instances are made.
struct Runner {
    pre: InstancePre<HostState>,
    /// What is called again and again. The bindings look all that a plugin exports up and compare its types in every
    /// instance, which takes longer than most verdicts.
    evaluate: ComponentExportIndex,
    observe: ComponentExportIndex,
    settings: String,
    limits: Limits,
    wasi: bool,
    /// The clock ticks for as long as somebody holds these.
    _runtimes: Arc<Runtimes>,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy").field("name", &self.name).field("description", &self.description).finish()
    }
}

impl Engine {
    /// An engine that instances are made with again and again.
    ///
    /// # Errors
    /// When the machine can't give what the sandbox needs, e.g. address space.
    pub fn new() -> anyhow::Result<Self> {
        let engine = Self::with(true)?;
        // Deadlines are kept by a clock of this process. It's the backstop: fuel ends almost everything first.
        let clock = engine.clock();
        std::thread::Builder::new().name("deadlines".to_owned()).stack_size(64 << 10).spawn(move || {
            while clock.tick() {
                std::thread::sleep(TICK);
            }
        })?;
        Ok(engine)
    }

    /// An engine for one request, whose clock ticks only as long as its caller makes it.
    pub(crate) fn unattended() -> anyhow::Result<Self> {
        Self::with(false)
    }

    fn with(is_pooled: bool) -> anyhow::Result<Self> {
        let closed = Runtime::new(false, is_pooled)?;
        Ok(Self(Arc::new(Runtimes { closed, with_wasi: OnceLock::new(), is_pooled })))
    }

    /// Its clock.
    pub(crate) fn clock(&self) -> Clock {
        Clock(Arc::downgrade(&self.0))
    }

    /// What a policy's plugin runs in.
    fn runtime(&self, entry: &PolicyEntry) -> Result<&Runtime, Fault> {
        let runtimes = &self.0;
        if !entry.has_wasi() {
            return Ok(&runtimes.closed);
        }
        if let Some(with_wasi) = runtimes.with_wasi.get() {
            return Ok(with_wasi);
        }
        let with_wasi = Runtime::new(true, runtimes.is_pooled).map_err(|error| Fault::internal(&error))?;
        Ok(runtimes.with_wasi.get_or_init(|| with_wasi))
    }

    /// Makes the policies of a directory ready: compiles or loads their plugins, checks what they import against what
    /// they're granted, and has every plugin look at its settings. What is compiled is kept in the cache.
    ///
    /// # Errors
    /// The first policy that can't be used, with the line in `policies.toml` and the remedy.
    pub fn load(&self, directory: &mut PolicyDirectory, cache: &Cache) -> Result<Vec<Policy>, DirectoryError> {
        let mut seen = std::mem::take(&mut directory.seen);
        let policies = self.policies(directory, cache, &mut seen)?;
        cache.remember(&directory.path, &seen);
        Ok(policies)
    }

    fn policies(
        &self,
        directory: &PolicyDirectory,
        cache: &Cache,
        seen: &mut Seen,
    ) -> Result<Vec<Policy>, DirectoryError> {
        let mut components: HashMap<(&str, bool), Component> = HashMap::new();
        let mut policies = Vec::with_capacity(directory.policies.len());
        for entry in &directory.policies {
            let load = || self.runtime(entry)?.component(entry, cache);
            let component = match components.entry((&entry.digest, entry.has_wasi())) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(load().map_err(|fault| fault.at(directory, entry))?),
            };
            policies.push(self.policy(component, entry, seen).map_err(|fault| fault.at(directory, entry))?);
        }
        let keys: Vec<String> = directory.policies.iter().map(PolicyEntry::key).collect();
        seen.keep_policies(&keys);
        Ok(policies)
    }

    fn policy(&self, component: &Component, entry: &PolicyEntry, seen: &mut Seen) -> Result<Policy, Fault> {
        let runner = self.runner(component, entry)?;
        let key = entry.key();
        let description = match seen.description(&key) {
            Some(description) => description.clone(),
            None => {
                let description = runner.introduce()?;
                seen.note_description(key, &description);
                description
            }
        };
        if description.kind == Kind::Validating && !entry.rewrites.is_empty() {
            return Err(Fault::new(
                format!("{} is validating and can't rewrite", description.name),
                "take its `rewrites` away",
            ));
        }
        Ok(Policy { name: entry.name.clone(), description, mode: entry.mode, rewrites: entry.rewrites.clone(), runner })
    }

    fn runner(&self, component: &Component, entry: &PolicyEntry) -> Result<Runner, Fault> {
        let runtime = self.runtime(entry)?;
        check_imports(&runtime.engine, component, entry)?;
        check_exports(&runtime.engine, component)?;
        let misfit = |what: &str| {
            Fault::new(
                format!("its plugin doesn't fit mountgate:policy@{CONTRACT}: {what}"),
                "build it against the WIT of this version",
            )
        };
        let pre = runtime.linker.instantiate_pre(component).map_err(|error| misfit(&one_line(&error)))?;
        let plugin = component.get_export_index(None, format!("mountgate:policy/plugin@{CONTRACT}"));
        let export = |name: &str| {
            let index = component.get_export_index(plugin.as_ref(), name);
            index.ok_or_else(|| misfit(&format!("it exports no {name}")))
        };
        for name in ["describe", "validate-settings"] {
            export(name)?;
        }
        let (evaluate, observe) = (export("evaluate")?, export("observe")?);
        let (settings, wasi) = (entry.settings.clone(), entry.has_wasi());
        let _runtimes = self.0.clone();
        Ok(Runner { pre, evaluate, observe, settings, limits: entry.limits, wasi, _runtimes })
    }
}

impl Policy {
    /// Judges a request in a fresh instance.
    pub fn evaluate(&self, review: &Review, snapshot: &Arc<Snapshot>) -> Evaluation {
        self.runner.evaluate(review, snapshot)
    }

    /// Tells the plugin how a request ended, in a fresh instance.
    pub fn observe(&self, outcome: &Outcome, snapshot: &Arc<Snapshot>) -> Evaluation {
        self.runner.observe(outcome, snapshot)
    }
}

impl Runner {
    fn evaluate(&self, review: &Review, snapshot: &Arc<Snapshot>) -> Evaluation {
        let mut store = self.store(Some(snapshot.clone()));
        let mut ask = || {
            let instance = self.pre.instantiate(&mut store)?;
            let evaluate = instance.get_typed_func::<(&str, &types::Review), _>(&mut store, self.evaluate)?;
            let (answer,): (Result<types::Verdict, String>,) =
                evaluate.call(&mut store, (&self.settings, &review.0))?;
            Ok(answer)
        };
        let result = match ask() {
            Ok(Ok(verdict)) => contract::verdict(verdict)
                .check()
                .map_err(|what| Failure::new(FailureKind::Malformed, format!("its verdict is malformed: {what}"))),
            Ok(Err(words)) => Err(Failure::new(FailureKind::GaveUp, format!("it couldn't judge: {}", shown(&words)))),
            Err(error) => Err(self.failure(&error, &store)),
        };
        self.end(store, result)
    }

    fn observe(&self, outcome: &Outcome, snapshot: &Arc<Snapshot>) -> Evaluation {
        let mut store = self.store(Some(snapshot.clone()));
        let mut tell = || {
            let instance = self.pre.instantiate(&mut store)?;
            let observe = instance.get_typed_func::<(&str, &types::Outcome), ()>(&mut store, self.observe)?;
            observe.call(&mut store, (&self.settings, &outcome.0))
        };
        let result = tell().map(|()| Verdict::Allow).map_err(|error| self.failure(&error, &store));
        self.end(store, result)
    }

    /// Asks the plugin what it is, and what it thinks of its settings.
    fn introduce(&self) -> Result<Description, Fault> {
        let mut store = self.store(None);
        let mut ask = || {
            let instance = PolicyPre::new(self.pre.clone())?.instantiate(&mut store)?;
            let plugin = instance.mountgate_policy_plugin();
            let description = plugin.call_describe(&mut store)?;
            Ok((description, plugin.call_validate_settings(&mut store, &self.settings)?))
        };
        let (description, problems) = ask().map_err(|error: wasmtime::Error| {
            let failure = self.failure(&error, &store);
            Fault::new(
                format!("its plugin failed before it was asked anything: {failure}"),
                "raise its limits, or ask its author",
            )
        })?;
        if problems.is_empty() {
            return described(description);
        }
        let list: Vec<String> = problems
            .iter()
            .take(100)
            .map(|problem| match problem.path.as_str() {
                "" => format!("settings: {}", shown(&problem.message)),
                path => format!("settings.{}: {}", shown(path), shown(&problem.message)),
            })
            .collect();
        Err(Fault::new(list.join("; "), "`mountgate policy inspect PLUGIN` prints the schema of its settings"))
    }

    fn store(&self, snapshot: Option<Arc<Snapshot>>) -> Store<HostState> {
        let state = HostState {
            snapshot,
            meter: Meter::new(self.limits.memory),
            calls: 0,
            log: Vec::new(),
            lines_left_out: 0,
            wasi: self.wasi.then(|| Box::new(wasi::closed())),
        };
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.meter);
        store.set_hostcall_fuel(HOST_CALL_BYTES);
        let ticks = self.limits.deadline.as_millis().div_ceil(TICK.as_millis());
        // The first tick may come at once.
        store.set_epoch_deadline(u64::try_from(ticks).unwrap_or(u64::MAX / 2) + 1);
        // Only an engine without fuel refuses it, and ours has it.
        let _ = store.set_fuel(self.limits.fuel);
        store
    }

    fn end(&self, store: Store<HostState>, result: Result<Verdict, Failure>) -> Evaluation {
        let fuel = self.limits.fuel.saturating_sub(store.get_fuel().unwrap_or(0));
        let state = store.into_data();
        let mut log = state.log;
        if state.lines_left_out > 0 {
            let text = format!("{} more lines were left out", state.lines_left_out);
            log.push(LogLine { level: tracing::Level::WARN, text });
        }
        Evaluation { result, fuel, hit_limit: state.meter.memory_refused || state.meter.table_refused, log }
    }

    fn failure(&self, error: &wasmtime::Error, store: &Store<HostState>) -> Failure {
        let state = store.data();
        let refused = state.meter.memory_refused || state.meter.table_refused;
        let (kind, message) = match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => (FailureKind::Fuel, format!("it used up its {} units of fuel", self.limits.fuel)),
            Some(Trap::Interrupt) => {
                (FailureKind::Deadline, format!("it ran past its deadline of {:?}", self.limits.deadline))
            }
            Some(Trap::StackOverflow) => (FailureKind::Stack, "it used up its stack".to_owned()),
            _ if refused => (
                FailureKind::Memory,
                format!("it wanted more than its {} bytes of memory, or too large a table", self.limits.memory),
            ),
            Some(trap) => (FailureKind::Trap, format!("it trapped: {trap}")),
            None if error.is::<TooManyCalls>() => (FailureKind::HostCalls, one_line(error)),
            None => (FailureKind::Malformed, format!("it broke the contract: {}", one_line(error))),
        };
        Failure::new(kind, message)
    }
}

/// What a plugin says of itself, if it's fit to be shown.
fn described(description: plugin::Description) -> Result<Description, Fault> {
    let description = contract::description(description);
    let words = [&description.name, &description.version, &description.help];
    let is_tame = words.iter().all(|text| text.len() <= 1000 && !text.chars().any(char::is_control));
    let schema = &description.settings_schema;
    let is_tame_schema = schema.len() <= 64 << 10 && !schema.chars().any(|c| c.is_control() && !"\n\t".contains(c));
    match is_tame && is_tame_schema {
        true => Ok(description),
        false => Err(Fault::new(
            "its plugin describes itself with control characters or too many words".to_owned(),
            "ask its author: a description is a name, a version, a line of help, and a JSON Schema",
        )),
    }
}

/// What is wrong with one policy, before it's known where that stands.
pub(super) struct Fault {
    message: String,
    remedy: String,
}

impl Fault {
    pub(super) fn new(message: String, remedy: &str) -> Self {
        Self { message, remedy: remedy.to_owned() }
    }

    pub(super) fn internal(error: &wasmtime::Error) -> Self {
        Self::new(format!("the sandbox can't be set up: {}", one_line(error)), "report this as a bug")
    }

    fn at(self, directory: &PolicyDirectory, entry: &PolicyEntry) -> DirectoryError {
        let plugin = entry.plugin.file_name().unwrap_or_default().to_string_lossy();
        DirectoryError {
            file: directory.path.join("policies.toml"),
            line: Some(entry.line),
            message: format!("policy {:?} ({plugin}): {}", entry.name, self.message),
            remedy: self.remedy,
        }
    }
}

/// Describes a plugin outside of any directory: what it says of itself, what it imports, its digest.
///
/// # Errors
/// Why it can't be used.
pub fn inspect(engine: &Engine, path: &std::path::Path, bytes: &[u8]) -> Result<Inspection, DirectoryError> {
    let entry = PolicyEntry {
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        plugin: path.to_owned(),
        file: PluginFile::Read(bytes.into()),
        digest: super::digest_of(bytes),
        rewrites: Vec::new(),
        grants: vec![Grant::Wasi],
        mode: Mode::Enforce,
        limits: Limits { fuel: 1_000_000_000, memory: 256 << 20, deadline: Duration::from_secs(10) },
        settings: "{}".to_owned(),
        line: 0,
    };
    let attempt = || {
        let runtime = engine.runtime(&entry)?;
        let component = runtime.component(&entry, &Cache::none())?;
        let imports: Vec<String> =
            component.component_type().imports(&runtime.engine).map(|(name, _)| name.to_owned()).collect();
        let runner = engine.runner(&component, &entry)?;
        let mut store = runner.store(None);
        let description = PolicyPre::new(runner.pre.clone())
            .and_then(|pre| pre.instantiate(&mut store))
            .and_then(|instance| instance.mountgate_policy_plugin().call_describe(&mut store))
            .map_err(|error| {
                Fault::new(runner.failure(&error, &store).to_string(), "ask its author: it can't describe itself")
            })?;
        Ok(Inspection {
            digest: entry.digest.clone(),
            contract: CONTRACT,
            needs_wasi: imports.iter().any(|name| name.starts_with("wasi:")),
            imports,
            description: described(description)?,
        })
    };
    attempt().map_err(|fault: Fault| DirectoryError {
        file: path.to_owned(),
        line: None,
        message: fault.message,
        remedy: fault.remedy,
    })
}

/// What is known of a plugin by looking at it.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct Inspection {
    pub digest: String,
    pub contract: &'static str,
    pub imports: Vec<String>,
    pub needs_wasi: bool,
    #[serde(flatten)]
    pub description: Description,
}

/// Nothing is linked that isn't offered and granted.
fn check_imports(engine: &wasmtime::Engine, component: &Component, entry: &PolicyEntry) -> Result<(), Fault> {
    for (name, _) in component.component_type().imports(engine) {
        if let Some(rest) = name.strip_prefix("mountgate:policy/") {
            match rest.split_once('@') {
                Some(("types" | "mount-table" | "log", CONTRACT)) => {}
                Some((_, version)) if version != CONTRACT => return Err(other_version(version)),
                _ => return Err(not_offered(name)),
            }
        } else if name.starts_with("wasi:") {
            if !entry.has_wasi() {
                return Err(Fault {
                    message: format!("its plugin imports {name}, which it isn't granted"),
                    remedy: format!(
                        "if it needs WASI (JavaScript and Python plugins do), add the line  grants = [\"wasi\"]  to \
                         policy {:?}",
                        entry.name
                    ),
                });
            }
        } else {
            return Err(not_offered(name));
        }
    }
    Ok(())
}

fn not_offered(import: &str) -> Fault {
    Fault::new(
        format!("its plugin imports {import}, which mountgate doesn't offer"),
        "build the plugin without it: no grant can add it",
    )
}

fn check_exports(engine: &wasmtime::Engine, component: &Component) -> Result<(), Fault> {
    let ty = component.component_type();
    let exported = ty.exports(engine).find_map(|(name, item)| {
        let is_instance = matches!(item.ty, ComponentItem::ComponentInstance(_));
        name.strip_prefix("mountgate:policy/plugin@").filter(|_| is_instance)
    });
    match exported {
        Some(CONTRACT) => Ok(()),
        Some(version) => Err(other_version(version)),
        None => Err(Fault::new(
            format!("its plugin is a component for another world: it exports no mountgate:policy/plugin@{CONTRACT}"),
            "build it against the WIT of mountgate:policy",
        )),
    }
}

fn other_version(version: &str) -> Fault {
    Fault {
        message: format!(
            "its plugin was built for mountgate:policy@{}, and this mountgate speaks mountgate:policy@{CONTRACT}",
            shown(version)
        ),
        remedy: format!("build the plugin for {CONTRACT}, or use a mountgate that speaks its version"),
    }
}

/// A chain of errors in one line.
pub(super) fn one_line(error: &wasmtime::Error) -> String {
    let chain: Vec<String> = error.chain().map(|cause| shown(cause.to_string().trim())).collect();
    chain.join(": ")
}

/// A plugin's words, so that they can't drive a terminal or fill it.
fn shown(words: &str) -> String {
    let mut text: String = words.escape_debug().take(1000).collect();
    if text.len() < words.len() {
        text.push('…');
    }
    text
}
