//! Errors and answers, for people and for scripts.

use std::ffi::OsString;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use crate::error::Error;
use crate::exit::ExitStatus;
use crate::json;
use crate::model::hint::Hint;
use crate::model::untrusted::for_people;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// A cause of an error, with advice of its own where there is some.
pub(super) struct Cause {
    pub(super) text: String,
    pub(super) hint: Option<Hint>,
}

impl From<String> for Cause {
    fn from(text: String) -> Self {
        Self { text, hint: None }
    }
}

/// Prints an error with its causes and hints. Says how the program ends.
pub(super) fn report_error(error: &anyhow::Error, as_json: bool) -> ExitStatus {
    let ours = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    let status = ours.map_or(ExitStatus::HostFailed, ExitStatus::of_error);
    let hint = ours.and_then(Error::hint);
    let causes: Vec<Cause> = match ours {
        Some(Error::Refused(refusals)) => {
            refusals.iter().map(|refusal| Cause { text: refusal.to_string(), hint: refusal.hint.clone() }).collect()
        }
        _ => error.chain().skip(1).map(|cause| cause.to_string().into()).collect(),
    };
    if as_json {
        let _ = json::write_line(&mut io::stdout(), &json_error(error, ours, &causes, hint.as_ref(), status));
    }
    print_error(&error.to_string(), &causes, hint.as_ref());
    status
}

/// Prints a mistake of the command line as JSON, for scripts that read that.
pub(super) fn print_usage_error(error: &clap::Error) {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let message = lines.next().unwrap_or_default().trim_start_matches("error: ");
    // What is wrong may be listed below; the usage and the advice come last.
    let causes: Vec<&str> = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("tip:")).collect();
    let error = json!({
        "code": "usage", "message": message, "causes": causes, "hint": "see --help", "exit": ExitStatus::Usage as i32
    });
    let _ = json::write_line(&mut io::stdout(), &json!({ "error": error }));
}

fn json_error(
    error: &anyhow::Error,
    ours: Option<&Error>,
    causes: &[Cause],
    hint: Option<&Hint>,
    status: ExitStatus,
) -> Value {
    let texts: Vec<&str> = causes.iter().map(|cause| cause.text.as_str()).collect();
    let hint = hint.or_else(|| causes.iter().find_map(|cause| cause.hint.as_ref()));
    let code = ours.map_or("failed", Error::code);
    let message = error.to_string();
    let mut object = json!({ "code": code, "message": message, "causes": texts, "hint": hint, "exit": status as i32 });
    if let Some(Error::Refused(refusals)) = ours {
        object["refusals"] = json!(refusals.iter().collect::<Vec<_>>());
    }
    json!({ "error": object })
}

/// Prints `error:`, the numbered causes, each with its hint, and `hint:`.
pub(super) fn print_error(message: &str, causes: &[Cause], hint: Option<&Hint>) {
    let mut err = anstream::stderr().lock();
    let _ = writeln!(err, "{ERROR}error:{ERROR:#} {}", for_people(message));
    for (i, cause) in causes.iter().enumerate() {
        let _ = writeln!(err, "  {}: {}", i + 1, for_people(&cause.text));
        if let Some(hint) = &cause.hint {
            let _ = writeln!(err, "     {HINT}hint:{HINT:#} {}", for_people(&hint.to_string()));
        }
    }
    if let Some(hint) = hint {
        let _ = writeln!(err, "{HINT}hint:{HINT:#} {}", for_people(&hint.to_string()));
    }
}

/// The status of an answer. It stays what it is where the answer can't be printed.
pub(super) fn status_of_printed(printed: anyhow::Result<()>, status: ExitStatus) -> ExitStatus {
    if let Err(error) = printed
        && !is_broken_pipe(&error)
    {
        tracing::error!("the answer can't be printed: {error:#}");
    }
    status
}

/// Whether an answer couldn't be printed because its reader is gone.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is))
}

/// A parser's arguments as people may see them, to be named in an error.
pub(super) fn arguments_for_people() -> impl Iterator<Item = OsString> {
    std::env::args_os().map(|argument| for_people(&argument.to_string_lossy()).into_owned().into())
}
