//! What happened, for people and for programs: the decision, its trace, the plan and the outcome.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::chain::{Decision, Phase, Ruling, TraceEntry};
use crate::options::{MASK, Options};
use crate::request::MountRequest;
use crate::verdict::{Denial, Edit};

/// A decision and what came of it; its JSON form is part of the contract.
#[derive(Debug, Serialize)]
pub struct Report {
    verdict: &'static str,
    request: MountRequest,
    #[serde(rename = "final")]
    final_request: MountRequest,
    trace: Vec<TraceEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied_by: Option<DeniedBy>,
    plan: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<ReportOutcome>,
}

/// The denial that counted, with the policy that it came from.
#[derive(Debug, Serialize)]
struct DeniedBy {
    policy: String,
    #[serde(flatten)]
    denial: Denial,
}

/// What came of carrying it out.
#[derive(Debug, Clone, Serialize)]
pub struct ReportOutcome {
    /// `applied` or `failed`.
    pub status: &'static str,
    /// The new mount's unique id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_id: Option<u64>,
    /// The host's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Report {
    /// A report of a decision, with secrets masked.
    pub fn of(decision: &Decision) -> Self {
        let secrets = Secrets::of(&[&decision.request.options, &decision.final_request.options]);
        let denied_by = match &decision.ruling {
            Ruling::Allow(_) => None,
            Ruling::Deny { policy, denial } => {
                Some(DeniedBy { policy: policy.clone(), denial: secrets.mask_denial(denial) })
            }
            Ruling::Fail { policy, failure } => Some(DeniedBy {
                policy: policy.clone(),
                denial: Denial {
                    code: failure.kind.code().to_owned(),
                    reason: secrets.mask(&failure.message),
                    field: None,
                    hint: None,
                },
            }),
        };
        let (plan, notes) = match &decision.ruling {
            Ruling::Allow(Some(plan)) => {
                (plan.lines().iter().map(|line| secrets.mask(line)).collect(), plan.notes().to_vec())
            }
            _ => (Vec::new(), Vec::new()),
        };
        Self {
            verdict: if denied_by.is_none() { "allow" } else { "deny" },
            request: decision.request.masked(),
            final_request: decision.final_request.masked(),
            trace: decision.trace.iter().map(|entry| secrets.mask_entry(entry)).collect(),
            denied_by,
            plan,
            notes,
            outcome: None,
        }
    }

    /// Adds what came of it and what the observers said.
    pub fn conclude(&mut self, outcome: ReportOutcome, observed: Vec<TraceEntry>) {
        self.outcome = Some(outcome);
        self.trace.extend(observed);
    }

    /// Adds what came up while it was carried out.
    pub fn note(&mut self, notes: impl Iterator<Item = String>) {
        self.notes.extend(notes);
    }

    /// Adds what the observers of a denial said.
    pub fn observed(&mut self, observed: Vec<TraceEntry>) {
        self.trace.extend(observed);
    }

    /// The request as the policies left it, secrets masked.
    pub fn final_request(&self) -> &MountRequest {
        &self.final_request
    }

    /// What somebody who reads the output should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The denial that counted in one line, and its hint.
    pub fn denial_line(&self) -> Option<(String, Option<String>)> {
        let DeniedBy { policy, denial } = self.denied_by.as_ref()?;
        let field = denial.field.as_deref().map(|field| format!("{field}: ")).unwrap_or_default();
        Some((format!("denied by {policy}: {field}{} ({})", denial.reason, denial.code), denial.hint.clone()))
    }

    /// The JSON form, one line.
    ///
    /// # Errors
    /// When the output can't be written.
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }

    /// All of it for a person.
    ///
    /// # Errors
    /// When the output can't be written.
    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let style = if self.verdict == "allow" { GOOD } else { BAD };
        writeln!(out, "{style}{}{style:#}  {}", self.verdict, self.request)?;
        if self.final_request != self.request {
            writeln!(out, "as     {}", self.final_request)?;
        }
        self.write_trace(out)?;
        self.write_denial(out)?;
        for line in &self.plan {
            writeln!(out, "  run: {line}")?;
        }
        for note in &self.notes {
            writeln!(out, "  note: {note}")?;
        }
        Ok(())
    }

    /// Passes what policies wrote on to the operator's log, each line with its policy's name.
    pub fn log(&self) {
        for (policy, line) in
            self.trace.iter().flat_map(|entry| entry.log.iter().map(move |line| (&entry.policy, line)))
        {
            match line.level {
                tracing::Level::ERROR => tracing::error!("{policy}: {}", line.text),
                tracing::Level::WARN => tracing::warn!("{policy}: {}", line.text),
                tracing::Level::INFO => tracing::info!("{policy}: {}", line.text),
                _ => tracing::debug!("{policy}: {}", line.text),
            }
        }
    }

    /// The trace alone, one line a policy, with what it wrote.
    ///
    /// # Errors
    /// When the output can't be written.
    pub fn write_trace(&self, out: &mut impl Write) -> io::Result<()> {
        let width = self.trace.iter().map(|entry| entry.policy.chars().count()).max().unwrap_or(0);
        for entry in &self.trace {
            let phase = match entry.phase {
                Phase::Mutate => "mutate",
                Phase::Invariants => "invariants",
                Phase::Validate => "validate",
                Phase::Observe => "observe",
            };
            let round = entry.round.map(|round| format!(" {round}")).unwrap_or_default();
            let style = match entry.verdict {
                "deny" | "fail" => BAD,
                "rewrite" => CHANGED,
                _ => Style::new(),
            };
            write!(out, "  {:<12}{:<width$}  ", format!("{phase}{round}"), entry.policy)?;
            write!(out, "{style}{:<8}{style:#}", entry.verdict)?;
            if entry.monitor {
                write!(out, " (monitor)")?;
            }
            for edit in &entry.edits {
                write!(out, " {edit}")?;
            }
            if let Some(denial) = &entry.denial {
                write!(out, " {}: {}", denial.code, denial.reason)?;
            }
            if let Some(error) = &entry.error {
                write!(out, " {error}")?;
            }
            if entry.fuel > 0 {
                write!(out, "  {DIM}{} fuel{DIM:#}", entry.fuel)?;
            }
            writeln!(out)?;
            for line in &entry.log {
                writeln!(out, "    {DIM}{} {}{DIM:#}", line.level.as_str().to_lowercase(), line.text)?;
            }
        }
        Ok(())
    }

    fn write_denial(&self, out: &mut impl Write) -> io::Result<()> {
        let Some(DeniedBy { policy, denial }) = &self.denied_by else { return Ok(()) };
        writeln!(out, "denied by {policy}: {} ({})", denial.reason, denial.code)?;
        if let Some(field) = &denial.field {
            writeln!(out, "  field: {field}")?;
        }
        if let Some(hint) = &denial.hint {
            writeln!(out, "  hint: {hint}")?;
        }
        Ok(())
    }
}

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const CHANGED: Style = AnsiColor::Yellow.on_default();
const DIM: Style = Style::new().dimmed();

/// The secret values of a request, to be kept out of everything that is shown.
#[derive(Debug, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// The secrets among these options.
    pub fn of(options: &[&Options]) -> Self {
        let mut values: Vec<String> = options.iter().flat_map(|options| options.secrets()).map(str::to_owned).collect();
        // The longest first, so that a secret within a secret leaves nothing behind.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self(values)
    }

    /// Text without them.
    pub fn mask(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK))
    }

    fn mask_denial(&self, denial: &Denial) -> Denial {
        Denial {
            code: denial.code.clone(),
            reason: self.mask(&denial.reason),
            field: denial.field.as_deref().map(|field| self.mask(field)),
            hint: denial.hint.as_deref().map(|hint| self.mask(hint)),
        }
    }

    /// A trace entry without them.
    pub fn mask_entry(&self, entry: &TraceEntry) -> TraceEntry {
        let mut entry = entry.clone();
        if self.0.is_empty() {
            return entry;
        }
        entry.denial = entry.denial.as_ref().map(|denial| self.mask_denial(denial));
        entry.error = entry.error.as_deref().map(|error| self.mask(error));
        entry.edits = entry.edits.iter().map(Edit::masked).collect();
        for line in &mut entry.log {
            line.text = self.mask(&line.text);
        }
        entry
    }
}
