//! Compiles plugins, and changes them before where they are to be instrumented. The program does it in a process of its own, which has a
//! limit of CPU time and of memory: what a hostile plugin does to the compiler ends there.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use wasmtime::component::Component;

use super::messages::{unavailable, wasmtime_causes};
use super::wasmtime_config::config;
use crate::policy::fault::Fault;
use crate::policy::limits::{COMPILER_MEMORY, COMPILER_SECONDS};
use crate::sys::{self, with_no_signal_blocked};

/// The name under which the program compiles what it reads, and writes the code.
pub(crate) const NAME: &str = "mountgate-compiler";

/// Whether plugins are compiled in a process of its own. A program that only uses this library can't be started for that.
static IS_APART: OnceLock<()> = OnceLock::new();

/// From now on plugins are compiled by this very program, started again under the name [`NAME`].
pub(crate) fn compile_apart() {
    let _ = IS_APART.set(());
}

/// A change that is made to each plugin before it's compiled.
#[derive(Clone, Copy)]
pub(crate) struct Rewriting {
    /// The end of the names under which what is compiled is kept.
    pub(crate) name: &'static str,
    pub(crate) rewrite: fn(&[u8]) -> anyhow::Result<Vec<u8>>,
}

/// Compiles plugins here, where there is no process of its own for it. It's set up when it's needed: that takes as long as a
/// decision.
#[derive(Default)]
pub(super) struct Compiler(OnceLock<wasmtime::Engine>);

impl Compiler {
    /// Compiles a plugin for an engine, changed where that is asked for.
    ///
    /// # Errors
    /// When it isn't a sound component, or takes too much to compile.
    pub(super) fn compile(
        &self,
        plugin: &[u8],
        rewriting: Option<Rewriting>,
        engine: &wasmtime::Engine,
    ) -> Result<(Vec<u8>, Component), Fault> {
        // The link leads to the very program that runs, also after another one was put in its place. A container without a /proc
        // has none.
        let program = Path::new("/proc/self/exe");
        let apart = IS_APART.get().filter(|()| program.exists());
        let code = match apart {
            Some(()) => run(program, plugin, rewriting)?,
            None => self.compile_here(plugin, rewriting)?,
        };
        let component = sys::deserialize(engine, &code).map_err(|error| unsound(&wasmtime_causes(&error)))?;
        Ok((code, component))
    }

    fn compile_here(&self, plugin: &[u8], rewriting: Option<Rewriting>) -> Result<Vec<u8>, Fault> {
        let rewritten = rewriting.map(|rewriting| (rewriting.rewrite)(plugin)).transpose();
        let rewritten = rewritten.map_err(|error| {
            Fault::new(format!("its plugin can't be instrumented: {error:#}"), "report this, with the plugin")
        })?;
        let plugin = rewritten.as_deref().unwrap_or(plugin);
        let engine = match self.0.get() {
            Some(engine) => engine,
            None => {
                let engine = wasmtime::Engine::new(&config()).map_err(|error| unavailable(&error))?;
                self.0.get_or_init(|| engine)
            }
        };
        engine.precompile_component(plugin).map_err(|error| unsound(&wasmtime_causes(&error)))
    }
}

/// What this process does when it was started under the name [`NAME`]: reads a plugin, and writes its code or what is wrong with
/// it. Changes it before as the argument says. Says with which status it ends.
pub(crate) fn main(rewritings: &[Rewriting]) -> i32 {
    // However this program was built: an abort would be taken for a lack of memory.
    std::panic::set_hook(Box::new(|_| std::process::exit(PANICKED)));
    let result = limit_this_process().and_then(|()| {
        let mut plugin = Vec::new();
        io::stdin().read_to_end(&mut plugin)?;
        Ok(plugin)
    });
    let compiled = match result {
        Ok(plugin) => match rewriting_named(std::env::args_os().nth(1), rewritings) {
            Ok(rewriting) => Compiler::default().compile_here(&plugin, rewriting).map_err(|fault| fault.message),
            Err(name) => Err(format!("there is no way {name:?} to change a plugin")),
        },
        Err(error) => Err(error.to_string()),
    };
    let (status, output) = match &compiled {
        Ok(code) => (0, code.as_slice()),
        Err(message) => (1, message.as_bytes()),
    };
    match io::stdout().write_all(output) {
        Ok(()) => status,
        Err(_) => 2,
    }
}

fn rewriting_named(name: Option<OsString>, rewritings: &[Rewriting]) -> Result<Option<Rewriting>, OsString> {
    let Some(name) = name else { return Ok(None) };
    rewritings.iter().find(|rewriting| name == rewriting.name).copied().map(Some).ok_or(name)
}

fn limit_this_process() -> io::Result<()> {
    // It's of no use to anybody else.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    for (resource, limit) in
        [(Resource::Cpu, COMPILER_SECONDS), (Resource::As, COMPILER_MEMORY), (Resource::Core, 0), (Resource::Fsize, 0)]
    {
        // One that is lower already stays.
        let limit = getrlimit(resource).current.map_or(limit, |current| current.min(limit));
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    Ok(())
}

/// Has this program compile a plugin in a process of its own.
#[expect(clippy::disallowed_methods, reason = "it starts this very program, which then only computes")]
fn run(program: &Path, plugin: &[u8], rewriting: Option<Rewriting>) -> Result<Vec<u8>, Fault> {
    let failed = |error: io::Error| {
        Fault::new(
            format!("its plugin can't be compiled: {} doesn't run: {error}", program.display()),
            "the program starts itself to compile plugins: it must be executable",
        )
    };
    let mut command = Command::new(program);
    command.args(rewriting.map(|rewriting| rewriting.name));
    command.arg0(NAME).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = with_no_signal_blocked(&mut command).spawn().map_err(failed)?;
    // It reads all before it writes anything. If it ends before that, its status says why.
    let _ = child.stdin.take().map(|mut input| input.write_all(plugin));
    let output = child.wait_with_output().map_err(failed)?;
    match output.status.code() {
        Some(0) => Ok(output.stdout),
        Some(1) => Err(unsound_as_told(&String::from_utf8_lossy(&output.stdout))),
        _ => Err(too_much(output.status)),
    }
}

fn unsound(why: &str) -> Fault {
    unsound_as_told(&format!("its plugin isn't a sound component: {why}"))
}

fn unsound_as_told(message: &str) -> Fault {
    Fault::new(message.to_owned(), "build it again, and check that the file is complete")
}

/// What a Rust program ends with that gives up, see the standard library's `process::Termination`.
const PANICKED: i32 = 101;

/// The process was ended by a limit, or by a crash of the compiler.
fn too_much(status: ExitStatus) -> Fault {
    if status.code() == Some(PANICKED) {
        return Fault::new(
            "its plugin can't be compiled: the compiler itself failed".to_owned(),
            "report this, with the plugin; another tool, or another version of it, may make a component that compiles",
        );
    }
    let limit = match status.signal().map(Signal::from_named_raw) {
        Some(Some(Signal::XCPU | Signal::KILL)) => format!("{COMPILER_SECONDS} s of CPU time"),
        _ => format!("{} GiB of memory", COMPILER_MEMORY >> 30),
    };
    Fault::new(
        format!("its plugin can't be compiled within {limit} ({status})"),
        "build it smaller, or split its work among more functions",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_that_was_ended_is_told_with_its_limit() {
        let of = |signal| too_much(ExitStatus::from_raw(signal)).message;
        assert!(of(24).contains("s of CPU time"), "{}", of(24));
        assert!(of(6).contains("GiB of memory"), "{}", of(6));
        // A wait status has the exit status in its second byte.
        assert!(of(PANICKED << 8).contains("the compiler itself failed"), "{}", of(PANICKED << 8));
    }
}
