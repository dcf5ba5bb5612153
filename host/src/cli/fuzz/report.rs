//! Reports for CI: JUnit, JSON and SARIF.

use std::path::PathBuf;

use anyhow::Context;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Value, json};

use super::input_file::write_whole;
use crate::fuzz::oracles::{EXPLAINED, Oracle};
use crate::fuzz::run::Finding;
use crate::policy::directory::entry::PolicyEntry;

/// A report that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReportFile {
    form: Form,
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Junit,
    Json,
    Sarif,
}

impl std::str::FromStr for ReportFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write it as junit=FILE, json=FILE or sarif=FILE".to_owned();
        let (form, path) = text.split_once('=').filter(|(_, path)| !path.is_empty()).ok_or_else(wrong)?;
        let form = match form {
            "junit" => Form::Junit,
            "json" => Form::Json,
            "sarif" => Form::Sarif,
            _ => return Err(wrong()),
        };
        Ok(Self { form, path: path.into() })
    }
}

/// A policy or a property that findings may be about.
pub(super) struct Judged<'e> {
    pub(super) entry: &'e PolicyEntry,
    /// The `policies.toml` that has it.
    pub(super) config: PathBuf,
    pub(super) is_property: bool,
}

impl Judged<'_> {
    /// Whether a finding is about it. A property may have the name of a policy.
    fn has(&self, finding: &Finding) -> bool {
        let is_about_property = finding.symptom.oracle == Oracle::PropertyViolated;
        finding.symptom.policy == self.entry.name && is_about_property == self.is_property
    }
}

impl ReportFile {
    /// Writes it. `summary` is what `--json` prints.
    pub(super) fn write(&self, judged: &[Judged<'_>], findings: &[Finding], summary: &Value) -> anyhow::Result<()> {
        let text = match self.form {
            Form::Junit => junit(judged, findings)?,
            Form::Json => serde_json::to_string_pretty(summary)? + "\n",
            Form::Sarif => serde_json::to_string_pretty(&sarif(judged, findings))? + "\n",
        };
        write_whole(&self.path, &text)
    }
}

fn junit(judged: &[Judged<'_>], findings: &[Finding]) -> anyhow::Result<String> {
    let mut suite = TestSuite::new("mountgate fuzz");
    for policy in judged {
        let of_policy: Vec<String> = findings
            .iter()
            .filter(|finding| policy.has(finding))
            .map(|finding| format!("{}: {}", finding.symptom, finding.input.request))
            .collect();
        let status = if of_policy.is_empty() {
            TestCaseStatus::success()
        } else {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(of_policy.join("\n"));
            status
        };
        let folder = if policy.is_property { "properties/" } else { "" };
        suite.add_test_case(TestCase::new(format!("{folder}{}", policy.entry.name), status));
    }
    let mut report = Report::new("mountgate fuzz");
    report.add_test_suite(suite);
    report.to_string().context("the report can't be made")
}

/// The findings in SARIF 2.1.0, each at the line of its policy in `policies.toml`.
fn sarif(judged: &[Judged<'_>], findings: &[Finding]) -> Value {
    let rules = EXPLAINED.map(|(code, meaning)| json!({ "id": code, "shortDescription": { "text": meaning } }));
    let result = |finding: &Finding| {
        let symptom = &finding.symptom;
        let policy = judged.iter().find(|policy| policy.has(finding));
        let file = policy.map(|policy| policy.config.to_string_lossy());
        let line = policy.map_or(1, |policy| policy.entry.line);
        json!({
            "ruleId": symptom.oracle.code(),
            "level": "error",
            "message": { "text": format!("{symptom}: {}", finding.input.request) },
            "locations": [{ "physicalLocation": {
                "artifactLocation": { "uri": file },
                "region": { "startLine": line },
            } }],
        })
    };
    let results: Vec<Value> = findings.iter().map(result).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "mountgate fuzz", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "results": results,
        }],
    })
}
