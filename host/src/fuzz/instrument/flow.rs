//! Which code of a module was reached, by the edges that were taken.

use std::ops::Range;

use anyhow::{Context, Result};
use wasmparser_of_encoder::{BinaryReader, CodeSectionReader, FunctionBody, Operator, Parser, Payload};

use super::branch::Branch;

/// What was reached of a function. Counts are of runs.
#[derive(Debug)]
pub(crate) struct Reached {
    /// Its number among all functions of the module, imported ones included.
    pub(crate) number: u32,
    /// Where its code is.
    pub(crate) code: Range<u64>,
    /// How many runs called it.
    pub(crate) count: u32,
    /// Its branches.
    pub(crate) branches: Vec<Taken>,
    /// Where another count begins to hold. A count is at least of so many runs: where ways join, it's that of the one taken most often.
    pub(crate) counts: Vec<(u64, u32)>,
}

/// A branch, and what comes of it. Targets of a table that are the same are one way.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Where the branch is.
    pub(crate) address: u64,
    /// Its ways.
    pub(crate) ways: Vec<Way>,
}

/// A way that code can go after a branch.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// Where it leads: the first instructions that it comes to, up to the next one that goes on in more than one way. Empty if it leaves
    /// the function at once.
    pub(crate) to: Vec<u64>,
    /// How many runs took it, at least.
    pub(crate) count: u32,
    /// Whether nothing but a trap can come of it.
    pub(crate) traps: bool,
}

/// What was reached of each function of a module. `hits` are the counts of its edges. Addresses begin at the code section, as those of
/// DWARF do.
///
/// # Errors
/// When the module isn't sound.
pub(crate) fn reached(module: &[u8], hits: &[u32]) -> Result<Vec<Reached>> {
    let mut imported = 0;
    let mut functions = Vec::new();
    let mut edges = hits.iter().copied();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    imported += u32::from(matches!(
                        import?.ty,
                        wasmparser_of_encoder::TypeRef::Func(_) | wasmparser_of_encoder::TypeRef::FuncExact(_)
                    ));
                }
            }
            Payload::CodeSectionStart { unchecked_range, .. } => {
                let bytes = usize::try_from(unchecked_range.start)?..usize::try_from(unchecked_range.end)?;
                let bytes = module.get(bytes).context("the code is cut off")?;
                // Addresses are those of DWARF: they count from here.
                for (number, body) in CodeSectionReader::new(BinaryReader::new(bytes, 0))?.into_iter().enumerate() {
                    functions.push(function(imported + u32::try_from(number)?, &body?, &mut edges)?);
                }
            }
            _ => {}
        }
    }
    Ok(functions)
}

/// A block that isn't over.
struct Open {
    is_loop: bool,
    /// How many runs leave it for its end.
    left: u32,
    /// How many runs take the other way of an `if`, until that is seen.
    other: u32,
    /// Where code goes that leaves it by a jump: behind it, or to its begin if it's a loop.
    label: Label,
    /// Where the other way of an `if` goes, until that is seen.
    otherwise: Option<Label>,
    /// Whether exceptions are caught in it.
    catches: bool,
}

/// The number of an instruction that isn't known yet.
type Label = usize;

/// What an instruction does to the flow.
#[derive(Clone, Copy)]
enum Step {
    /// Goes on with the next one.
    Next,
    /// The same, and does nothing: the begin or the end of a block.
    Mark,
    Jump(Label),
    Trap,
    /// Anything else.
    Other,
}

/// The instructions of a function in order, and where jumps lead.
#[derive(Default)]
struct Steps {
    steps: Vec<(u64, Step)>,
    /// Of each label the number of its instruction.
    labels: Vec<usize>,
}

/// So many instructions are followed to see whether they end in a trap.
const MAX_STEPS: usize = 1000;
/// So many to see where a way leads.
const MAX_TO: usize = 32;

impl Steps {
    /// A label for an instruction that comes later.
    fn label(&mut self) -> Label {
        self.labels.push(usize::MAX);
        self.labels.len() - 1
    }

    /// The next instruction is the one that a label stands for.
    fn place(&mut self, label: Label) {
        self.labels[label] = self.steps.len();
    }

    /// The instructions after a label, with what they do, until one goes on in more than one way or not at all.
    fn after(&self, label: Label) -> impl Iterator<Item = (u64, Step)> {
        let mut at = Some(self.labels[label]);
        std::iter::from_fn(move || {
            let (address, step) = *self.steps.get(at?)?;
            at = match step {
                Step::Next | Step::Mark => at.map(|at| at + 1),
                Step::Jump(label) => Some(self.labels[label]),
                Step::Trap | Step::Other => None,
            };
            Some((address, step))
        })
    }

    /// The addresses of those that do something.
    fn leads_to(&self, label: Label) -> Vec<u64> {
        let does = |(_, step): &(u64, Step)| !matches!(step, Step::Mark | Step::Jump(_));
        self.after(label).take(MAX_STEPS).filter(does).map(|(address, _)| address).take(MAX_TO).collect()
    }

    /// Whether nothing but a trap can come after a label.
    fn traps(&self, label: Label) -> bool {
        self.after(label).take(MAX_STEPS).any(|(_, step)| matches!(step, Step::Trap))
    }
}

fn function(number: u32, body: &FunctionBody<'_>, edges: &mut impl Iterator<Item = u32>) -> Result<Reached> {
    let mut next = || edges.next().unwrap_or(0);
    let count = next();
    let range = body.range();
    let mut counts = vec![(range.start, count)];
    let mut branches: Vec<(u64, Vec<(Label, u32)>)> = Vec::new();
    let mut steps = Steps::default();
    let whole = Open { is_loop: false, left: 0, other: 0, label: steps.label(), otherwise: None, catches: false };
    let mut open = vec![whole];
    let mut now = count;
    for read in body.get_operators_reader()?.into_iter_with_offsets() {
        let (operator, address) = read?;
        if counts.last().is_some_and(|(_, last)| *last != now) {
            counts.push((address, now));
        }
        let taken: Vec<u32> = match Branch::of(&operator) {
            Some(branch) => (0..branch.edges()).map(|_| next()).collect(),
            None => Vec::new(),
        };
        let mut leave = |depth: u32, count: u32| -> Option<Label> {
            let depth = usize::try_from(depth).unwrap_or(usize::MAX);
            let block = open.len().checked_sub(1)?.checked_sub(depth).and_then(|at| open.get_mut(at))?;
            if !block.is_loop {
                block.left = block.left.max(count);
            }
            Some(block.label)
        };
        let mut step = Step::Next;
        let mut ways: Vec<(Label, u32)> = Vec::new();
        // Those that stand for the instruction after this one.
        let mut after: Vec<Label> = Vec::new();
        match &operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::TryTable { .. } => {
                let is_loop = matches!(operator, Operator::Loop { .. });
                let label = steps.label();
                if is_loop {
                    steps.place(label);
                }
                let catches = matches!(operator, Operator::TryTable { .. });
                open.push(Open { is_loop, left: 0, other: 0, label, otherwise: None, catches });
                step = Step::Mark;
            }
            Operator::If { .. } => {
                let (label, then, other) = (steps.label(), steps.label(), steps.label());
                open.push(Open {
                    is_loop: false,
                    left: 0,
                    other: taken[1],
                    label,
                    otherwise: Some(other),
                    catches: false,
                });
                now = taken[0];
                ways = vec![(then, taken[0]), (other, taken[1])];
                after.push(then);
            }
            Operator::Else => {
                if let Some(block) = open.last_mut() {
                    block.left = block.left.max(now);
                    now = std::mem::take(&mut block.other);
                    step = Step::Jump(block.label);
                    after.extend(block.otherwise.take());
                }
            }
            Operator::End => {
                step = Step::Mark;
                if let Some(block) = open.pop() {
                    now = now.max(block.left).max(block.other);
                    after.extend(Some(block.label).filter(|_| !block.is_loop).into_iter().chain(block.otherwise));
                }
            }
            Operator::Br { relative_depth } => {
                step = leave(*relative_depth, now).map_or(Step::Other, Step::Jump);
                now = 0;
            }
            Operator::BrIf { relative_depth } => {
                let on = steps.label();
                ways.extend(leave(*relative_depth, taken[0]).map(|label| (label, taken[0])));
                ways.push((on, taken[1]));
                after.push(on);
                now = taken[1];
            }
            Operator::BrTable { targets } => {
                let all = targets.targets().chain([Ok(targets.default())]);
                for (target, count) in all.zip(&taken) {
                    let Some(label) = leave(target?, *count) else { continue };
                    match ways.iter_mut().find(|(known, _)| *known == label) {
                        Some((_, most)) => *most = (*most).max(*count),
                        None => ways.push((label, *count)),
                    }
                }
                now = 0;
            }
            Operator::Select | Operator::TypedSelect { .. } => {
                // Both go on here.
                let on = steps.label();
                ways = taken.iter().map(|count| (on, *count)).collect();
                after.push(on);
            }
            Operator::Unreachable => {
                step = Step::Trap;
                now = 0;
            }
            Operator::Return
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::Throw { .. }
            | Operator::ThrowRef => {
                step = Step::Other;
                now = 0;
            }
            // What it throws is caught here.
            Operator::Call { .. } | Operator::CallIndirect { .. } if open.iter().any(|block| block.catches) => {
                step = Step::Other;
            }
            Operator::BrOnNull { .. }
            | Operator::BrOnNonNull { .. }
            | Operator::BrOnCast { .. }
            | Operator::BrOnCastFail { .. } => step = Step::Other,
            _ => {}
        }
        if !ways.is_empty() {
            step = Step::Other;
            branches.push((address, ways));
        }
        steps.steps.push((address, step));
        for label in after {
            steps.place(label);
        }
    }
    // What leaves the function's own block leaves the function.
    let way = |(label, count): (Label, u32)| Way { to: steps.leads_to(label), count, traps: steps.traps(label) };
    let branches =
        branches.into_iter().map(|(address, ways)| Taken { address, ways: ways.into_iter().map(way).collect() });
    Ok(Reached { number, code: range.start..range.end, count, branches: branches.collect(), counts })
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{BlockType, CodeSection, Function, FunctionSection, Instruction, Module, TypeSection, ValType};

    use super::*;

    /// What is known of the branches of a function of one number, by the counts of its edges.
    fn branches(code: &[Instruction<'_>], hits: &[u32]) -> Vec<Vec<(u32, bool)>> {
        let (mut types, mut functions, mut codes) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
        types.ty().function([ValType::I32], []);
        functions.function(0);
        let mut function = Function::new([]);
        for instruction in code {
            function.instruction(instruction);
        }
        codes.function(&function);
        let mut module = Module::new();
        module.section(&types).section(&functions).section(&codes);
        let reached = reached(&module.finish(), hits).expect("a sound module");
        let of = |branch: &Taken| branch.ways.iter().map(|way| (way.count, way.traps)).collect();
        reached[0].branches.iter().map(of).collect()
    }

    #[test]
    fn a_way_that_only_traps_is_told_apart() {
        let code = [
            Instruction::Block(BlockType::Empty),
            Instruction::LocalGet(0),
            Instruction::BrIf(0),
            Instruction::Return,
            Instruction::End,
            Instruction::Block(BlockType::Empty),
            Instruction::Br(0),
            Instruction::End,
            Instruction::Unreachable,
            Instruction::End,
        ];
        assert_eq!(branches(&code, &[3, 1, 2]), [[(1, true), (2, false)]]);
        let code = [
            Instruction::LocalGet(0),
            Instruction::If(BlockType::Empty),
            Instruction::Nop,
            Instruction::Else,
            Instruction::Unreachable,
            Instruction::End,
            Instruction::End,
        ];
        assert_eq!(branches(&code, &[3, 3, 0]), [[(3, false), (0, true)]]);
    }

    #[test]
    fn targets_of_a_table_that_are_the_same_are_one_way() {
        let code = [
            Instruction::Loop(BlockType::Empty),
            Instruction::Block(BlockType::Empty),
            Instruction::LocalGet(0),
            Instruction::BrTable((&[0, 1, 0]).into(), 1),
            Instruction::End,
            Instruction::End,
            Instruction::End,
        ];
        assert_eq!(branches(&code, &[9, 1, 2, 4, 8]), [[(4, false), (8, false)]]);
    }
}
