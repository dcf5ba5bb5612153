//! Comparisons of what was calculated from a number of the input: a sum of two ids, an id with something added.

use std::collections::BTreeSet;

use super::input::Input;
use super::instrument::notes::Comparison;

/// The numbers of an input that are tried.
const NUMBERS: [fn(&mut Input) -> &mut u32; 2] = [|input| &mut input.requester.uid, |input| &mut input.requester.gid];

/// Inputs that make what is compared equal, where one side follows a number of the input: if that gets one more, so does the side.
pub(super) fn solved(
    input: &Input,
    seen: &[Comparison],
    compared_with: impl Fn(&Input) -> Vec<Comparison>,
) -> Vec<Input> {
    let known: BTreeSet<&Comparison> = seen.iter().collect();
    let mut solved = Vec::new();
    for number in NUMBERS {
        let mut probe = input.clone();
        let value = number(&mut probe);
        *value = value.wrapping_add(1);
        let after = compared_with(&probe);
        let new: BTreeSet<&Comparison> = after.iter().filter(|comparison| !known.contains(comparison)).collect();
        for comparison in seen {
            let Comparison::Numbers(one, other) = *comparison else { continue };
            let one_more = |number: u64| u64::from(low(number).wrapping_add(1));
            let steps = [
                (one, other, Comparison::Numbers(one_more(one), other)),
                (other, one, Comparison::Numbers(one, one_more(other))),
            ];
            for (from, to, _) in steps.iter().filter(|(_, _, follows)| new.contains(follows)) {
                let mut changed = input.clone();
                let value = number(&mut changed);
                *value = value.wrapping_add(low(*to).wrapping_sub(low(*from)));
                solved.push(changed);
            }
        }
    }
    solved
}

#[expect(clippy::cast_possible_truncation, reason = "the ids of an input have 32 bits")]
fn low(number: u64) -> u32 {
    number as u32
}
