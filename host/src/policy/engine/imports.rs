//! What a plugin can call: the mount table and the log, and nothing else.

use std::sync::Arc;

use super::bindings::mountgate::policy::{log, mount_table, types};
use super::closed_wasi::Closed;
use super::contract_v0_1 as contract;
use super::meter::Meter;
use crate::model::location::{Device, Location};
use crate::model::untrusted::for_people;
use crate::mount_table::question::{Answer, Question};
use crate::mount_table::snapshot::Snapshot;
use crate::policy::evaluation::LogLine;
use crate::policy::limits::{HOST_CALLS, LOG_LINE_BYTES, LOG_LINES};

/// The host's side of one instance.
pub(super) struct HostState {
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) meter: Meter,
    pub(super) calls: u32,
    pub(super) log: Vec<LogLine>,
    pub(super) lines_left_out: u32,
    pub(super) wasi: Option<Box<Closed>>,
}

/// Raised where a plugin calls the host too often.
#[derive(Debug, thiserror::Error)]
#[error("more than {HOST_CALLS} calls to the host")]
pub(super) struct TooManyCalls;

impl HostState {
    /// Gets an instance ready to be asked again.
    pub(super) fn begin(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = Some(snapshot);
        self.calls = 0;
        self.log.clear();
        self.lines_left_out = 0;
    }

    fn count_call(&mut self) -> wasmtime::Result<()> {
        self.calls += 1;
        if self.calls > HOST_CALLS {
            return Err(TooManyCalls.into());
        }
        Ok(())
    }

    fn ask(&mut self, question: Question) -> wasmtime::Result<Answer> {
        self.count_call()?;
        self.ask_uncounted(question)
    }

    fn ask_uncounted(&mut self, question: Question) -> wasmtime::Result<Answer> {
        let snapshot = self.snapshot.as_deref();
        let snapshot =
            snapshot.ok_or_else(|| wasmtime::Error::msg("there is no mount table in describe and prepare"))?;
        snapshot.ask(question).map_err(|error| wasmtime::Error::msg(format!("the mounts can't be read: {error}")))
    }

    fn count_of(&mut self, question: Question) -> wasmtime::Result<u64> {
        Ok(if let Answer::Count(count) = self.ask(question)? { count } else { 0 })
    }

    fn mount(&mut self, question: Question) -> wasmtime::Result<Option<types::Mount>> {
        Ok(if let Answer::Mount(mount) = self.ask(question)? { mount.map(contract::mount) } else { None })
    }

    fn mounts(&mut self, question: Question) -> wasmtime::Result<Vec<types::Mount>> {
        let Answer::Mounts(mounts) = self.ask(question)? else { return Ok(Vec::new()) };
        Ok(mounts.into_iter().map(contract::mount).collect())
    }

    fn locations(&mut self, question: Question) -> wasmtime::Result<Vec<Location>> {
        Ok(if let Answer::Locations(locations) = self.ask_uncounted(question)? { locations } else { Vec::new() })
    }
}

impl mount_table::Host for HostState {
    fn count(&mut self) -> wasmtime::Result<u64> {
        self.count_of(Question::Count)
    }

    fn page(&mut self, offset: u64, limit: u32) -> wasmtime::Result<Vec<types::Mount>> {
        self.mounts(Question::Page { offset, limit })
    }

    fn at(&mut self, target: String) -> wasmtime::Result<Vec<types::Mount>> {
        self.mounts(Question::At(target))
    }

    fn covering(&mut self, path: String) -> wasmtime::Result<Option<types::Mount>> {
        self.mount(Question::Covering(path))
    }

    fn below(&mut self, path: String, limit: u32) -> wasmtime::Result<Vec<types::Mount>> {
        self.mounts(Question::Below { path, limit })
    }

    fn count_below(&mut self, path: String) -> wasmtime::Result<u64> {
        self.count_of(Question::CountBelow(path))
    }

    fn count_in(&mut self, folder: types::Location) -> wasmtime::Result<u64> {
        self.count_of(Question::CountIn(contract::location_from_wit(folder)))
    }

    fn by_source(&mut self, source: String, limit: u32) -> wasmtime::Result<Vec<types::Mount>> {
        self.mounts(Question::BySource { source, limit })
    }

    fn count_by_source(&mut self, source: String) -> wasmtime::Result<u64> {
        self.count_of(Question::CountBySource(source))
    }

    fn by_device(&mut self, device: types::Device, limit: u32) -> wasmtime::Result<Vec<types::Mount>> {
        self.mounts(Question::ByDevice { device: Device { major: device.major, minor: device.minor }, limit })
    }

    fn by_id(&mut self, id: u64) -> wasmtime::Result<Option<types::Mount>> {
        self.mount(Question::ById(id))
    }

    fn locate(&mut self, paths: Vec<String>) -> wasmtime::Result<Vec<Option<types::Location>>> {
        self.count_call()?;
        let mut located = Vec::with_capacity(paths.len());
        for path in paths {
            located.push(match self.ask_uncounted(Question::Locate(path))? {
                Answer::Location(location) => location.as_ref().map(contract::location),
                _ => None,
            });
        }
        Ok(located)
    }

    fn follow(&mut self, paths: Vec<String>) -> wasmtime::Result<Vec<Vec<String>>> {
        self.count_call()?;
        let mut real = Vec::with_capacity(paths.len());
        for path in paths {
            let answer = self.ask_uncounted(Question::Follow(path))?;
            real.push(if let Answer::Names(path) = answer { path } else { Vec::new() });
        }
        Ok(real)
    }

    fn along(&mut self, paths: Vec<String>) -> wasmtime::Result<Vec<Vec<types::Location>>> {
        self.count_call()?;
        let mut ways = Vec::with_capacity(paths.len());
        for path in paths {
            let way = self.locations(Question::Along(path))?;
            ways.push(way.iter().map(contract::location).collect());
        }
        Ok(ways)
    }

    fn around(&mut self, of: Vec<types::Location>) -> wasmtime::Result<Vec<types::Location>> {
        self.count_call()?;
        let of = of.into_iter().map(contract::location_from_wit).collect();
        Ok(self.locations(Question::Around(of))?.iter().map(contract::location).collect())
    }

    fn names(&mut self, of: types::Location, limit: u32) -> wasmtime::Result<Vec<String>> {
        let location = contract::location_from_wit(of);
        Ok(if let Answer::Names(names) = self.ask(Question::Names { location, limit })? { names } else { Vec::new() })
    }
}

impl types::Host for HostState {}

impl log::Host for HostState {
    fn write(&mut self, level: log::Level, message: String, fields: Vec<log::Field>) -> wasmtime::Result<()> {
        self.count_call()?;
        if self.log.len() == LOG_LINES {
            self.lines_left_out += 1;
            return Ok(());
        }
        let mut text = message;
        for field in fields {
            text.push_str(&format!(" {}={:?}", field.name, field.value));
        }
        if text.len() > LOG_LINE_BYTES {
            text.truncate(text.floor_char_boundary(LOG_LINE_BYTES));
            text.push('…');
        }
        let level = match level {
            log::Level::Debug => tracing::Level::DEBUG,
            log::Level::Info => tracing::Level::INFO,
            log::Level::Warn => tracing::Level::WARN,
            log::Level::Error => tracing::Level::ERROR,
        };
        // A plugin must not be able to drive the operator's terminal.
        self.log.push(LogLine { level, text: for_people(&text).to_string() });
        Ok(())
    }
}
