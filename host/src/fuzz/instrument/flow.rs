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

/// How often each way of a branch was taken.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Where the branch is.
    pub(crate) address: u64,
    /// Of each way the count.
    pub(crate) ways: Vec<u32>,
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
}

fn function(number: u32, body: &FunctionBody<'_>, edges: &mut impl Iterator<Item = u32>) -> Result<Reached> {
    let mut next = || edges.next().unwrap_or(0);
    let count = next();
    let range = body.range();
    let mut function = Reached {
        number,
        code: range.start..range.end,
        count,
        branches: Vec::new(),
        counts: vec![(range.start, count)],
    };
    let mut open = vec![Open { is_loop: false, left: 0, other: 0 }];
    let mut now = count;
    for read in body.get_operators_reader()?.into_iter_with_offsets() {
        let (operator, address) = read?;
        if function.counts.last().is_some_and(|(_, last)| *last != now) {
            function.counts.push((address, now));
        }
        let ways: Vec<u32> = match Branch::of(&operator) {
            Some(branch) => (0..branch.edges()).map(|_| next()).collect(),
            None => Vec::new(),
        };
        let mut leave = |depth: u32, count: u32| {
            let depth = usize::try_from(depth).unwrap_or(usize::MAX);
            let target = open.len().checked_sub(1).and_then(|last| last.checked_sub(depth));
            if let Some(block) = target.and_then(|at| open.get_mut(at))
                && !block.is_loop
            {
                block.left = block.left.max(count);
            }
        };
        match &operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::TryTable { .. } => {
                open.push(Open { is_loop: matches!(operator, Operator::Loop { .. }), left: 0, other: 0 });
            }
            Operator::If { .. } => {
                open.push(Open { is_loop: false, left: 0, other: ways[1] });
                now = ways[0];
            }
            Operator::Else => {
                if let Some(block) = open.last_mut() {
                    block.left = block.left.max(now);
                    now = std::mem::take(&mut block.other);
                }
            }
            Operator::End => {
                if let Some(block) = open.pop() {
                    now = now.max(block.left).max(block.other);
                }
            }
            Operator::Br { relative_depth } => {
                leave(*relative_depth, now);
                now = 0;
            }
            Operator::BrIf { relative_depth } => {
                leave(*relative_depth, ways[0]);
                now = ways[1];
            }
            Operator::BrTable { targets } => {
                for (target, count) in targets.targets().zip(&ways) {
                    leave(target?, *count);
                }
                leave(targets.default(), ways.last().copied().unwrap_or(0));
                now = 0;
            }
            Operator::Return
            | Operator::Unreachable
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::Throw { .. }
            | Operator::ThrowRef => now = 0,
            _ => {}
        }
        if !ways.is_empty() {
            function.branches.push(Taken { address, ways });
        }
    }
    Ok(function)
}
