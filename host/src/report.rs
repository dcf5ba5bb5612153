//! What happened, for people and for programs: the decision, its trace, the plan and the outcome.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::decision::ruling::{Decision, Ruling};
use crate::decision::trace::{Phase, TraceEntry};
use crate::error::with_causes;
use crate::executor::apply::Applied;
use crate::executor::failure::ApplyError;
use crate::gate::Ending;
use crate::json;
use crate::model::ends::{OptionPath, ResolvedPath};
use crate::model::location::{Place, Via};
use crate::model::request::MountRequest;
use crate::model::secrets::Secrets;
use crate::model::untrusted::for_people;
use crate::model::verdict::Denial;
use crate::plan::mount_plan::PlanText;

/// A decision and what came of it; its JSON form is part of the contract.
#[derive(Debug, Serialize)]
pub struct Report {
    verdict: &'static str,
    request: MountRequest,
    #[serde(rename = "final")]
    final_request: MountRequest,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<ResolvedPath>,
    target: ResolvedPath,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    option_paths: Vec<OptionPath>,
    places: Vec<Place>,
    trace: Vec<TraceEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied_by: Option<DeniedBy>,
    plan: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<ReportOutcome>,
}

/// The denial that counts, with the policy that it came from.
#[derive(Debug, Serialize)]
struct DeniedBy {
    policy: String,
    #[serde(flatten)]
    denial: Denial,
}

/// What the executor did.
#[derive(Debug, Clone, Serialize)]
struct ReportOutcome {
    /// `applied` or `failed`.
    status: &'static str,
    /// The new mount's unique id.
    #[serde(skip_serializing_if = "Option::is_none")]
    mount_id: Option<u64>,
    /// What the host said.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What kind of failure it is, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// The kernel's number for it, see errno(3).
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
}

impl ReportOutcome {
    fn of(applied: &Result<Applied, ApplyError>) -> Self {
        match applied {
            Ok(applied) => Self { status: "applied", mount_id: applied.mount_id, error: None, code: None, errno: None },
            Err(error) => {
                let (code, errno) = (Some(error.code()), error.errno());
                Self { status: "failed", mount_id: None, error: Some(with_causes(error)), code, errno }
            }
        }
    }
}

impl Report {
    /// A report of a decision, with secrets masked.
    pub fn of_decision(decision: &Decision) -> Self {
        let secrets = Secrets::of(&[&decision.request, &decision.final_request]);
        let denied_by = decision
            .denial()
            .map(|(policy, denial)| DeniedBy { policy: policy.to_owned(), denial: denial.masked(&secrets) });
        let plan = match &decision.ruling {
            Ruling::Allow(Some(plan)) => plan.text(),
            _ => PlanText::default(),
        };
        Self {
            verdict: if denied_by.is_none() { "allow" } else { "deny" },
            request: decision.request.masked(),
            final_request: decision.final_request.masked(),
            source: decision.source.clone(),
            target: decision.target.clone(),
            option_paths: decision.option_paths.clone(),
            places: decision.places.clone(),
            trace: decision.trace.iter().map(|entry| entry.masked(&secrets)).collect(),
            denied_by,
            plan: Vec::new(),
            notes: Vec::new(),
            outcome: None,
        }
        .with_plan(&plan, &secrets)
    }

    fn with_plan(mut self, plan: &PlanText, secrets: &Secrets) -> Self {
        self.plan.extend(plan.lines.iter().map(|line| secrets.mask(line)));
        self.notes.extend(plan.notes.iter().map(|note| secrets.mask(note)));
        self
    }

    /// A report of a request that was carried out, or tried, or denied, with secrets masked.
    pub fn of_ending(ending: &Ending) -> Self {
        let decision = &ending.decision;
        let secrets = Secrets::of(&[&decision.request, &decision.final_request]);
        let mut report = Self::of_decision(decision).with_plan(&ending.plan, &secrets);
        report.trace.extend(ending.observed.iter().map(|entry| entry.masked(&secrets)));
        report.outcome = ending.applied.as_ref().map(ReportOutcome::of);
        if let Some(Ok(applied)) = &ending.applied {
            report.notes.extend(applied.notes.iter().map(|note| secrets.mask(note)));
        }
        report
    }

    /// The request as the policies left it, secrets masked.
    pub fn final_request(&self) -> &MountRequest {
        &self.final_request
    }

    /// Notes for the person who reads the output.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The denial that counts in one line, and its hint.
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
        json::write_line(out, self)
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
        self.write_places(out)?;
        self.write_trace(out)?;
        self.write_denial(out)?;
        for line in &self.plan {
            writeln!(out, "  run: {}", for_people(line))?;
        }
        for note in &self.notes {
            writeln!(out, "  note: {}", for_people(note))?;
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
                write!(out, " {}", for_people(&edit.to_string()))?;
            }
            if let Some(denial) = &entry.denial {
                write!(out, " {}: {}", denial.code, for_people(&denial.reason))?;
            }
            if let Some(failure) = &entry.failure {
                write!(out, " {}", for_people(&failure.to_string()))?;
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

    /// What the paths of the request led to, and where else it is seen.
    ///
    /// # Errors
    /// When the output can't be written.
    pub fn write_places(&self, out: &mut impl Write) -> io::Result<()> {
        let request = &self.final_request;
        let ends = [
            ("source", request.source.as_deref(), self.source.as_ref()),
            ("target", Some(request.target.as_str()), Some(&self.target)),
        ];
        for (name, written, found) in ends {
            let Some(found) = found else { continue };
            let links = found.symlinks.iter().map(|link| format!(", through {}", for_people(link)));
            let is_plain = written == Some(found.path.as_str()) && found.symlinks.is_empty();
            if !is_plain {
                writeln!(out, "  {name}: {}{}", for_people(&found.path), links.collect::<String>())?;
            }
        }
        let others: Vec<&Place> = self.places.iter().filter(|place| place.via != Via::Target).collect();
        for place in others.iter().take(MAX_PLACES) {
            writeln!(out, "  also at: {} ({})", for_people(&place.path), place.via.name())?;
        }
        if others.len() > MAX_PLACES {
            writeln!(out, "  also at {} more places", others.len() - MAX_PLACES)?;
        }
        Ok(())
    }

    fn write_denial(&self, out: &mut impl Write) -> io::Result<()> {
        let Some(DeniedBy { policy, denial }) = &self.denied_by else { return Ok(()) };
        writeln!(out, "denied by {policy}: {} ({})", for_people(&denial.reason), denial.code)?;
        if let Some(field) = &denial.field {
            writeln!(out, "  field: {}", for_people(field))?;
        }
        if let Some(hint) = &denial.hint {
            writeln!(out, "  hint: {}", for_people(hint))?;
        }
        Ok(())
    }
}

/// How many places are written for people.
const MAX_PLACES: usize = 20;
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const CHANGED: Style = AnsiColor::Yellow.on_default();
const DIM: Style = Style::new().dimmed();
