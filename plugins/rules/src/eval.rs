//! Evaluates expressions over one review.

use std::borrow::Cow;
use std::cmp::Ordering;

use mountgate_sdk::{Location, Mounts, Review, is_within, last_of, lies_in};

use crate::expression::{Binary, Fold, Function, Node, Part, Text};
use crate::facts::REQUESTER;
use crate::value::Value;

/// An evaluation over one review.
pub(crate) struct Evaluation<'r, M> {
    review: &'r Review,
    mounts: &'r M,
    /// The variables of the comprehensions around.
    locals: Vec<Value<'r>>,
}

type Evaluated<'r> = Result<Value<'r>, String>;

impl<'r, M: Mounts> Evaluation<'r, M> {
    pub(crate) fn new(review: &'r Review, mounts: &'r M) -> Self {
        Self { review, mounts, locals: Vec::new() }
    }

    /// The value of a condition.
    pub(crate) fn is_true(&mut self, condition: &'r Node) -> Result<bool, String> {
        match self.value(condition)? {
            Value::Bool(value) => Ok(value),
            _ => Err("its condition is neither true nor false".to_owned()),
        }
    }

    /// A text with the values of its expressions.
    pub(crate) fn text(&mut self, text: &'r Text) -> Result<String, String> {
        let mut filled = String::new();
        for part in &text.0 {
            match part {
                Part::Plain(plain) => filled.push_str(plain),
                Part::Value(node) => filled.push_str(&to_text(&self.value(node)?)),
            }
        }
        Ok(filled)
    }

    fn value(&mut self, node: &'r Node) -> Evaluated<'r> {
        Ok(match node {
            Node::Null => Value::Null,
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(value) => Value::Int(*value),
            Node::Text(text) => Value::text(text),
            Node::List(nodes) => Value::List(nodes.iter().map(|node| self.value(node)).collect::<Result<_, _>>()?),
            Node::Root(number) => self.root(*number),
            Node::Local(depth) => {
                let at = self.locals.len().checked_sub(usize::from(*depth) + 1);
                at.and_then(|at| self.locals.get(at)).cloned().unwrap_or(Value::Null)
            }
            Node::Field(of, field) => self.value(of)?.field(*field)?,
            Node::Has(of, field) => match self.value(of)? {
                Value::Null => Value::Bool(false),
                of => Value::Bool(of.field(*field)? != Value::Null),
            },
            Node::Index(of, index) => index_of(&self.value(of)?, &self.value(index)?)?,
            Node::Not(operand) => Value::Bool(!self.is_true(operand)?),
            Node::Negate(operand) => match self.value(operand)? {
                Value::Int(number) => Value::Int(number.checked_neg().ok_or("a number is too large")?),
                _ => return Err("only a number can be negative".to_owned()),
            },
            // As CEL has it: an error on one side doesn't matter if the other side decides.
            Node::And(one, other) => self.either(one, other, false)?,
            Node::Or(one, other) => self.either(one, other, true)?,
            Node::If(condition, one, other) => match self.is_true(condition)? {
                true => self.value(one)?,
                false => self.value(other)?,
            },
            Node::Binary(operator, one, other) => binary(*operator, &self.value(one)?, &self.value(other)?)?,
            Node::Call(function, arguments) => {
                let arguments: Vec<Value<'r>> =
                    arguments.iter().map(|argument| self.value(argument)).collect::<Result<_, _>>()?;
                self.call(*function, &arguments)?
            }
            Node::Fold(fold) => self.fold(fold)?,
        })
    }

    fn root(&self, number: u8) -> Value<'r> {
        let review = self.review;
        match number {
            0 => Value::Request(&review.request),
            1 => Value::Request(&review.original),
            2 => review.source.as_ref().map_or(Value::Null, Value::ResolvedPath),
            3 => Value::ResolvedPath(&review.target),
            4 => Value::List(review.places.iter().map(Value::Place).collect()),
            5 => Value::List(review.option_paths.iter().map(Value::OptionPath).collect()),
            REQUESTER => Value::Requester(&review.requester),
            _ => Value::Null,
        }
    }

    fn either(&mut self, one: &'r Node, other: &'r Node, decides: bool) -> Evaluated<'r> {
        let one = self.is_true(one);
        if one == Ok(decides) {
            return Ok(Value::Bool(decides));
        }
        let other = self.is_true(other)?;
        match other == decides {
            true => Ok(Value::Bool(decides)),
            false => one.map(Value::Bool),
        }
    }

    fn fold(&mut self, fold: &'r Fold) -> Evaluated<'r> {
        let elements = match self.value(&fold.list)? {
            Value::List(elements) => elements,
            Value::Labels(labels) => labels.iter().map(|label| Value::text(&label.key)).collect(),
            Value::Null => return Err("the elements of null are asked for".to_owned()),
            _ => return Err("only a list has elements".to_owned()),
        };
        let start = self.value(&fold.start)?;
        self.locals.push(start);
        let folded = self.steps(fold, elements);
        let result = folded.and_then(|()| self.value(&fold.result));
        self.locals.pop();
        result
    }

    fn steps(&mut self, fold: &'r Fold, elements: Vec<Value<'r>>) -> Result<(), String> {
        for element in elements {
            self.locals.push(element);
            let next = self.is_true(&fold.goes_on).and_then(|goes_on| match goes_on {
                true => self.step(&fold.step).map(Some),
                false => Ok(None),
            });
            self.locals.pop();
            match next? {
                Some(next) => {
                    self.locals.pop();
                    self.locals.push(next);
                }
                None => break,
            }
        }
        Ok(())
    }

    /// The value of a step, from the value so far: the variable before the last. A list that gets longer step by step is taken from there
    /// instead of copied: with a copy for each element, the work would grow with the square of their number.
    fn step(&mut self, step: &'r Node) -> Evaluated<'r> {
        match step {
            Node::If(condition, one, other) => {
                let chosen = if self.is_true(condition)? { one } else { other };
                self.step(chosen)
            }
            Node::Local(1) => Ok(self.take_result()),
            Node::Binary(Binary::Add, so_far, more) if matches!(**so_far, Node::Local(1)) => {
                match (self.value(more)?, self.take_result()) {
                    (Value::List(more), Value::List(mut list)) => {
                        list.extend(more);
                        Ok(Value::List(list))
                    }
                    (more, so_far) => binary(Binary::Add, &so_far, &more),
                }
            }
            _ => self.value(step),
        }
    }

    fn take_result(&mut self) -> Value<'r> {
        let at = self.locals.len().checked_sub(2);
        let result = at.and_then(|at| self.locals.get_mut(at));
        result.map_or(Value::Null, |result| std::mem::replace(result, Value::Null))
    }

    fn call(&self, function: Function, arguments: &[Value<'r>]) -> Evaluated<'r> {
        let text = |i: usize| match arguments.get(i) {
            Some(Value::Text(text)) => Ok(text.as_ref()),
            _ => Err("a text is expected, and it's null".to_owned()),
        };
        let first = arguments.first().unwrap_or(&Value::Null);
        Ok(match function {
            Function::Within => {
                let (around, folder) = (self.mounts.around(&self.locations(first)?), self.located(text(1)?)?);
                Value::Bool(around.iter().any(|location| lies_in(location, &folder)))
            }
            Function::Holds => {
                let (places, folder) = (self.locations(first)?, self.located(text(1)?)?);
                // What has no path is somewhere in its file system: it's in none that is mounted there.
                let (lost, known): (Vec<_>, Vec<_>) = places.into_iter().partition(|place| place.path.is_empty());
                let is_held = |location: &Location| known.iter().any(|place| lies_in(location, place));
                let is_lost_in = lost.iter().any(|place| lies_in(&folder, place));
                Value::Bool(is_lost_in || self.mounts.around(&[folder]).iter().any(is_held))
            }
            Function::Through => {
                let path = first.path().ok_or("a path is expected, and it's null")?;
                // What the host found is a real path already. It may be one that another mount hides.
                let real = if let Value::Text(path) = first { self.followed(path)? } else { path.to_owned() };
                Value::Bool(is_within(&real, &self.followed(text(1)?)?))
            }
            Function::Glob => {
                let path = first.path().ok_or("a path is expected, and it's null")?;
                Value::Bool(fits(path, text(1)?))
            }
            Function::Counts => {
                let (request, word) = (request_of(first)?, text(1)?);
                Value::Bool(last_of(&request.options, word, contrary(word)) == Some(word))
            }
            Function::HasOption => {
                let (request, name) = (request_of(first)?, text(1)?);
                Value::Bool(request.options.iter().any(|option| option.name == name))
            }
            Function::ValueOf => {
                let (request, name) = (request_of(first)?, text(1)?);
                let value = request.options.iter().rev().find(|option| option.name == name);
                value.and_then(|option| option.value.as_deref()).map_or(Value::Null, Value::text)
            }
            Function::MountsIn => number(self.mounts.count_in(&self.located(text(0)?)?)),
            Function::MountsOf => number(self.mounts.count_by_source(text(0)?)),
            Function::IsMountPoint => {
                let path = text(0)?;
                Value::Bool(self.mounts.covering(path).is_some_and(|mount| mount.target == path))
            }
            Function::StartsWith => Value::Bool(text(0)?.starts_with(text(1)?)),
            Function::EndsWith => Value::Bool(text(0)?.ends_with(text(1)?)),
            Function::Contains => Value::Bool(text(0)?.contains(text(1)?)),
            Function::Size => match first {
                Value::List(list) => number(list.len() as u64),
                Value::Labels(labels) => number(labels.len() as u64),
                Value::Text(text) => number(text.chars().count() as u64),
                _ => return Err("only a list, a map or a text has a size".to_owned()),
            },
            Function::ToText => Value::Text(Cow::Owned(to_text(first))),
            Function::NotFalse => Value::Bool(*first != Value::Bool(false)),
        })
    }

    /// Where something lies, and where the bytes are that a mount of it shows.
    fn locations(&self, value: &Value<'r>) -> Result<Vec<Location>, String> {
        let place = match value.location() {
            Some(location) => location.clone(),
            None => self.located(value.path().ok_or("a path is expected, and it's null")?)?,
        };
        let nodes = if value.is_folder() && !value.storage().is_empty() { self.located("/dev").ok() } else { None };
        let is_node = |location: &&Location| nodes.as_ref().is_some_and(|nodes| lies_in(location, nodes));
        let storage = value.storage().iter().filter(|location| !is_node(location));
        Ok(std::iter::once(place).chain(storage.cloned()).collect())
    }

    fn followed(&self, path: &str) -> Result<String, String> {
        let found = self.mounts.follow(&[path]).into_iter().flatten().next();
        found.ok_or_else(|| format!("{path} leads nowhere on this host"))
    }

    fn located(&self, path: &str) -> Result<Location, String> {
        let found = self.mounts.locate(&[path]).into_iter().next().flatten();
        found.ok_or_else(|| format!("{path} leads nowhere on this host"))
    }
}

fn request_of<'r>(value: &Value<'r>) -> Result<&'r mountgate_sdk::Request, String> {
    if let Value::Request(request) = value { Ok(request) } else { Err("a request is expected".to_owned()) }
}

fn number(number: u64) -> Value<'static> {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// The word that contradicts an option, see mount(8).
fn contrary(word: &str) -> &str {
    match word {
        "ro" => "rw",
        "rw" => "ro",
        "nosuid" => "suid",
        "suid" => "nosuid",
        "nodev" => "dev",
        "dev" => "nodev",
        "noexec" => "exec",
        "exec" => "noexec",
        "nosymfollow" => "symfollow",
        "symfollow" => "nosymfollow",
        _ => "",
    }
}

/// Whether a path fits a pattern, component by component: `*` stands for any text in one component, `**` for any number of
/// components.
fn fits(path: &str, pattern: &str) -> bool {
    let parts =
        |text: &'_ str| -> Vec<String> { text.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect() };
    components_fit(&parts(path), &parts(pattern))
}

fn components_fit(path: &[String], pattern: &[String]) -> bool {
    match (path, pattern) {
        ([], []) => true,
        (_, [first, rest @ ..]) if first == "**" => {
            (0..=path.len()).any(|skipped| components_fit(&path[skipped..], rest))
        }
        ([name, path @ ..], [first, rest @ ..]) => component_fits(name, first) && components_fit(path, rest),
        _ => false,
    }
}

fn component_fits(name: &str, pattern: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return name == pattern };
    let Some(mut rest) = name.strip_prefix(before) else { return false };
    let parts: Vec<&str> = after.split('*').collect();
    let Some((last, middle)) = parts.split_last() else { return true };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

fn to_text(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        _ => String::new(),
    }
}

fn index_of<'r>(of: &Value<'r>, index: &Value<'r>) -> Evaluated<'r> {
    match (of, index) {
        (Value::List(list), Value::Int(number)) => {
            let element = usize::try_from(*number).ok().and_then(|number| list.get(number));
            element.cloned().ok_or_else(|| format!("the list has no element {number}"))
        }
        (Value::Labels(labels), Value::Text(key)) => {
            let label = labels.iter().rev().find(|label| label.key == *key);
            label.map(|label| Value::text(&label.value)).ok_or_else(|| format!("there is no label {key}"))
        }
        _ => Err("an element of null is asked for".to_owned()),
    }
}

fn binary<'r>(operator: Binary, one: &Value<'r>, other: &Value<'r>) -> Evaluated<'r> {
    let ordering = || match (one, other) {
        (Value::Int(one), Value::Int(other)) => Ok(one.cmp(other)),
        (Value::Text(one), Value::Text(other)) => Ok(one.cmp(other)),
        _ => Err("null can't be compared".to_owned()),
    };
    let is = |wanted: &[Ordering]| ordering().map(|ordering| Value::Bool(wanted.contains(&ordering)));
    let calculated = |calculate: fn(i64, i64) -> Option<i64>| match (one, other) {
        (Value::Int(one), Value::Int(other)) => calculate(*one, *other)
            .map(Value::Int)
            .ok_or_else(|| "a number is too large, or divided by zero".to_owned()),
        _ => Err("null can't be calculated with".to_owned()),
    };
    match operator {
        Binary::Equal => Ok(Value::Bool(one == other)),
        Binary::Differs => Ok(Value::Bool(one != other)),
        Binary::Less => is(&[Ordering::Less]),
        Binary::LessOrEqual => is(&[Ordering::Less, Ordering::Equal]),
        Binary::Greater => is(&[Ordering::Greater]),
        Binary::GreaterOrEqual => is(&[Ordering::Greater, Ordering::Equal]),
        Binary::In => match other {
            Value::List(list) => Ok(Value::Bool(list.contains(one))),
            Value::Labels(labels) => Ok(Value::Bool(labels.iter().any(|label| *one == Value::text(&label.key)))),
            _ => Err("null holds nothing".to_owned()),
        },
        Binary::Add => match (one, other) {
            (Value::Text(one), Value::Text(other)) => Ok(Value::Text(Cow::Owned(format!("{one}{other}")))),
            (Value::List(one), Value::List(other)) => Ok(Value::List(one.iter().chain(other).cloned().collect())),
            _ => calculated(i64::checked_add),
        },
        Binary::Subtract => calculated(i64::checked_sub),
        Binary::Multiply => calculated(i64::checked_mul),
        Binary::Divide => calculated(i64::checked_div),
        Binary::Modulo => calculated(i64::checked_rem),
    }
}
