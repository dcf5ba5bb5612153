//! Reads settings from JSON, and names all problems at once.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::{Prepared, Problem};

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

/// The JSON Schema of a plugin's settings, made of the type that they are read into.
pub fn schema<P: Prepared>() -> String {
    let mut schema = schemars::schema_for!(P::Settings);
    schema.insert("title".to_owned(), P::NAME.into());
    serde_json::to_string_pretty(&schema).unwrap_or_default()
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
