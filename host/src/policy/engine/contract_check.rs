//! Whether a file is a component for the contract: what it imports and what it exports.

use super::messages::shown;
use crate::policy::directory::entry::PolicyEntry;
use crate::policy::fault::Fault;
use crate::policy::limits::CORE_INSTANCES;
use crate::policy::outline::Outline;

/// The version of the contract that this program speaks.
pub(super) const CONTRACT: &str = "0.1.0";

/// The names of the functions of an instrumented plugin that show what it has noted; a number follows.
pub(crate) const NOTES: &str = "mountgate-coverage-";

/// Refuses a file that isn't a component at all.
pub(super) fn check_header(bytes: &[u8]) -> Result<(), Fault> {
    let hint = "make a component of it: `wasm-tools component new`, or build it as docs/writing-a-plugin.md says";
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            Err(Fault::new("its plugin is a core module, not a component".to_owned(), hint))
        }
        _ => Err(Fault::new("its plugin isn't WebAssembly".to_owned(), hint)),
    }
}

/// Refuses a plugin by its outline, before it's compiled: that can take half a minute.
pub(super) fn check_outline(plugin: &[u8], entry: &PolicyEntry) -> Result<(), Fault> {
    let Some(outline) = Outline::read(plugin) else { return Ok(()) };
    check_imports(outline.imports.iter().map(String::as_str), entry)?;
    check_exports(outline.exports.iter().map(String::as_str))?;
    if let Some(name) = outline.exports.iter().find(|name| name.starts_with(NOTES)) {
        return Err(Fault::new(
            format!("its plugin exports {}, a name that the fuzzer gives", shown(name)),
            "build it anew: this one was changed by a fuzzer",
        ));
    }
    if outline.core_instances > CORE_INSTANCES {
        return Err(Fault::new(
            format!("its plugin has {} core instances, and at most {CORE_INSTANCES} may be", outline.core_instances),
            "build it with fewer modules: componentize-py takes fewer without unused libraries",
        ));
    }
    Ok(())
}

/// Refuses a plugin that imports something which isn't offered, or isn't granted to its policy.
pub(super) fn check_imports<'n>(names: impl IntoIterator<Item = &'n str>, entry: &PolicyEntry) -> Result<(), Fault> {
    for name in names {
        if let Some(rest) = name.strip_prefix("mountgate:policy/") {
            match rest.split_once('@') {
                Some(("types" | "mount-table" | "log", CONTRACT)) => {}
                Some((_, version)) if version != CONTRACT => return Err(other_version(version)),
                _ => return Err(not_offered(name)),
            }
        } else if name.starts_with("wasi:http/") {
            return Err(Fault::new(
                format!("its plugin imports {name}: there is no network for a plugin, and no grant gives one"),
                "build it without HTTP: componentize-js takes `--disable http --disable fetch-event`",
            ));
        } else if name.starts_with("wasi:") {
            if !entry.has_wasi() {
                return Err(Fault::new(
                    format!("its plugin imports {name}, which it isn't granted"),
                    format!(
                        "if it needs WASI (JavaScript and Python plugins do), add the line  grants = [\"wasi\"]  to \
                         policy {:?}",
                        entry.name
                    ),
                ));
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

/// Refuses a component that doesn't export what the contract asks for.
pub(super) fn check_exports<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<(), Fault> {
    match names.into_iter().find_map(|name| name.strip_prefix("mountgate:policy/plugin@")) {
        Some(CONTRACT) => Ok(()),
        Some(version) => Err(other_version(version)),
        None => Err(Fault::new(
            format!("its plugin is a component for another world: it exports no mountgate:policy/plugin@{CONTRACT}"),
            "build it against the WIT of mountgate:policy",
        )),
    }
}

fn other_version(version: &str) -> Fault {
    Fault::new(
        format!(
            "its plugin was built for mountgate:policy@{}, and this mountgate speaks mountgate:policy@{CONTRACT}",
            shown(version)
        ),
        format!("build the plugin for {CONTRACT}, or use a mountgate that speaks its version"),
    )
}
