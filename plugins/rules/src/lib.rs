//! Policies with no code: rules in the Common Expression Language (CEL), over the same review that plugins get.
//!
//! `prepare` parses the rules, checks their types and makes a form of them that `evaluate` reads without a parser. So a wrong rule is
//! found by `mountgate policy validate`, with its line and column.

mod compile;
mod eval;
mod expression;
mod facts;
mod settings;
mod types;
mod value;

use mountgate_sdk::{Code, Edit, Kind, MountOption, Mounts, Preparation, Prepared, Problem, Review, Verdict};
use mountgate_sdk::{deny, deny_with_hint, parse};

use crate::compile::{compile, compile_text};
use crate::eval::Evaluation;
use crate::expression::{Action, Denial, Rewrite, Rule};
use crate::settings::Settings;
use crate::types::Type;

/// The plugin.
pub struct Rules;

impl Prepared for Rules {
    const NAME: &'static str = "rules";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KIND: Kind = Kind::Mutating;
    const HELP: &'static str = "denies and rewrites by rules in CEL";
    type Settings = Settings;
    type Form = Vec<Rule>;

    fn prepare(settings: &str) -> Result<Preparation, Vec<Problem>> {
        let settings: Settings = parse(settings)?;
        let mut problems = Vec::new();
        let mut rules = Vec::new();
        for (i, rule) in settings.rules.into_iter().enumerate() {
            match prepared(i, rule) {
                Ok(rule) => rules.push(rule),
                Err(found) => problems.extend(found),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut denial_codes: Vec<String> = Vec::new();
        let mut changes: Vec<String> = Vec::new();
        for rule in &rules {
            match &rule.action {
                Action::Deny(denial) if !denial_codes.contains(&denial.code) => denial_codes.push(denial.code.clone()),
                Action::Deny(_) => {}
                Action::Rewrite(rewrite) => {
                    changes.extend(rewrite.changes().filter(|field| !changes.contains(field)).collect::<Vec<_>>());
                }
            }
        }
        let prepared = postcard::to_allocvec(&rules).map_err(|error| vec![problem("rules", error.to_string())])?;
        Ok(Preparation { prepared, denial_codes, changes, observes: false })
    }

    fn read(prepared: &[u8]) -> Result<Vec<Rule>, String> {
        postcard::from_bytes(prepared).map_err(|error| format!("the prepared rules can't be read: {error}"))
    }

    fn evaluate(rules: &Vec<Rule>, review: &Review, mounts: &impl Mounts) -> Result<Verdict, String> {
        let mut evaluation = Evaluation::new(review, mounts);
        let mut edits: Vec<Edit> = Vec::new();
        for rule in rules {
            let failed = |error: String| format!("rule {:?}: {error}", rule.name);
            if !evaluation.is_true(&rule.condition).map_err(failed)? {
                continue;
            }
            match &rule.action {
                Action::Deny(denial) => return denied(denial, &mut evaluation).map_err(failed),
                Action::Rewrite(rewrite) => edits.extend(edits_of(rewrite, &mut evaluation).map_err(failed)?),
            }
        }
        Ok(if edits.is_empty() { Verdict::Allow } else { Verdict::Rewrite(edits) })
    }
}

fn denied<'r>(denial: &'r Denial, evaluation: &mut Evaluation<'r, impl Mounts>) -> Result<Verdict, String> {
    let code = Code::parse(&denial.code).ok_or("its code isn't in kebab case")?;
    let (reason, field) = (evaluation.text(&denial.message)?, denial.field.as_str());
    Ok(match &denial.hint {
        Some(hint) => deny_with_hint(&code, field, reason, hint),
        None => deny(&code, field, reason),
    })
}

fn edits_of<'r>(rewrite: &'r Rewrite, evaluation: &mut Evaluation<'r, impl Mounts>) -> Result<Vec<Edit>, String> {
    let mut edits: Vec<Edit> = rewrite.drop.iter().cloned().map(Edit::DropOption).collect();
    for (name, value) in &rewrite.add {
        let value = value.as_ref().map(|text| evaluation.text(text)).transpose()?;
        edits.push(Edit::AddOption(MountOption { name: name.clone(), value }));
    }
    let texts = [
        (&rewrite.source, Edit::SetSource as fn(String) -> Edit),
        (&rewrite.target, Edit::SetTarget),
        (&rewrite.fstype, Edit::SetFstype),
    ];
    for (text, edit) in texts {
        edits.extend(text.as_ref().map(|text| evaluation.text(text)).transpose()?.map(edit));
    }
    Ok(edits)
}

/// A rule that can be evaluated, or all that is wrong with it.
fn prepared(i: usize, rule: settings::Rule) -> Result<Rule, Vec<Problem>> {
    let mut problems = Vec::new();
    let name = rule.name.unwrap_or_else(|| format!("{}", i + 1));
    let mut note = |path: &str, error: String| problems.push(problem(&format!("rules[{i}].{path}"), error));
    let condition = compile(&rule.condition, &Type::Bool).map_err(|error| note("match", error)).unwrap_or_default();
    let mut text = |path: &str, text: &str| compile_text(text).map_err(|error| note(path, error)).unwrap_or_default();
    let action = match (rule.deny, rule.rewrite) {
        (Some(wanted), None) => {
            let message = text("deny.message", &wanted.message);
            if Code::parse(&wanted.code).is_none() {
                note("deny.code", format!("{:?} isn't a short word in kebab case", wanted.code));
            }
            Some(Action::Deny(Denial { code: wanted.code, message, field: wanted.field, hint: wanted.hint }))
        }
        (None, Some(wanted)) => {
            let mut optional = |path: &str, wanted: &Option<String>| wanted.as_ref().map(|wanted| text(path, wanted));
            let (source, target, fstype) = (
                optional("rewrite.set-source", &wanted.set_source),
                optional("rewrite.set-target", &wanted.set_target),
                optional("rewrite.set-fstype", &wanted.set_fstype),
            );
            let add = wanted.add.iter().map(|option| match option.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(text("rewrite.add", value))),
                None => (option.clone(), None),
            });
            let rewrite = Rewrite { add: add.collect(), drop: wanted.drop, source, target, fstype };
            if rewrite.changes().next().is_none() {
                note("rewrite", "it changes nothing".to_owned());
            }
            Some(Action::Rewrite(rewrite))
        }
        _ => {
            note("deny", "a rule has either `deny` or `rewrite`".to_owned());
            None
        }
    };
    match action.filter(|_| problems.is_empty()) {
        Some(action) => Ok(Rule { name, condition, action }),
        None => Err(problems),
    }
}

fn problem(path: &str, message: String) -> Problem {
    Problem { path: path.to_owned(), message }
}

mountgate_sdk::export!(Rules);

#[cfg(test)]
mod tests;
