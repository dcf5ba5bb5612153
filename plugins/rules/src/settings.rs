//! The settings: rules in order.

use schemars::JsonSchema;
use serde::Deserialize;

/// The settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The rules in order. The first denial that matches counts; all rewrites that match are made.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name in messages. Without one, its number.
    pub name: Option<String>,
    /// When it holds: an expression in CEL that is true or false.
    #[serde(rename = "match")]
    pub condition: String,
    /// The denial, if it's one that denies.
    pub deny: Option<Denial>,
    /// The changes, if it's one that rewrites.
    pub rewrite: Option<Rewrite>,
}

/// A denial.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// A short word in kebab case, for programs.
    pub code: String,
    /// The reason, for people. An expression between braces stands for its value, as in `{target.path}`.
    pub message: String,
    /// The field of the request that is at fault.
    #[serde(default = "target")]
    pub field: String,
    /// What to do instead.
    pub hint: Option<String>,
}

fn target() -> String {
    "target".to_owned()
}

/// Changes of a request. An expression between braces stands for its value.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rewrite {
    /// Options that must count, as `nosuid` or `size=1m`.
    #[serde(default)]
    pub add: Vec<String>,
    /// Names of options that are taken away.
    #[serde(default)]
    pub drop: Vec<String>,
    /// Another source.
    pub set_source: Option<String>,
    /// Another target.
    pub set_target: Option<String>,
    /// Another file system type.
    pub set_fstype: Option<String>,
}
