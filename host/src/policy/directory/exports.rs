//! What a component exports, read without compiling it.

use wasmparser::{Parser, Payload};

/// The version of the contract that a plugin was built for.
pub(super) fn contract_of(plugin: &[u8]) -> Option<String> {
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(plugin) {
        match payload.ok()? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentExportSection(exports) if depth == 0 => {
                let mut names = exports.into_iter().filter_map(|export| Some(export.ok()?.name.name.to_owned()));
                let version = names.find_map(|name| name.strip_prefix("mountgate:policy/plugin@").map(str::to_owned));
                if version.is_some() {
                    return version;
                }
            }
            _ => {}
        }
    }
    None
}
