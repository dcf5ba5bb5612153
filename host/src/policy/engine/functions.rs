//! The functions of an instance that a request calls.

use std::sync::Arc;

use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, Instance, TypedFunc, WasmList};

use super::bindings::mountgate::policy::types;
use super::imports::HostState;

/// What a plugin has made of its settings, and what it's to judge.
type Asked = (Arc<[u8]>, Arc<types::Review>);

/// What it says of that, not yet checked.
pub(super) type Answer = Result<types::Verdict, String>;

/// The functions of an instance.
pub(super) struct Functions {
    evaluate: TypedFunc<Asked, (Answer,)>,
    shown: Shown,
}

impl Functions {
    /// Looks up `evaluate`, and those that show notes.
    pub(super) fn of(
        store: &mut Store<HostState>,
        instance: &Instance,
        evaluate: ComponentExportIndex,
        noted: &[ComponentExportIndex],
    ) -> wasmtime::Result<Self> {
        let shown = Shown::of(store, instance, noted)?;
        Ok(Self { evaluate: instance.get_typed_func(store, evaluate)?, shown })
    }

    /// Has the plugin judge a request.
    pub(super) fn evaluate(&self, store: &mut Store<HostState>, asked: Asked) -> wasmtime::Result<Answer> {
        Ok(self.evaluate.call(store, asked)?.0)
    }

    /// As [`Shown::clear`].
    pub(super) fn clear_notes(&self, store: &mut Store<HostState>) -> wasmtime::Result<Vec<WasmList<u8>>> {
        self.shown.clear(store)
    }
}

/// The functions that show where an instrumented plugin notes what it reaches, one of each module.
pub(super) struct Shown(Vec<TypedFunc<(), (WasmList<u8>,)>>);

impl Shown {
    pub(super) fn of(
        store: &mut Store<HostState>,
        instance: &Instance,
        noted: &[ComponentExportIndex],
    ) -> wasmtime::Result<Self> {
        Ok(Self(noted.iter().map(|shown| instance.get_typed_func(&mut *store, shown)).collect::<Result<_, _>>()?))
    }

    /// Has the notes cleared and shown, before the plugin is asked: after a trap it can't be called any more, but what it showed can be read.
    /// That takes none of the fuel.
    pub(super) fn clear(&self, store: &mut Store<HostState>) -> wasmtime::Result<Vec<WasmList<u8>>> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        let fuel = store.get_fuel()?;
        store.set_fuel(u64::MAX)?;
        let notes = self.0.iter().map(|shown| Ok(shown.call(&mut *store, ())?.0)).collect::<wasmtime::Result<_>>()?;
        store.set_fuel(fuel)?;
        Ok(notes)
    }
}
