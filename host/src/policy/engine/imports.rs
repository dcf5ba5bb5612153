//! What a plugin can call: the mount table and the log, and nothing else.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiCtx;

use super::bindings::mountgate::policy::{log, mount_table, types};
use super::contract_v0_1 as contract;
use super::meter::Meter;
use crate::model::host_error::HostError;
use crate::mount_table::mount::Mount;
use crate::mount_table::snapshot::Snapshot;
use crate::mount_table::table::MountTable;
use crate::policy::evaluation::LogLine;
use crate::policy::limits::{HOST_CALLS, LOG_LINE_BYTES, LOG_LINES};

/// The most mounts that one call gives.
const PAGE: u32 = 1000;

/// The host's side of one instance.
pub(super) struct HostState {
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) meter: Meter,
    pub(super) calls: u32,
    pub(super) log: Vec<LogLine>,
    pub(super) lines_left_out: u32,
    pub(super) wasi: Option<Box<(WasiCtx, ResourceTable)>>,
}

/// Raised where a plugin calls the host too often.
#[derive(Debug, thiserror::Error)]
#[error("more than {HOST_CALLS} calls to the host")]
pub(super) struct TooManyCalls;

impl HostState {
    fn count_call(&mut self) -> wasmtime::Result<()> {
        self.calls += 1;
        if self.calls > HOST_CALLS {
            return Err(TooManyCalls.into());
        }
        Ok(())
    }

    fn snapshot(&mut self) -> wasmtime::Result<&Snapshot> {
        self.count_call()?;
        self.snapshot
            .as_deref()
            .ok_or_else(|| wasmtime::Error::msg("there is no mount table in describe and validate-settings"))
    }

    fn table(&mut self) -> wasmtime::Result<&MountTable> {
        self.snapshot()?.table().map_err(unreadable)
    }
}

fn unreadable(error: &HostError) -> wasmtime::Error {
    wasmtime::Error::msg(format!("the mount table can't be read: {error}"))
}

/// Copies at most `limit` of the mounts.
fn some<'t>(mounts: impl Iterator<Item = Mount<'t>>, limit: u32) -> Vec<types::Mount> {
    mounts.take(limit.min(PAGE) as usize).map(|mount| contract::mount(mount.to_text())).collect()
}

impl mount_table::Host for HostState {
    fn count(&mut self) -> wasmtime::Result<u64> {
        Ok(self.table()?.len() as u64)
    }

    fn page(&mut self, offset: u64, limit: u32) -> wasmtime::Result<Vec<types::Mount>> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(some(self.table()?.page(offset, limit.min(PAGE) as usize), limit))
    }

    fn at(&mut self, target: String) -> wasmtime::Result<Vec<types::Mount>> {
        let table = self.table()?;
        let stack = table.at(target.as_bytes());
        let hidden = stack.len().saturating_sub(PAGE as usize);
        Ok(some(stack.skip(hidden), PAGE))
    }

    fn covering(&mut self, path: String) -> wasmtime::Result<Option<types::Mount>> {
        let covering = self.snapshot()?.covering(&path).map_err(unreadable)?;
        Ok(covering.map(contract::mount))
    }

    fn below(&mut self, path: String, limit: u32) -> wasmtime::Result<Vec<types::Mount>> {
        Ok(some(self.table()?.below(path.as_bytes()), limit))
    }

    fn count_below(&mut self, path: String) -> wasmtime::Result<u64> {
        Ok(self.table()?.below(path.as_bytes()).len() as u64)
    }

    fn by_source(&mut self, source: String, limit: u32) -> wasmtime::Result<Vec<types::Mount>> {
        Ok(some(self.table()?.by_source(source.as_bytes()), limit))
    }

    fn count_by_source(&mut self, source: String) -> wasmtime::Result<u64> {
        Ok(self.table()?.by_source(source.as_bytes()).len() as u64)
    }

    fn by_device(&mut self, device: types::Device, limit: u32) -> wasmtime::Result<Vec<types::Mount>> {
        Ok(some(self.table()?.by_device(device.major, device.minor), limit))
    }

    fn by_id(&mut self, id: u64) -> wasmtime::Result<Option<types::Mount>> {
        Ok(self.table()?.by_id(id).map(|mount| contract::mount(mount.to_text())))
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
        self.log.push(LogLine { level, text: text.escape_debug().to_string() });
        Ok(())
    }
}
