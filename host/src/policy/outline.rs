//! What a component imports and exports, read without compiling it.

use wasmparser::{Parser, Payload};

/// The outline of a component.
#[derive(Debug, Default)]
pub(in crate::policy) struct Outline {
    pub(in crate::policy) imports: Vec<String>,
    pub(in crate::policy) exports: Vec<String>,
    /// How many instances of modules it makes, in it and in the components within it.
    pub(in crate::policy) core_instances: u32,
}

impl Outline {
    /// Reads a component. None of what isn't one: the compiler says what is wrong with it.
    pub(in crate::policy) fn read(component: &[u8]) -> Option<Self> {
        let mut outline = Self::default();
        // The component itself is the outermost of those that are open.
        let mut open = 0;
        for payload in Parser::new(0).parse_all(component) {
            match payload.ok()? {
                Payload::Version { .. } => open += 1,
                Payload::End(_) => open -= 1,
                Payload::InstanceSection(instances) => outline.core_instances += instances.count(),
                Payload::ComponentImportSection(imports) if open == 1 => {
                    for import in imports {
                        outline.imports.push(import.ok()?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(exports) if open == 1 => {
                    for export in exports {
                        outline.exports.push(export.ok()?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Some(outline)
    }

    /// The version of the contract that it was built for.
    pub(in crate::policy) fn contract(&self) -> Option<&str> {
        self.exports.iter().find_map(|name| name.strip_prefix("mountgate:policy/plugin@"))
    }
}
