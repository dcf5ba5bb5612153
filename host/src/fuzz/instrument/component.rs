//! Rewrites a component: its modules, and the exports that show their notes.

use anyhow::{Context, Result, bail};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, CanonicalOption, Component, ComponentAliasSection, ComponentExportKind,
    ComponentExportSection, ComponentTypeSection, ComponentValType, ExportKind, PrimitiveValType, RawSection,
};
use wasmparser_of_encoder::{
    Chunk, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentTypeRef,
    Encoding, Instance, Parser, Payload, ValidPayload, Validator, WasmFeatures,
};

use super::module;
use super::noting::Noting;
use crate::policy::engine::NOTES;

/// How many things of a kind a component has: what is added gets the next numbers.
#[derive(Debug, Clone, Copy)]
struct Counts {
    types: u32,
    functions: u32,
    core_functions: u32,
    memories: u32,
}

/// Rewrites a component.
///
/// # Errors
/// When it isn't sound.
pub(crate) fn instrument(plugin: &[u8], noting: Noting) -> Result<Vec<u8>> {
    let counts = count(plugin)?;
    let mut rewriter = Rewriter { whole: plugin, noting, counts, started: 0 };
    let (component, notes) = rewriter.component(Parser::new(0), plugin)?;
    if notes == 0 {
        bail!("it has no branch");
    }
    Ok(component.finish())
}

/// The counts of each component, in the order in which they begin.
fn count(plugin: &[u8]) -> Result<Vec<Counts>> {
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let (mut counts, mut open) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(plugin) {
        let payload = payload?;
        if let Payload::Version { encoding, .. } = payload {
            open.push((encoding == Encoding::Component).then(|| {
                counts.push(None);
                counts.len() - 1
            }));
        }
        if let ValidPayload::End(types) = validator.payload(&payload)?
            && let Some(Some(number)) = open.pop()
        {
            let types = types.as_ref();
            counts[number] = Some(Counts {
                types: types.component_type_count(),
                functions: types.component_function_count(),
                core_functions: types.function_count(),
                memories: types.memory_count(),
            });
        }
    }
    counts.into_iter().collect::<Option<Vec<_>>>().context("a component without an end")
}

struct Rewriter<'p> {
    whole: &'p [u8],
    noting: Noting,
    counts: Vec<Counts>,
    started: usize,
}

/// What was found in a component: of modules whether they have notes, of components how many exports show notes.
#[derive(Default)]
struct Found {
    modules: Vec<bool>,
    components: Vec<u32>,
    core_instances: Vec<bool>,
    instances: Vec<u32>,
}

impl Rewriter<'_> {
    /// A component and how many exports of it show notes.
    fn component(&mut self, mut parser: Parser, data: &[u8]) -> Result<(Component, u32)> {
        let counts = *self.counts.get(self.started).context("a component that wasn't counted")?;
        self.started += 1;
        let mut component = Component::new();
        let mut found = Found::default();
        let mut rest = data;
        while !rest.is_empty() {
            let Chunk::Parsed { consumed, payload } = parser.parse(rest, true)? else { bail!("it ends too early") };
            rest = &rest[consumed..];
            match payload {
                Payload::ModuleSection { unchecked_range, .. } => {
                    let range = usize::try_from(unchecked_range.start)?..usize::try_from(unchecked_range.end)?;
                    rest = &rest[range.len()..];
                    let bytes = &self.whole[range];
                    let noted = module::instrument(bytes, self.noting)?;
                    found.modules.push(noted.is_some());
                    component.section(&RawSection { id: 1, data: noted.as_deref().unwrap_or(bytes) });
                }
                Payload::ComponentSection { parser, unchecked_range } => {
                    let range = usize::try_from(unchecked_range.start)?..usize::try_from(unchecked_range.end)?;
                    rest = &rest[range.len()..];
                    let (inner, notes) = self.component(parser, &self.whole[range])?;
                    found.components.push(notes);
                    component.section(&wasm_encoder::NestedComponentSection(&inner));
                }
                Payload::End(_) => break,
                payload => {
                    note(&mut found, &payload)?;
                    if let Some((id, range)) = payload.as_section() {
                        let data = &self.whole[usize::try_from(range.start)?..usize::try_from(range.end)?];
                        component.section(&RawSection { id, data });
                    }
                }
            }
        }
        let notes = show(&mut component, &found, counts);
        Ok((component, notes))
    }
}

/// Notes what a section adds to the instances, components and modules.
fn note(found: &mut Found, payload: &Payload<'_>) -> Result<()> {
    match payload {
        Payload::InstanceSection(reader) => {
            for instance in reader.clone() {
                found.core_instances.push(match instance? {
                    Instance::Instantiate { module_index, .. } => {
                        found.modules.get(usize::try_from(module_index)?).copied().unwrap_or(false)
                    }
                    Instance::FromExports(_) => false,
                });
            }
        }
        Payload::ComponentInstanceSection(reader) => {
            for instance in reader.clone() {
                found.instances.push(match instance? {
                    ComponentInstance::Instantiate { component_index, .. } => {
                        found.components.get(usize::try_from(component_index)?).copied().unwrap_or(0)
                    }
                    ComponentInstance::FromExports(_) => 0,
                });
            }
        }
        Payload::ComponentImportSection(reader) => {
            for import in reader.clone() {
                match import?.ty {
                    ComponentTypeRef::Instance(_) => found.instances.push(0),
                    ComponentTypeRef::Component(_) => found.components.push(0),
                    ComponentTypeRef::Module(_) => found.modules.push(false),
                    _ => {}
                }
            }
        }
        Payload::ComponentAliasSection(reader) => {
            for alias in reader.clone() {
                match alias? {
                    ComponentAlias::InstanceExport { kind, .. } => add_unknown(found, kind),
                    ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. } => {
                        found.modules.push(false)
                    }
                    ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, .. } => found.components.push(0),
                    _ => {}
                }
            }
        }
        Payload::ComponentExportSection(reader) => {
            for export in reader.clone() {
                add_unknown(found, export?.kind);
            }
        }
        _ => {}
    }
    Ok(())
}

/// A name for something that is there already.
fn add_unknown(found: &mut Found, kind: ComponentExternalKind) {
    match kind {
        ComponentExternalKind::Instance => found.instances.push(0),
        ComponentExternalKind::Component => found.components.push(0),
        ComponentExternalKind::Module => found.modules.push(false),
        _ => {}
    }
}

/// Adds the exports that show the notes of the modules, and of the components within.
fn show(component: &mut Component, found: &Found, mut counts: Counts) -> u32 {
    let mut exports = 0;
    let of_bytes = counts.types;
    let of_show = counts.types + 1;
    if found.core_instances.contains(&true) {
        let mut types = ComponentTypeSection::new();
        types.defined_type().list(ComponentValType::Primitive(PrimitiveValType::U8));
        let none: [(&str, ComponentValType); 0] = [];
        types.function().params(none).result(Some(ComponentValType::Type(of_bytes)));
        component.section(&types);
    }
    for (number, _) in found.core_instances.iter().enumerate().filter(|(_, noted)| **noted) {
        let instance = u32::try_from(number).unwrap_or(0);
        let mut aliases = ComponentAliasSection::new();
        aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Func, name: module::SHOW });
        aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Memory, name: module::MEMORY });
        let mut lifts = CanonicalFunctionSection::new();
        lifts.lift(counts.core_functions, of_show, [CanonicalOption::Memory(counts.memories)]);
        component.section(&aliases).section(&lifts);
        export(component, &mut exports, &mut counts);
        counts.core_functions += 1;
        counts.memories += 1;
    }
    for (number, notes) in found.instances.iter().enumerate() {
        for inner in 0..*notes {
            let (instance, name) = (u32::try_from(number).unwrap_or(0), format!("{NOTES}{inner}"));
            let mut aliases = ComponentAliasSection::new();
            aliases.alias(Alias::InstanceExport { instance, kind: ComponentExportKind::Func, name: &name });
            component.section(&aliases);
            export(component, &mut exports, &mut counts);
        }
    }
    exports
}

/// Exports the function that was just added. The export is a function of its own.
fn export(component: &mut Component, exports: &mut u32, counts: &mut Counts) {
    let mut section = ComponentExportSection::new();
    section.export(format!("{NOTES}{exports}").as_str(), ComponentExportKind::Func, counts.functions, None);
    component.section(&section);
    *exports += 1;
    counts.functions += 2;
}
