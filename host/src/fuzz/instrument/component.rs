//! Rewrites a component: its modules, and the exports that show their notes.

use std::ops::Range;

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

/// A plugin that shows what it notes. One without branches is as it was.
pub(crate) struct Instrumented {
    /// The component.
    pub(crate) component: Vec<u8>,
    /// Of each export that shows notes, in their order, where the plugin has the module whose notes they are.
    pub(crate) modules: Vec<Range<usize>>,
}

/// Rewrites a component.
///
/// # Errors
/// When it isn't sound.
pub(crate) fn instrument(plugin: &[u8], noting: Noting) -> Result<Instrumented> {
    let counts = count(plugin)?;
    let mut rewriter = Rewriter { whole: plugin, noting, counts, started: 0 };
    let (component, modules) = rewriter.component(Parser::new(0), plugin)?;
    Ok(Instrumented { component: component.finish(), modules })
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

/// What was found in a component: of modules where they are, if they have notes; of components the modules of the exports that show
/// notes; and of instances what they are made of.
#[derive(Default)]
struct Found {
    modules: Vec<Option<Range<usize>>>,
    components: Vec<Vec<Range<usize>>>,
    core_instances: Vec<Option<Range<usize>>>,
    instances: Vec<Vec<Range<usize>>>,
}

impl Rewriter<'_> {
    /// A component, and the modules whose notes its exports show.
    fn component(&mut self, mut parser: Parser, data: &[u8]) -> Result<(Component, Vec<Range<usize>>)> {
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
                    let bytes = &self.whole[range.clone()];
                    let noted = module::instrument(bytes, self.noting)?;
                    found.modules.push(noted.is_some().then_some(range));
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
                        found.modules.get(usize::try_from(module_index)?).cloned().flatten()
                    }
                    Instance::FromExports(_) => None,
                });
            }
        }
        Payload::ComponentInstanceSection(reader) => {
            for instance in reader.clone() {
                found.instances.push(match instance? {
                    ComponentInstance::Instantiate { component_index, .. } => {
                        found.components.get(usize::try_from(component_index)?).cloned().unwrap_or_default()
                    }
                    ComponentInstance::FromExports(_) => Vec::new(),
                });
            }
        }
        Payload::ComponentImportSection(reader) => {
            for import in reader.clone() {
                match import?.ty {
                    ComponentTypeRef::Instance(_) => found.instances.push(Vec::new()),
                    ComponentTypeRef::Component(_) => found.components.push(Vec::new()),
                    ComponentTypeRef::Module(_) => found.modules.push(None),
                    _ => {}
                }
            }
        }
        Payload::ComponentAliasSection(reader) => {
            for alias in reader.clone() {
                match alias? {
                    ComponentAlias::InstanceExport { kind, .. } => add_unknown(found, kind),
                    ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. } => found.modules.push(None),
                    ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, .. } => {
                        found.components.push(Vec::new())
                    }
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
        ComponentExternalKind::Instance => found.instances.push(Vec::new()),
        ComponentExternalKind::Component => found.components.push(Vec::new()),
        ComponentExternalKind::Module => found.modules.push(None),
        _ => {}
    }
}

/// Adds the exports that show the notes of the modules, and of the components within.
fn show(component: &mut Component, found: &Found, mut counts: Counts) -> Vec<Range<usize>> {
    let mut exports = Vec::new();
    let of_bytes = counts.types;
    let of_show = counts.types + 1;
    if found.core_instances.iter().any(Option::is_some) {
        let mut types = ComponentTypeSection::new();
        types.defined_type().list(ComponentValType::Primitive(PrimitiveValType::U8));
        let none: [(&str, ComponentValType); 0] = [];
        types.function().params(none).result(Some(ComponentValType::Type(of_bytes)));
        component.section(&types);
    }
    let noted = found.core_instances.iter().enumerate();
    for (number, module) in noted.filter_map(|(number, module)| Some((number, module.clone()?))) {
        let instance = u32::try_from(number).unwrap_or(0);
        let mut aliases = ComponentAliasSection::new();
        aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Func, name: module::SHOW });
        aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Memory, name: module::MEMORY });
        let mut lifts = CanonicalFunctionSection::new();
        lifts.lift(counts.core_functions, of_show, [CanonicalOption::Memory(counts.memories)]);
        component.section(&aliases).section(&lifts);
        export(component, &mut exports, module, &mut counts);
        counts.core_functions += 1;
        counts.memories += 1;
    }
    for (number, modules) in found.instances.iter().enumerate() {
        for (inner, module) in modules.iter().enumerate() {
            let (instance, name) = (u32::try_from(number).unwrap_or(0), format!("{NOTES}{inner}"));
            let mut aliases = ComponentAliasSection::new();
            aliases.alias(Alias::InstanceExport { instance, kind: ComponentExportKind::Func, name: &name });
            component.section(&aliases);
            export(component, &mut exports, module.clone(), &mut counts);
        }
    }
    exports
}

/// Exports the function that was just added and shows the notes of a module. The export is a function of its own.
fn export(component: &mut Component, exports: &mut Vec<Range<usize>>, module: Range<usize>, counts: &mut Counts) {
    let mut section = ComponentExportSection::new();
    let name = format!("{NOTES}{}", exports.len());
    section.export(name.as_str(), ComponentExportKind::Func, counts.functions, None);
    component.section(&section);
    exports.push(module);
    counts.functions += 2;
}
