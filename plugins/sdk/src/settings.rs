//! Reads settings from JSON, and names all problems at once.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::{Policy, Problem};

/// How many problems are named at most.
const MAX_PROBLEMS: usize = 100;

/// Reads settings.
///
/// # Errors
/// All wrong values. Each wrong value is noted and removed, until the rest can be deserialized or something is missing.
pub fn parse<S: DeserializeOwned>(settings: &str) -> Result<S, Vec<Problem>> {
    let problem = |path: String, message: String| Problem { path, message };
    let mut value: Value =
        serde_json::from_str(settings).map_err(|error| vec![problem(String::new(), error.to_string())])?;
    let mut problems = Vec::new();
    while problems.len() < MAX_PROBLEMS {
        let error = match serde_path_to_error::deserialize::<_, S>(value.clone()) {
            Ok(sound) if problems.is_empty() => return Ok(sound),
            Ok(_) => break,
            Err(error) => error,
        };
        let path = error.path();
        let at = if path.iter().next().is_none() { String::new() } else { path.to_string() };
        problems.push(problem(at, error.inner().to_string()));
        if !take_out(&mut value, path) {
            break;
        }
    }
    Err(problems)
}

/// Removes the value at a path. Says whether it was there.
fn take_out(value: &mut Value, path: &Path) -> bool {
    let mut segments: Vec<&Segment> = path.iter().collect();
    let Some(last) = segments.pop() else { return false };
    let mut here = value;
    for segment in segments {
        let next = match segment {
            Segment::Seq { index } => here.get_mut(*index),
            Segment::Map { key } => here.get_mut(key),
            _ => None,
        };
        match next {
            Some(next) => here = next,
            None => return false,
        }
    }
    match (last, here) {
        (Segment::Map { key }, Value::Object(map)) => map.remove(key).is_some(),
        (Segment::Seq { index }, Value::Array(list)) if *index < list.len() => {
            list.remove(*index);
            true
        }
        _ => false,
    }
}

/// For a plugin's own tests. Checks that its schema is JSON, and that its settings know every property in the schema
/// and refuse any other.
///
/// # Panics
/// If the schema and the settings don't agree.
#[expect(clippy::panic, reason = "it's an assertion")]
pub fn check_schema<P: Policy>() {
    let schema: Value = match serde_json::from_str(P::SCHEMA) {
        Ok(schema) => schema,
        Err(error) => panic!("the schema isn't JSON: {error}"),
    };
    let is_unknown = |key: &str| match parse::<P::Settings>(&serde_json::json!({ key: null }).to_string()) {
        Ok(_) => false,
        Err(problems) => problems.iter().any(|problem| problem.message.starts_with("unknown field")),
    };
    assert_eq!(schema["additionalProperties"], false, "the schema lets unknown keys pass");
    let properties = schema["properties"].as_object().map(|map| map.keys().collect::<Vec<_>>()).unwrap_or_default();
    for key in properties {
        assert!(!is_unknown(key), "the settings don't know {key}, which the schema names");
    }
    assert!(is_unknown("no-such-key"), "the settings let unknown keys pass");
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::parse;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Settings {
        #[serde(default)]
        list: Vec<u8>,
        #[serde(default)]
        word: String,
    }

    #[test]
    fn every_problem_is_named_with_its_path() {
        let problems = parse::<Settings>(r#"{"list": [1, "a", 2, 300], "word": 5, "other": 1}"#).expect_err("four");
        let mut paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["list[1]", "list[2]", "other", "word"]);
    }
}
