//! Other settings for a policy: what `prepare` accepts, `evaluate` must be able to use.

use fastrand::Rng;
use serde_json::{Map, Value};

use super::dictionary::Dictionary;
use super::input::Input;
use super::judge::decide;
use super::oracles::{self, Oracle};
use super::shrink::shrink;
use crate::gate::Gate;
use crate::policy::engine::{Trial, Tried};

/// How deep a change goes.
const MAX_DEPTH: u32 = 6;

/// How long a text becomes.
const MAX_TEXT: usize = 4000;
/// Characters that mean something in expressions and patterns.
const MARKS: [char; 24] = [
    '(', ')', '[', ']', '{', '}', '\'', '"', '\\', '.', ',', ':', '?', '!', '=', '<', '>', '&', '|', '*', '-', '0',
    'x', 'ü',
];

/// Settings with a few small changes, most of which the schema allows.
pub(super) fn varied(random: &mut Rng, settings: &Value, schema: &Value, dictionary: &Dictionary) -> Value {
    let mut varied = settings.clone();
    for _ in 0..1 + random.u32(0..5) {
        Change { random, root: schema, dictionary }.value(&mut varied, schema, 0);
    }
    varied
}

/// One change.
struct Change<'c> {
    random: &'c mut Rng,
    root: &'c Value,
    dictionary: &'c Dictionary,
}

impl<'c> Change<'c> {
    /// The schema that a reference leads to.
    fn resolved(&self, schema: &'c Value) -> &'c Value {
        let pointer = schema["$ref"].as_str().and_then(|text| text.strip_prefix('#'));
        pointer.and_then(|pointer| self.root.pointer(pointer)).unwrap_or(schema)
    }

    fn value(&mut self, value: &mut Value, schema: &'c Value, depth: u32) {
        let schema = self.resolved(schema);
        let goes_on = depth < MAX_DEPTH && self.random.u8(0..4) > 0;
        if depth > 0 && self.random.u8(0..24) == 0 {
            *value = self.of_any_type();
            return;
        }
        match value {
            Value::Object(fields) => {
                let keys: Vec<String> = fields.keys().cloned().collect();
                if goes_on && !keys.is_empty() {
                    let key = &keys[self.random.usize(0..keys.len())];
                    if let Some(field) = fields.get_mut(key) {
                        return self.value(field, &schema["properties"][key], depth + 1);
                    }
                }
                self.fields(fields, schema);
            }
            Value::Array(items) => {
                let at = self.random.usize(0..=items.len());
                if goes_on && at < items.len() {
                    return self.value(&mut items[at], &schema["items"], depth + 1);
                }
                match self.random.u8(0..4) {
                    0 => items.clear(),
                    1 if at < items.len() => drop(items.remove(at)),
                    2 if at < items.len() => items.push(items[at].clone()),
                    _ => items.insert(at, self.sample(&schema["items"], depth + 1)),
                }
            }
            Value::Bool(flag) => *flag = !*flag,
            Value::String(text) if self.random.bool() => *text = self.changed(text),
            Value::Number(_) | Value::String(_) | Value::Null => *value = self.sample(schema, depth),
        }
    }

    /// Adds a field or removes one.
    fn fields(&mut self, fields: &mut Map<String, Value>, schema: &'c Value) {
        let known: Vec<(&String, &Value)> = schema["properties"].as_object().into_iter().flatten().collect();
        let names: Vec<String> = fields.keys().cloned().collect();
        if self.random.u8(0..12) == 0 {
            let name = self.text().as_str().unwrap_or_default().to_owned();
            fields.insert(name, self.of_any_type());
        } else if self.random.bool() && !names.is_empty() {
            fields.remove(&names[self.random.usize(0..names.len())]);
        } else if !known.is_empty() {
            let (name, schema) = known[self.random.usize(0..known.len())];
            fields.insert(name.clone(), self.sample(schema, 1));
        }
    }

    /// A value that a schema describes, as far as its type says so.
    fn sample(&mut self, schema: &'c Value, depth: u32) -> Value {
        let schema = self.resolved(schema);
        // There is no null in TOML.
        let words: Vec<&Value> =
            schema["enum"].as_array().into_iter().flatten().filter(|word| !word.is_null()).collect();
        if !words.is_empty() {
            return words[self.random.usize(0..words.len())].clone();
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(forms) = schema[keyword].as_array().filter(|forms| !forms.is_empty() && depth < MAX_DEPTH) {
                let form = self.random.usize(0..forms.len());
                return self.sample(&forms[form], depth + 1);
            }
        }
        if let Some(word) = schema.get("const").filter(|word| !word.is_null()) {
            return word.clone();
        }
        let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("string");
        match kind {
            "array" if depth >= MAX_DEPTH => Value::Array(Vec::new()),
            "array" => (0..self.random.usize(0..4)).map(|_| self.sample(&schema["items"], depth + 1)).collect(),
            "object" => {
                let fields = schema["properties"].as_object().into_iter().flatten();
                let fields = fields.filter(|_| depth < MAX_DEPTH);
                fields.map(|(name, schema)| (name.clone(), self.sample(schema, depth + 1))).collect()
            }
            "integer" | "number" => self.number(),
            "boolean" => self.random.bool().into(),
            _ => self.text(),
        }
    }

    /// A value whatever the schema says.
    fn of_any_type(&mut self) -> Value {
        match self.random.u8(0..6) {
            0 => Value::Bool(self.random.bool()),
            1 => self.number(),
            2 => self.text(),
            3 => Value::Array(vec![self.text()]),
            4 => 0.5.into(),
            _ => Value::Object(Map::new()),
        }
    }

    /// A text with a small change.
    fn changed(&mut self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        let (one, other) = (self.random.usize(0..=chars.len()), self.random.usize(0..=chars.len()));
        let (from, to) = (one.min(other), one.max(other).min(one.min(other) + 12));
        match self.random.u8(0..4) {
            0 => drop(chars.drain(from..to)),
            1 => {
                let again: Vec<char> = chars[from..to].to_vec();
                chars.splice(other..other, again);
            }
            2 => {
                let word = self.text();
                let word: Vec<char> = word.as_str().unwrap_or_default().chars().collect();
                chars.splice(one..one, word);
            }
            _ => chars.insert(one, MARKS[self.random.usize(0..MARKS.len())]),
        }
        chars.into_iter().take(MAX_TEXT).collect()
    }

    fn number(&mut self) -> Value {
        [0_i64, 1, 2, 7, -1, 255, 65_536, i64::from(u32::MAX), i64::MAX][self.random.usize(0..9)].into()
    }

    fn text(&mut self) -> Value {
        let list = if self.random.bool() { &self.dictionary.words } else { &self.dictionary.paths };
        match self.random.u8(0..8) {
            0 => "".into(),
            1 => "/".into(),
            2 => "ü\u{1f600}".into(),
            3 => "x".repeat(300).into(),
            _ if list.is_empty() => "x".into(),
            _ => list[self.random.usize(0..list.len())].clone().into(),
        }
    }
}

/// What came of settings.
pub(super) enum Attempt {
    /// The plugin doesn't take them.
    Refused,
    /// It takes them, and can judge by them.
    Usable,
    /// It fails.
    Fails(Box<Failing>),
}

/// How a plugin fails over settings.
#[derive(Debug, Clone)]
pub(super) struct Failing {
    pub(super) oracle: Oracle,
    pub(super) message: String,
    /// The request that it got then; one of those that it was to get, where it never came so far.
    pub(super) input: Input,
}

/// Gives a policy settings, and if it takes them, these requests.
pub(super) fn attempt(trial: &Trial<'_>, gate: &Gate, settings: &Value, inputs: &[Input]) -> Attempt {
    let policy = match trial.with(settings.to_string()) {
        Tried::Ready(policy) => policy,
        Tried::Refused => return Attempt::Refused,
        Tried::Failed(message) => {
            let first = inputs.first().cloned();
            return first.map_or(Attempt::Refused, |input| {
                Attempt::Fails(Box::new(Failing { oracle: Oracle::PrepareFailed, message, input }))
            });
        }
    };
    let chain = gate.chain_with(std::slice::from_ref(&*policy));
    let failing = inputs.iter().find_map(|input| {
        let decision = decide(&chain, input).ok()?;
        let symptom = oracles::judge(input, &decision).into_iter().find(|symptom| symptom.oracle.is_of_settings())?;
        Some(Box::new(Failing { oracle: Oracle::SettingsUnusable, message: symptom.message, input: input.clone() }))
    });
    failing.map_or(Attempt::Usable, Attempt::Fails)
}

/// The smallest settings that fail the same way, and then the smallest request.
pub(super) fn smallest(trial: &Trial<'_>, gate: &Gate, mut settings: Value, failing: Failing) -> (Value, Failing) {
    let again = |settings: &Value, input: &Input| match attempt(trial, gate, settings, std::slice::from_ref(input)) {
        Attempt::Fails(found) if found.oracle == failing.oracle => Some(*found),
        _ => None,
    };
    while let Some(small) = smaller(&settings).into_iter().find(|small| again(small, &failing.input).is_some()) {
        settings = small;
    }
    let input = shrink(failing.input.clone(), |input| again(&settings, input).is_some());
    let found = again(&settings, &input);
    (settings, found.unwrap_or(failing))
}

/// Settings that are one step smaller.
fn smaller(settings: &Value) -> Vec<Value> {
    match settings {
        Value::Object(fields) => {
            let without = fields.keys().map(|key| {
                let mut fields = fields.clone();
                fields.remove(key);
                Value::Object(fields)
            });
            let within = fields.iter().flat_map(|(key, value)| {
                smaller(value).into_iter().map(|value| {
                    let mut fields = fields.clone();
                    fields.insert(key.clone(), value);
                    Value::Object(fields)
                })
            });
            without.chain(within).collect()
        }
        Value::Array(items) => {
            let without = (0..items.len()).map(|at| {
                let mut items = items.clone();
                items.remove(at);
                Value::Array(items)
            });
            let within = items.iter().enumerate().flat_map(|(at, value)| {
                smaller(value).into_iter().map(move |value| {
                    let mut items = items.clone();
                    items[at] = value;
                    Value::Array(items)
                })
            });
            without.chain(within).collect()
        }
        Value::String(text) if text.len() > 1 => {
            let half: String = text.chars().take(text.chars().count() / 2).collect();
            vec![half.into()]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn smaller_settings_are_smaller() {
        let settings = json!({ "a": ["xx", { "b": 1 }], "c": true });
        let all = smaller(&settings);
        assert!(all.contains(&json!({ "c": true })) && all.contains(&json!({ "a": [{ "b": 1 }], "c": true })));
        assert!(all.contains(&json!({ "a": ["x", { "b": 1 }], "c": true })));
        assert!(all.iter().all(|one| one.to_string().len() < settings.to_string().len()));
    }

    #[test]
    fn every_kind_of_setting_changes() {
        let schema = json!({ "properties": {
            "paths": { "type": "array", "items": { "type": "string" } },
            "word": { "enum": ["one", "two"] },
            "max": { "type": ["integer", "null"] },
        } });
        let dictionary = Dictionary::of(std::iter::empty());
        let mut random = Rng::with_seed(1);
        let seen: std::collections::BTreeSet<String> = (0..2000)
            .map(|_| varied(&mut random, &json!({ "paths": ["/a"] }), &schema, &dictionary).to_string())
            .collect();
        for part in ["\"word\":\"two\"", "\"max\":-1", "\"paths\":[]", "{}"] {
            assert!(seen.iter().any(|text| text.contains(part)), "{part}");
        }
    }
}
