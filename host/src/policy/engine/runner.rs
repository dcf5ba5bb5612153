//! One plugin with its settings and bounds. Each evaluation runs in an instance of its own, unless the plugin is instrumented.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use wasmtime::component::{Component, ComponentExportIndex, InstancePre, WasmList};
use wasmtime::{Store, Trap};

use super::abandoned::Abandoned;
use super::bindings::exports::mountgate::policy::plugin;
use super::bindings::mountgate::policy::types;
use super::bindings::{Policy, PolicyPre};
use super::clock::deadline_check;
use super::closed_wasi::Closed;
use super::contract_check::{CONTRACT, NOTES, check_exports, check_imports};
use super::contract_v0_1::{self as contract, Outcome, Review};
use super::functions::{Functions, Shown};
use super::imports::{HostState, TooManyCalls};
use super::kept::{Kept, Rooms};
use super::messages::{shown, wasmtime_causes};
use super::meter::Meter;
use super::runtime::Runtime;
use crate::model::edit::Field;
use crate::model::failure::{Failure, FailureKind};
use crate::model::verdict::{Verdict, is_code};
use crate::mount_table::snapshot::Snapshot;
use crate::policy::description::{Description, Introduction};
use crate::policy::directory::entry::PolicyEntry;
use crate::policy::evaluation::{Evaluation, LogLine};
use crate::policy::fault::Fault;
use crate::policy::limits::{HOST_CALL_BYTES, Limits, MEMORIES, NOTE_FUEL, NOTE_MEMORIES};
use crate::policy::settings_schema::{self, SettingsProblem};

/// A plugin with its settings and bounds, of which instances are made.
pub(super) struct Runner {
    pre: InstancePre<HostState>,
    /// The functions that every request calls. The bindings would look up all functions of a plugin and compare their types
    /// in every instance, which takes longer than most verdicts.
    evaluate: ComponentExportIndex,
    observe: ComponentExportIndex,
    settings: String,
    /// What the plugin has made of its settings.
    prepared: Arc<[u8]>,
    limits: Limits,
    has_wasi: bool,
    /// The functions that show what an instrumented plugin has noted.
    noted: Vec<ComponentExportIndex>,
    /// What was noted since it was last taken: a list for each of these functions and each evaluation.
    notes: Mutex<Vec<Notes>>,
    /// Where an instance may be kept, and the one that is.
    rooms: Option<Rooms>,
    kept: Mutex<Option<Kept>>,
    is_always_fresh: AtomicBool,
    abandoned: Abandoned,
}

/// What a module of a plugin has noted in one evaluation.
#[derive(Debug)]
pub(crate) struct Notes {
    /// Which of the plugin's modules.
    pub(crate) module: usize,
    /// What it noted.
    pub(crate) list: Vec<u8>,
}

impl Runner {
    /// Checks a plugin against the contract and what its policy is granted.
    pub(super) fn new(runtime: &Runtime, component: &Component, entry: &PolicyEntry) -> Result<Self, Fault> {
        let ty = component.component_type();
        check_imports(ty.imports(&runtime.engine).map(|(name, _)| name), entry)?;
        check_exports(ty.exports(&runtime.engine).map(|(name, _)| name))?;
        let misfit = |what: &str| {
            Fault::new(
                format!("its plugin doesn't fit mountgate:policy@{CONTRACT}: {what}"),
                "build it against the WIT of this version",
            )
        };
        let pre =
            runtime.linker(entry)?.instantiate_pre(component).map_err(|error| misfit(&wasmtime_causes(&error)))?;
        let plugin = component.get_export_index(None, format!("mountgate:policy/plugin@{CONTRACT}"));
        let export = |name: &str| {
            let index = component.get_export_index(plugin.as_ref(), name);
            index.ok_or_else(|| misfit(&format!("it exports no {name}")))
        };
        for name in ["describe", "prepare"] {
            export(name)?;
        }
        let (evaluate, observe) = (export("evaluate")?, export("observe")?);
        let (settings, has_wasi) = (entry.settings.clone(), entry.has_wasi());
        // A plugin as it is has no say in what it's given: it may have functions of these names as well.
        let shown = |number| component.get_export_index(None, format!("{NOTES}{number}"));
        let noted = if runtime.is_rewriting() { (0..).map_while(shown).collect() } else { Vec::new() };
        Ok(Self {
            pre,
            evaluate,
            observe,
            settings,
            prepared: Arc::default(),
            limits: entry.limits,
            has_wasi,
            rooms: runtime.rooms.clone().filter(|_| !noted.is_empty()),
            noted,
            notes: Mutex::default(),
            kept: Mutex::default(),
            is_always_fresh: AtomicBool::new(false),
            abandoned: runtime.abandoned.clone(),
        })
    }

    /// Judges a request, in a fresh instance; where the plugin is instrumented, in one that was asked before.
    pub(super) fn evaluate(&self, review: &Review, snapshot: &Arc<Snapshot>) -> Evaluation {
        let limits = self.limits.for_places(review.0.places.len());
        let kept = self.kept().take();
        // What it couldn't do may be due to what it was asked before.
        if let Some(evaluation) = kept.and_then(|kept| self.ask_again(kept, review, snapshot, limits)) {
            return evaluation;
        }
        let begun = Instant::now();
        let mut store = self.store(Some(snapshot.clone()), limits);
        let functions = self.functions(&mut store);
        let (evaluation, functions) = match functions {
            Ok(functions) => (self.ask(&mut store, &functions, review, limits, begun), Some(functions)),
            Err(error) => {
                let failure = failure(&error, &store, limits);
                (self.end(&mut store, limits, Err(failure), begun), None)
            }
        };
        let is_kept = is_usable(&evaluation) && !self.is_always_fresh.load(Ordering::Relaxed);
        if let (Some(rooms), Some(functions), true) = (&self.rooms, functions, is_kept) {
            *self.kept() = Kept::new(store, functions, rooms, self.memories());
        } else {
            self.abandoned.leave(store);
        }
        evaluation
    }

    /// Asks an instance that was asked before. None where that is of no use.
    fn ask_again(
        &self,
        mut kept: Kept,
        review: &Review,
        snapshot: &Arc<Snapshot>,
        limits: Limits,
    ) -> Option<Evaluation> {
        let begun = Instant::now();
        let noted = self.notes().len();
        kept.store.data_mut().begin(snapshot.clone());
        // Only an engine without fuel refuses it, and ours has it.
        let _ = kept.store.set_fuel(self.fuel(limits));
        let evaluation = self.ask(&mut kept.store, &kept.functions, review, limits, begun);
        if is_usable(&evaluation) {
            *self.kept() = kept.again();
            return Some(evaluation);
        }
        // To use up all fuel once more would take long.
        if matches!(&evaluation.result, Err(failure) if failure.kind == FailureKind::Fuel) {
            return Some(evaluation);
        }
        // What it noted before, in an earlier round of the same decision, stays.
        self.notes().truncate(noted);
        None
    }

    fn ask(
        &self,
        store: &mut Store<HostState>,
        functions: &Functions,
        review: &Review,
        limits: Limits,
        begun: Instant,
    ) -> Evaluation {
        let mut notes = Vec::new();
        let mut ask = || {
            notes = functions.clear_notes(store)?;
            functions.evaluate(store, (self.prepared.clone(), review.0.clone()))
        };
        let answer = ask();
        self.keep_notes(store, &notes);
        let result = match answer {
            Ok(Ok(verdict)) => contract::verdict(verdict)
                .check()
                .map_err(|what| Failure::new(FailureKind::Malformed, format!("its verdict is malformed: {what}"))),
            Ok(Err(reason)) => Err(Failure::new(FailureKind::GaveUp, format!("it couldn't judge: {}", shown(&reason)))),
            Err(error) => Err(failure(&error, store, limits)),
        };
        self.end(store, limits, result, begun)
    }

    /// The functions of a fresh instance.
    fn functions(&self, store: &mut Store<HostState>) -> wasmtime::Result<Functions> {
        let instance = self.pre.instantiate(&mut *store)?;
        Functions::of(store, &instance, self.evaluate, &self.noted)
    }

    /// From now on, each request is judged in a fresh instance, or as before in those that are kept.
    pub(super) fn always_fresh(&self, is_always_fresh: bool) {
        self.is_always_fresh.store(is_always_fresh, Ordering::Relaxed);
        if is_always_fresh {
            *self.kept() = None;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most memories that an instance has.
    fn memories(&self) -> u32 {
        MEMORIES + u32::try_from(self.noted.len()).unwrap_or(NOTE_MEMORIES)
    }

    fn keep_notes(&self, store: &Store<HostState>, notes: &[WasmList<u8>]) {
        if notes.is_empty() {
            return;
        }
        let lists = notes.iter().enumerate();
        let lists = lists.map(|(module, list)| Notes { module, list: list.as_le_slice(store).to_vec() });
        self.notes().extend(lists);
    }

    /// What was noted since this was last called.
    pub(super) fn take_notes(&self) -> Vec<Notes> {
        std::mem::take(&mut self.notes())
    }

    fn notes(&self) -> MutexGuard<'_, Vec<Notes>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the plugin how a request ended, in a fresh instance.
    pub(super) fn observe(&self, outcome: &Outcome, snapshot: &Arc<Snapshot>) -> Evaluation {
        let begun = Instant::now();
        let mut store = self.store(Some(snapshot.clone()), self.limits);
        let mut tell = || {
            let instance = self.pre.instantiate(&mut store)?;
            let observe = instance.get_typed_func::<(&[u8], &types::Outcome), ()>(&mut store, self.observe)?;
            observe.call(&mut store, (&*self.prepared, &outcome.0))
        };
        let result = tell().map(|()| Verdict::Allow).map_err(|error| failure(&error, &store, self.limits));
        let evaluation = self.end(&mut store, self.limits, result, begun);
        self.abandoned.leave(store);
        evaluation
    }

    /// Gives the plugin what it has made of its settings, now or in an earlier run.
    pub(super) fn prepared(self, prepared: Vec<u8>) -> Self {
        Self { prepared: prepared.into(), ..self }
    }

    /// Has the plugin describe itself and prepare its settings.
    pub(super) fn introduce(&self) -> Result<Introduction, Fault> {
        let limits = self.limits.for_preparation();
        let mut store = self.store(None, limits);
        let mut notes = Vec::new();
        let mut ask = || {
            let instance = self.pre.instantiate(&mut store)?;
            notes = Shown::of(&mut store, &instance, &self.noted)?.clear(&mut store)?;
            let instance = Policy::new(&mut store, &instance)?;
            let plugin = instance.mountgate_policy_plugin();
            let description = plugin.call_describe(&mut store)?;
            Ok((description, plugin.call_prepare(&mut store, &self.settings)))
        };
        let failed = |error: &wasmtime::Error, store: &Store<HostState>| {
            let failure = failure(error, store, limits);
            let hint = match failure.kind {
                // Its functions have other types: it was built for another form of the contract.
                FailureKind::Malformed => "build it against the WIT of this version",
                _ => "raise its limits, or ask its author",
            };
            Fault::failed(format!("its plugin failed before it was asked anything: {failure}"), hint)
        };
        let asked = ask();
        self.keep_notes(&store, &notes);
        let (description, preparation) = asked.map_err(|error: wasmtime::Error| failed(&error, &store))?;
        let description = described(description)?;
        let problems = settings_schema::problems(&description.settings_schema, &self.settings).map_err(|why| {
            let message = format!("its plugin publishes no sound schema of its settings: {why}");
            Fault::new(message, "ask its author: it must be a JSON Schema")
        })?;
        match preparation {
            Ok(Ok(plugin::Preparation { prepared, denial_codes, changes, observes })) if problems.is_empty() => {
                check_codes(&denial_codes)?;
                let changes = fields(&changes)?;
                Ok(Introduction { description, prepared, denial_codes, changes, observes })
            }
            // A plugin that gives up on settings which its schema doesn't allow has said why by the schema.
            Err(error) if problems.is_empty() => Err(failed(&error, &store)),
            Ok(Ok(_)) | Err(_) => Err(wrong_settings(&[], problems)),
            Ok(Err(told)) => Err(wrong_settings(&told, problems)),
        }
    }

    /// Has the plugin describe itself.
    pub(super) fn describe(&self) -> Result<Description, Fault> {
        let limits = self.limits.for_preparation();
        let mut store = self.store(None, limits);
        let mut ask = || {
            let instance = PolicyPre::new(self.pre.clone())?.instantiate(&mut store)?;
            instance.mountgate_policy_plugin().call_describe(&mut store)
        };
        let description = ask().map_err(|error| {
            Fault::new(failure(&error, &store, limits).to_string(), "ask its author: it can't describe itself")
        })?;
        described(description)
    }

    fn store(&self, snapshot: Option<Arc<Snapshot>>, limits: Limits) -> Store<HostState> {
        let state = HostState {
            snapshot,
            meter: if self.noted.is_empty() { Meter::new(limits.memory) } else { Meter::with_notes(limits.memory) },
            calls: 0,
            log: Vec::new(),
            lines_left_out: 0,
            wasi: self.has_wasi.then(|| Box::new(Closed::new())),
        };
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.meter);
        store.set_hostcall_fuel(HOST_CALL_BYTES);
        store.set_epoch_deadline(1);
        let mut check = deadline_check(limits.deadline);
        store.epoch_deadline_callback(move |_| Ok(check()));
        // Only an engine without fuel refuses it, and ours has it.
        let _ = store.set_fuel(self.fuel(limits));
        store
    }

    /// The fuel that an instance gets.
    fn fuel(&self, limits: Limits) -> u64 {
        if self.noted.is_empty() { limits.fuel } else { limits.fuel.saturating_mul(NOTE_FUEL) }
    }

    fn end(
        &self,
        store: &mut Store<HostState>,
        limits: Limits,
        result: Result<Verdict, Failure>,
        begun: Instant,
    ) -> Evaluation {
        let fuel = self.fuel(limits).saturating_sub(store.get_fuel().unwrap_or(0));
        let state = store.data_mut();
        let mut log = std::mem::take(&mut state.log);
        if state.lines_left_out > 0 {
            let text = format!("{} more lines were left out", state.lines_left_out);
            log.push(LogLine { level: tracing::Level::WARN, text });
        }
        Evaluation { result, fuel, elapsed: begun.elapsed(), hit_limit: state.meter.refused, log }
    }
}

/// Whether an instance can be asked again.
fn is_usable(evaluation: &Evaluation) -> bool {
    evaluation.result.is_ok() && !evaluation.hit_limit
}

fn failure(error: &wasmtime::Error, store: &Store<HostState>, limits: Limits) -> Failure {
    let state = store.data();
    let refused = state.meter.refused;
    let (kind, message) = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => (FailureKind::Fuel, format!("it used up its {} units of fuel", limits.fuel)),
        Some(Trap::Interrupt) => (FailureKind::Deadline, format!("it used up its {:?} of CPU time", limits.deadline)),
        Some(Trap::StackOverflow) => (FailureKind::Stack, "it used up its stack".to_owned()),
        _ if refused => (
            FailureKind::Memory,
            format!("it wanted more than its {} bytes of memory, or too large a table", limits.memory),
        ),
        Some(trap) => (FailureKind::Trap, format!("it trapped: {trap}{}", last_words(state))),
        None if error.is::<TooManyCalls>() => (FailureKind::HostCalls, wasmtime_causes(error)),
        None => (FailureKind::Malformed, format!("it broke the contract: {}", wasmtime_causes(error))),
    };
    Failure::new(kind, message)
}

/// What a plugin said before it trapped: its last line for the log if that was an error, else the end of what it wrote to standard
/// error, where a language's runtime puts an exception.
fn last_words(state: &HostState) -> String {
    let logged = state.log.last().filter(|line| line.level == tracing::Level::ERROR).map(|line| line.text.clone());
    let printed = || state.wasi.as_ref().map(|wasi| wasi.standard_error()).filter(|text| !text.is_empty());
    match logged.or_else(printed) {
        Some(words) => format!("; it said: {words}"),
        None => String::new(),
    }
}

/// What the plugin says of its settings, and what its schema says of those that it doesn't name.
fn wrong_settings(told: &[plugin::Problem], mut by_schema: Vec<SettingsProblem>) -> Fault {
    by_schema.retain(|problem| told.iter().all(|told| told.path != problem.path));
    let told = told.iter().map(|problem| (problem.path.as_str(), problem.message.as_str()));
    let all = told.chain(by_schema.iter().map(|problem| (problem.path.as_str(), problem.message.as_str())));
    let list: Vec<String> = all
        .take(100)
        .map(|(path, message)| match path {
            "" => format!("settings: {}", shown(message)),
            path => format!("settings.{}: {}", shown(path), shown(message)),
        })
        .collect();
    let list = if list.is_empty() { "settings: it doesn't take them".to_owned() } else { list.join("; ") };
    Fault::new(list, "`mountgate plugin inspect PLUGIN` shows its settings")
}

/// Fields of a request by their names.
fn fields(names: &[String]) -> Result<Vec<Field>, Fault> {
    let known = [Field::Source, Field::Target, Field::Fstype, Field::Options];
    let field = |name: &String| known.into_iter().find(|field| field.name() == name);
    let found: Option<Vec<Field>> = names.iter().map(field).collect();
    found.ok_or_else(|| {
        let message = "its plugin says that it changes a field which a request hasn't".to_owned();
        Fault::new(message, "ask its author: the fields are source, target, fstype and options")
    })
}

/// Codes of denials are kept and shown.
fn check_codes(codes: &[String]) -> Result<(), Fault> {
    match codes.len() <= 1000 && codes.iter().all(|code| is_code(code)) {
        true => Ok(()),
        false => Err(Fault::new(
            "its plugin names a denial code that isn't in kebab case, or too many".to_owned(),
            "ask its author: a code is a word such as `target-denied`",
        )),
    }
}

/// What a plugin says of itself, if it's fit to be shown.
fn described(description: plugin::Description) -> Result<Description, Fault> {
    let description = contract::description(description);
    let texts = [&description.name, &description.version, &description.help];
    let is_sound = texts.iter().all(|text| text.len() <= 1000 && !text.chars().any(char::is_control));
    let schema = &description.settings_schema;
    let is_sound_schema = schema.len() <= 64 << 10 && !schema.chars().any(|c| c.is_control() && !"\n\t".contains(c));
    match is_sound && is_sound_schema {
        true => Ok(description),
        false => Err(Fault::new(
            "its plugin describes itself with control characters or too much text".to_owned(),
            "ask its author: a description is a name, a version, a line of help, and a JSON Schema",
        )),
    }
}
