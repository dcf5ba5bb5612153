//! Rewrites one core module.

use anyhow::{Context, Result};
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataCountSection, DataSection, ExportKind, ExportSection, Function,
    FunctionSection, Instruction, MemArg, MemArgTarget, MemorySection, MemoryType, Module, RawSection, TypeSection,
    ValType,
};
use wasmparser_of_encoder::{CodeSectionReader, CompositeInnerType, FunctionBody, Operator, Parser, Payload, TypeRef};

use super::branch::Branch;
use super::notes::{HEADER, LIST, Layout, TEXT};
use super::noting::Noting;

/// The exports that show the notes to the component.
pub(super) const MEMORY: &str = "mountgate:notes";
pub(super) const SHOW: &str = "mountgate:show-notes";
const PAGE: u32 = 64 << 10;

/// What is known of a module before its code is read.
#[derive(Default)]
struct Outline {
    /// Of each type, the number of parameters, and whether a function of it could be memcmp(3).
    types: Vec<(u32, bool)>,
    /// The type of each function, imported ones first.
    functions: Vec<u32>,
    memories: u32,
    has_data_count: bool,
}

/// Rewrites a module. None where it has nothing to note.
pub(super) fn instrument(bytes: &[u8], noting: Noting) -> Result<Option<Vec<u8>>> {
    let payloads = Parser::new(0).parse_all(bytes).collect::<Result<Vec<_>, _>>()?;
    let outline = outline(&payloads)?;
    let code = payloads.iter().find_map(|payload| match payload {
        Payload::CodeSectionStart { unchecked_range, .. } => Some(unchecked_range.clone()),
        _ => None,
    });
    let Some(range) = code else { return Ok(None) };
    let section = || -> Result<CodeSectionReader<'_>> {
        let reader = wasmparser_of_encoder::BinaryReader::new(
            &bytes[usize::try_from(range.start)?..usize::try_from(range.end)?],
            range.start,
        );
        Ok(CodeSectionReader::new(reader)?)
    };
    // Twice: where a note lies depends on how many there are.
    let mut writer = Writer { outline: &outline, noting, layout: Layout::default(), next: Layout::default() };
    writer.code(section()?)?;
    writer.layout = std::mem::take(&mut writer.next);
    if writer.layout.edges < 3 {
        return Ok(None);
    }
    let mut code = writer.code(section()?)?;
    let layout = writer.layout;
    let mut show = Function::new([]);
    // The notes of the last request are cleared.
    let begin = LIST + HEADER;
    for number in [begin, 0, layout.end() - begin] {
        show.instruction(&Instruction::I32Const(i32::try_from(number)?));
    }
    show.instruction(&Instruction::MemoryFill(outline.memories));
    show.instruction(&Instruction::I32Const(0)).instruction(&Instruction::End);
    code.function(&show);
    rebuild(bytes, &payloads, &outline, layout, &code).map(Some)
}

fn outline(payloads: &[Payload<'_>]) -> Result<Outline> {
    let mut outline = Outline::default();
    for payload in payloads {
        match payload {
            Payload::TypeSection(reader) => {
                for group in reader.clone() {
                    for ty in group?.types() {
                        outline.types.push(match &ty.composite_type.inner {
                            CompositeInnerType::Func(func) => {
                                let is_i32 =
                                    |ty: &wasmparser_of_encoder::ValType| *ty == wasmparser_of_encoder::ValType::I32;
                                let compares = func.params().len() == 3 && func.results().len() == 1;
                                let of_i32 = func.params().iter().all(is_i32) && func.results().iter().all(is_i32);
                                (u32::try_from(func.params().len())?, compares && of_i32)
                            }
                            _ => (0, false),
                        });
                    }
                }
            }
            Payload::ImportSection(reader) => {
                for import in reader.clone().into_imports() {
                    match import?.ty {
                        TypeRef::Func(ty) | TypeRef::FuncExact(ty) => outline.functions.push(ty),
                        TypeRef::Memory(_) => outline.memories += 1,
                        _ => {}
                    }
                }
            }
            Payload::FunctionSection(reader) => {
                for ty in reader.clone() {
                    outline.functions.push(ty?);
                }
            }
            Payload::MemorySection(reader) => outline.memories += reader.count(),
            Payload::DataCountSection { .. } => outline.has_data_count = true,
            _ => {}
        }
    }
    Ok(outline)
}

/// Writes the module anew: what isn't changed is copied.
fn rebuild(
    bytes: &[u8],
    payloads: &[Payload<'_>],
    outline: &Outline,
    layout: Layout,
    code: &CodeSection,
) -> Result<Vec<u8>> {
    let mut reencoder = RoundtripReencoder;
    let (mut types, mut functions, mut memories) = (TypeSection::new(), FunctionSection::new(), MemorySection::new());
    let (mut exports, mut data) = (ExportSection::new(), DataSection::new());
    let mut raw: Vec<(u8, &[u8])> = Vec::new();
    for payload in payloads {
        match payload {
            Payload::TypeSection(reader) => reencoder.parse_type_section(&mut types, reader.clone())?,
            Payload::FunctionSection(reader) => reencoder.parse_function_section(&mut functions, reader.clone())?,
            Payload::MemorySection(reader) => reencoder.parse_memory_section(&mut memories, reader.clone())?,
            Payload::ExportSection(reader) => reencoder.parse_export_section(&mut exports, reader.clone())?,
            Payload::DataSection(reader) => reencoder.parse_data_section(&mut data, reader.clone())?,
            Payload::CodeSectionStart { .. } | Payload::DataCountSection { .. } => {}
            // Names are of no use here.
            Payload::CustomSection(_) => {}
            other => {
                if let Some((id, range)) = other.as_section().filter(|(id, _)| *id != 10) {
                    raw.push((id, &bytes[usize::try_from(range.start)?..usize::try_from(range.end)?]));
                }
            }
        }
    }
    types.ty().function([], [ValType::I32]);
    functions.function(u32::try_from(outline.types.len())?);
    let pages = u64::from(layout.end().div_ceil(PAGE));
    memories.memory(MemoryType {
        minimum: pages,
        maximum: Some(pages),
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    exports.export(MEMORY, ExportKind::Memory, outline.memories);
    exports.export(SHOW, ExportKind::Func, u32::try_from(outline.functions.len())?);
    let words = [LIST, layout.end() - LIST, 0, 0, layout.edges, layout.numbers];
    data.active(outline.memories, &ConstExpr::i32_const(0), words.map(u32::to_le_bytes).concat());
    let mut module = Module::new();
    let copy = |module: &mut Module, wanted: u8| {
        for (id, data) in raw.iter().filter(|(id, _)| *id == wanted) {
            module.section(&RawSection { id: *id, data });
        }
    };
    module.section(&types);
    copy(&mut module, 2);
    module.section(&functions);
    copy(&mut module, 4);
    module.section(&memories);
    copy(&mut module, 13);
    copy(&mut module, 6);
    module.section(&exports);
    copy(&mut module, 8);
    copy(&mut module, 9);
    if outline.has_data_count {
        module.section(&DataCountSection { count: data.len() });
    }
    module.section(code).section(&data);
    Ok(module.finish())
}

/// Writes functions with notes.
struct Writer<'o> {
    outline: &'o Outline,
    noting: Noting,
    /// How many notes there are, known in the second pass.
    layout: Layout,
    next: Layout,
}

/// The locals that a function gets: the operands of what is noted.
struct Scratch {
    choice: u32,
    words: [u32; 3],
    longs: [u32; 2],
}

impl Writer<'_> {
    fn code(&mut self, section: CodeSectionReader<'_>) -> Result<CodeSection> {
        let mut code = CodeSection::new();
        let imported = self.outline.functions.len() - usize::try_from(section.count())?;
        for (number, body) in section.into_iter().enumerate() {
            let ty = self.outline.functions.get(imported + number).context("a function without a type")?;
            let (params, _) = self.outline.types.get(usize::try_from(*ty)?).copied().unwrap_or_default();
            code.function(&self.function(&body?, params)?);
        }
        Ok(code)
    }

    fn function(&mut self, body: &FunctionBody<'_>, params: u32) -> Result<Function> {
        let mut locals = Vec::new();
        let mut count = params;
        for local in body.get_locals_reader()? {
            let (n, ty) = local?;
            count += n;
            locals.push((n, RoundtripReencoder.val_type(ty)?));
        }
        locals.extend([(4, ValType::I32), (2, ValType::I64)]);
        let scratch =
            Scratch { choice: count, words: [count + 1, count + 2, count + 3], longs: [count + 4, count + 5] };
        let mut function = Function::new(locals);
        self.edge(&mut function);
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let operator = operators.read()?;
            match (Branch::of(&operator), self.noting) {
                (Some(Branch::Choice), _) => self.choice(&mut function, &scratch),
                (Some(Branch::Table { targets }), _) => self.table(&mut function, &scratch, targets),
                (None, Noting::Comparisons) => self.comparison(&mut function, &scratch, &operator),
                (None, Noting::Edges) => {}
            }
            function.instruction(&RoundtripReencoder.instruction(operator)?);
        }
        Ok(function)
    }

    fn argument(&self, offset: u32, align: u32) -> MemArg {
        MemArg { offset: u64::from(offset), align, target: MemArgTarget::Memory(self.outline.memories), ordering: None }
    }

    /// Notes that this place was reached.
    fn edge(&mut self, function: &mut Function) {
        let at = Layout::edge(self.next.edges);
        self.next.edges += 1;
        function.instruction(&Instruction::I32Const(0));
        function.instruction(&Instruction::I32Const(1));
        function.instruction(&Instruction::I32Store8(self.argument(at, 0)));
    }

    /// Notes which way a condition on top of the stack goes, and leaves it there.
    fn choice(&mut self, function: &mut Function, scratch: &Scratch) {
        let at = Layout::edge(self.next.edges);
        self.next.edges += Branch::Choice.edges();
        for instruction in [
            Instruction::LocalTee(scratch.choice),
            Instruction::I32Eqz,
            Instruction::I32Const(1),
            Instruction::I32Store8(self.argument(at, 0)),
            Instruction::LocalGet(scratch.choice),
        ] {
            function.instruction(&instruction);
        }
    }

    /// Notes which of some targets is taken.
    fn table(&mut self, function: &mut Function, scratch: &Scratch, targets: u32) {
        let at = Layout::edge(self.next.edges);
        self.next.edges += Branch::Table { targets }.edges();
        let last = i32::try_from(targets).unwrap_or(i32::MAX);
        for instruction in [
            Instruction::LocalTee(scratch.choice),
            Instruction::I32Const(last),
            Instruction::LocalGet(scratch.choice),
            Instruction::I32Const(last),
            Instruction::I32LtU,
            Instruction::Select,
            Instruction::I32Const(1),
            Instruction::I32Store8(self.argument(at, 0)),
            Instruction::LocalGet(scratch.choice),
        ] {
            function.instruction(&instruction);
        }
    }

    /// Notes what is compared, and leaves it on the stack.
    fn comparison(&mut self, function: &mut Function, scratch: &Scratch, operator: &Operator<'_>) {
        use Operator as Op;
        match operator {
            Op::I32Eq
            | Op::I32Ne
            | Op::I32LtU
            | Op::I32LtS
            | Op::I32GtU
            | Op::I32GtS
            | Op::I32LeU
            | Op::I32LeS
            | Op::I32GeU
            | Op::I32GeS
            | Op::I32Xor => self.numbers(function, [scratch.words[0], scratch.words[1]], 4),
            Op::I64Eq
            | Op::I64Ne
            | Op::I64LtU
            | Op::I64LtS
            | Op::I64GtU
            | Op::I64GtS
            | Op::I64LeU
            | Op::I64LeS
            | Op::I64GeU
            | Op::I64GeS
            | Op::I64Xor => self.numbers(function, scratch.longs, 8),
            Op::Call { function_index } => {
                let index = usize::try_from(*function_index).unwrap_or(usize::MAX);
                let ty = self.outline.functions.get(index).and_then(|ty| usize::try_from(*ty).ok());
                let compares = ty.and_then(|ty| self.outline.types.get(ty)).is_some_and(|(_, compares)| *compares);
                // A module without a memory of its own has no texts.
                if compares && self.outline.memories > 0 {
                    self.texts(function, scratch);
                }
            }
            _ => {}
        }
    }

    fn numbers(&mut self, function: &mut Function, [one, other]: [u32; 2], width: i64) {
        let at = self.layout.number(self.next.numbers);
        self.next.numbers += 1;
        function.instruction(&Instruction::LocalSet(other)).instruction(&Instruction::LocalSet(one));
        function.instruction(&Instruction::I32Const(0)).instruction(&Instruction::I64Const(width));
        function.instruction(&Instruction::I64Store(self.argument(at, 3)));
        for (local, offset) in [(one, 8), (other, 16)] {
            function.instruction(&Instruction::I32Const(0)).instruction(&Instruction::LocalGet(local));
            if width == 4 {
                function.instruction(&Instruction::I64ExtendI32U);
            }
            function.instruction(&Instruction::I64Store(self.argument(at + offset, 3)));
        }
        function.instruction(&Instruction::LocalGet(one)).instruction(&Instruction::LocalGet(other));
    }

    /// The arguments of what may be memcmp(3): two addresses and a length. Only what lies within the memory is read.
    fn texts(&mut self, function: &mut Function, scratch: &Scratch) {
        let at = self.layout.text(self.next.texts);
        self.next.texts += 1;
        let [one, other, len] = scratch.words;
        let last = i64::from(TEXT);
        let place = |offset: u32| Instruction::I32Const(i32::try_from(at + offset).unwrap_or(0));
        let within = |function: &mut Function, address: u32| {
            function.instruction(&Instruction::LocalGet(address)).instruction(&Instruction::I64ExtendI32U);
            function.instruction(&Instruction::I64Const(last)).instruction(&Instruction::I64Add);
            function.instruction(&Instruction::MemorySize(0)).instruction(&Instruction::I64ExtendI32U);
            function.instruction(&Instruction::I64Const(i64::from(PAGE))).instruction(&Instruction::I64Mul);
            function.instruction(&Instruction::I64LeU);
        };
        for local in [len, other, one] {
            function.instruction(&Instruction::LocalSet(local));
        }
        within(function, one);
        within(function, other);
        function.instruction(&Instruction::I32And).instruction(&Instruction::If(BlockType::Empty));
        function.instruction(&Instruction::I32Const(0)).instruction(&Instruction::LocalGet(len));
        function.instruction(&Instruction::I64ExtendI32U);
        function.instruction(&Instruction::I64Store(self.argument(at, 3)));
        for (address, offset) in [(one, 8), (other, 8 + TEXT)] {
            function.instruction(&place(offset)).instruction(&Instruction::LocalGet(address));
            function.instruction(&Instruction::I32Const(i32::try_from(TEXT).unwrap_or(0)));
            function.instruction(&Instruction::MemoryCopy { src_mem: 0, dst_mem: self.outline.memories });
        }
        function.instruction(&Instruction::End);
        for local in [one, other, len] {
            function.instruction(&Instruction::LocalGet(local));
        }
    }
}

const _: () = assert!(HEADER == 8);
