//! Compares settings with the JSON Schema that a plugin publishes for them.
//!
//! Of JSON Schema (draft 2020-12), it knows what schemas of settings are made of: types, properties, items, enumerations, bounds,
//! `anyOf`, `oneOf`, `allOf` and `$ref` within the schema. A schema that asks for more is refused: nobody would check it.

use std::cell::{Cell, RefCell};

use serde_json::{Map, Value};

/// How deep values and references may lie within each other.
const MAX_DEPTH: usize = 64;
/// How many references and alternatives are followed for each byte of the settings, and for settings without any: a schema that refers to
/// itself twice would double them at each level.
const STEPS_PER_BYTE: usize = 64;
const STEPS: usize = 10_000;
/// What says something about a value that isn't compared with it.
const ANNOTATIONS: [&str; 13] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "format",
    "readOnly",
    "writeOnly",
];
/// What is compared.
const CHECKED: [&str; 17] = [
    "$ref",
    "allOf",
    "anyOf",
    "oneOf",
    "type",
    "const",
    "enum",
    "items",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "required",
    "properties",
    "additionalProperties",
];
/// How many problems are told.
const MAX_PROBLEMS: usize = 100;

/// One problem in the settings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SettingsProblem {
    /// The setting, as `rules[2].add`; empty for the settings as a whole.
    pub(super) path: String,
    pub(super) message: String,
}

/// All problems of settings.
///
/// # Errors
/// When it isn't a schema.
pub(super) fn problems(schema: &str, settings: &str) -> Result<Vec<SettingsProblem>, String> {
    let schema: Value = serde_json::from_str(schema).map_err(|error| format!("it isn't JSON: {error}"))?;
    if !schema.is_object() {
        return Err("it isn't a JSON object".to_owned());
    }
    let length = settings.len();
    let settings: Value = serde_json::from_str(settings).map_err(|error| format!("settings: {error}"))?;
    let limits = Limits { steps: Cell::new(STEPS + length * STEPS_PER_BYTE), fault: RefCell::default() };
    let mut check = Check { root: &schema, limits: &limits, problems: Vec::new() };
    check.value(&schema, &settings, "", 0);
    if let Some(fault) = limits.fault.take() {
        return Err(fault);
    }
    check.problems.truncate(MAX_PROBLEMS);
    Ok(check.problems)
}

/// What a comparison may still do, and why it can't be made.
struct Limits {
    steps: Cell<usize>,
    fault: RefCell<Option<String>>,
}

impl Limits {
    fn fail(&self, fault: impl Into<String>) {
        self.fault.borrow_mut().get_or_insert_with(|| fault.into());
    }

    fn has_failed(&self) -> bool {
        self.fault.borrow().is_some()
    }

    /// Takes a step, if there is one left.
    fn step(&self) -> bool {
        match self.steps.get().checked_sub(1) {
            Some(left) => self.steps.set(left),
            None => self.fail("it refers to itself without end"),
        }
        !self.has_failed()
    }
}

struct Check<'s> {
    root: &'s Value,
    limits: &'s Limits,
    problems: Vec<SettingsProblem>,
}

impl<'s> Check<'s> {
    fn note(&mut self, path: &str, message: String) {
        self.problems.push(SettingsProblem { path: path.to_owned(), message });
    }

    fn value(&mut self, schema: &'s Value, value: &Value, path: &str, depth: usize) {
        if depth > MAX_DEPTH {
            self.limits
                .fail(format!("it refers to itself without end, or the settings lie deeper than {MAX_DEPTH} levels"));
        }
        if self.limits.has_failed() || self.problems.len() > MAX_PROBLEMS {
            return;
        }
        let rules = match schema {
            Value::Bool(false) => return self.note(path, "there is no such setting".to_owned()),
            Value::Object(rules) => rules,
            _ => return,
        };
        let is_known = |name: &&String| CHECKED.contains(&name.as_str()) || ANNOTATIONS.contains(&name.as_str());
        if let Some(name) = rules.keys().find(|name| !is_known(name) && !name.starts_with("x-")) {
            return self
                .limits
                .fail(format!("it uses {name:?}, which mountgate doesn't compare: check it in `prepare`"));
        }
        if let Some(name) = rules.get("$ref") {
            match name.as_str().and_then(|name| self.referred(name)) {
                Some(target) if self.limits.step() => self.value(target, value, path, depth + 1),
                Some(_) => {}
                None => self.limits.fail(format!("its $ref {name} leads nowhere")),
            }
        }
        for one in list(rules, "allOf") {
            self.value(one, value, path, depth + 1);
        }
        self.alternatives(rules, value, path, depth);
        if !has_type(rules.get("type"), value) {
            let expected = rules.get("type").map(type_names).unwrap_or_default();
            return self.note(path, format!("{} where {expected} is expected", shown(value)));
        }
        if rules.get("const").is_some_and(|only| only != value) {
            self.note(path, format!("{} where {} is expected", shown(value), shown(&rules["const"])));
        }
        if let Some(allowed) = rules.get("enum").and_then(Value::as_array).filter(|allowed| !allowed.contains(value)) {
            let words: Vec<String> = allowed.iter().map(shown).collect();
            self.note(path, format!("{} where one of {} is expected", shown(value), words.join(", ")));
        }
        match value {
            Value::Object(fields) => self.object(rules, fields, path, depth),
            Value::Array(items) => {
                self.bounds(rules, "minItems", "maxItems", items.len() as f64, "items", path);
                for (at, item) in items.iter().enumerate() {
                    if let Some(schema) = rules.get("items") {
                        self.value(schema, item, &format!("{path}[{at}]"), depth + 1);
                    }
                }
            }
            Value::String(text) => {
                self.bounds(rules, "minLength", "maxLength", text.chars().count() as f64, "characters", path);
            }
            Value::Number(number) => {
                self.bounds(rules, "minimum", "maximum", number.as_f64().unwrap_or(f64::NAN), "", path);
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// One of several schemas must fit, of `oneOf` one only. If none does, the problems of the one that comes closest are told.
    fn alternatives(&mut self, rules: &'s Map<String, Value>, value: &Value, path: &str, depth: usize) {
        for keyword in ["anyOf", "oneOf"] {
            let tries: Vec<_> = list(rules, keyword)
                .iter()
                .map(|one| {
                    let mut check = Check { root: self.root, limits: self.limits, problems: Vec::new() };
                    if self.limits.step() {
                        check.value(one, value, path, depth + 1);
                    }
                    check.problems
                })
                .collect();
            let fitting = tries.iter().filter(|problems| problems.is_empty()).count();
            if keyword == "oneOf" && fitting > 1 {
                self.note(path, format!("it fits {fitting} of several forms, where it must fit one"));
            }
            if let Some(closest) = tries.into_iter().min_by_key(|problems| (problems.len(), is_about(problems, path))) {
                self.problems.extend(closest);
            }
        }
    }

    fn object(&mut self, rules: &'s Map<String, Value>, fields: &Map<String, Value>, path: &str, depth: usize) {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for name in list(rules, "required").iter().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                self.note(&below(name), "it's missing".to_owned());
            }
        }
        let known = rules.get("properties").and_then(Value::as_object);
        for (name, value) in fields {
            match (known.and_then(|known| known.get(name)), rules.get("additionalProperties")) {
                (Some(schema), _) => self.value(schema, value, &below(name), depth + 1),
                (None, Some(Value::Bool(false))) => {
                    let names: Vec<&str> = known.into_iter().flat_map(Map::keys).map(String::as_str).collect();
                    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                    self.note(&below(name), format!("there is no such setting: there are {names}"));
                }
                (None, Some(schema)) => self.value(schema, value, &below(name), depth + 1),
                (None, None) => {}
            }
        }
    }

    fn bounds(&mut self, rules: &Map<String, Value>, least: &str, most: &str, found: f64, of: &str, path: &str) {
        let bound = |name: &str| rules.get(name).and_then(Value::as_f64);
        let unit = if of.is_empty() { String::new() } else { format!(" {of}") };
        if let Some(least) = bound(least).filter(|least| found < *least) {
            self.note(path, format!("{found}{unit} where {least} or more are expected"));
        }
        if let Some(most) = bound(most).filter(|most| found > *most) {
            self.note(path, format!("{found}{unit} where {most} or fewer are expected"));
        }
    }

    fn referred(&self, name: &str) -> Option<&'s Value> {
        self.root.pointer(name.strip_prefix('#')?)
    }
}

/// Whether problems are about a value as a whole, and not about what is in it.
fn is_about(problems: &[SettingsProblem], path: &str) -> bool {
    problems.iter().any(|problem| problem.path == path)
}

fn list<'s>(rules: &'s Map<String, Value>, keyword: &str) -> &'s [Value] {
    rules.get(keyword).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn has_type(expected: Option<&Value>, value: &Value) -> bool {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        // Another plugin's own word.
        _ => true,
    };
    match expected {
        Some(Value::String(name)) => is(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

fn type_names(expected: &Value) -> String {
    match expected {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        name => name.as_str().unwrap_or_default().to_owned(),
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(schema: &str, settings: &str) -> Vec<(String, String)> {
        let problems = problems(schema, settings).expect("it's a schema");
        problems.into_iter().map(|problem| (problem.path, problem.message)).collect()
    }

    const SCHEMA: &str = r##"{
        "type": "object",
        "properties": {
            "rules": { "type": "array", "maxItems": 2, "items": { "$ref": "#/$defs/Rule" } },
            "max": { "type": ["integer", "null"], "minimum": 1 },
            "word": { "anyOf": [{ "type": "null" }, { "const": "a" }, { "type": "string", "minLength": 3 }] }
        },
        "additionalProperties": false,
        "$defs": { "Rule": {
            "type": "object", "required": ["add"],
            "properties": { "add": { "enum": ["ro", "nodev"] } }
        } }
    }"##;

    #[test]
    fn sound_settings_have_no_problem() {
        for settings in ["{}", r#"{"rules": [{"add": "ro", "more": 1}], "max": 3, "word": "long"}"#, r#"{"max": null}"#]
        {
            assert_eq!(of(SCHEMA, settings), [], "{settings}");
        }
    }

    #[test]
    fn every_problem_has_its_path() {
        let found = of(SCHEMA, r#"{"rules": [{}, {"add": "rw"}, 5], "max": 0, "word": "b", "other": 1}"#);
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["max", "other", "rules", "rules[0].add", "rules[1].add", "rules[2]", "word"], "{found:?}");
        assert!(found[4].1.contains(r#"one of "ro", "nodev""#), "{found:?}");
        assert!(found[1].1.contains("there are max, rules, word"), "{found:?}");
    }

    #[test]
    fn what_would_not_be_compared_is_refused() {
        for (schema, settings) in [
            (r##"{"$ref": "#"}"##, "{}"),
            (r##"{"allOf": [{"$ref": "#"}, {"$ref": "#"}]}"##, "[]"),
            (r##"{"$ref": "#/$defs/Missing"}"##, "{}"),
            (r##"{"properties": {"path": {"type": "string", "pattern": "^/"}}}"##, r#"{"path": "x"}"#),
            (r##"{"items": {"$ref": "#"}}"##, &format!("{}{}", "[".repeat(60), "]".repeat(60))),
        ] {
            assert!(problems(schema, settings).is_err(), "{schema}");
        }
    }

    #[test]
    fn large_settings_are_compared() {
        let many = format!("{{\"list\": [{}0]}}", "1,".repeat(200_000));
        let schema = r##"{"properties": {"list": {"items": {"anyOf": [{"type": "null"}, {"type": "integer"}]}}}}"##;
        assert_eq!(of(schema, &many), []);
    }

    #[test]
    fn what_is_no_schema_is_told() {
        assert!(problems("nonsense", "{}").is_err());
        assert!(problems("[]", "{}").is_err());
    }
}
