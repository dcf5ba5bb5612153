//! How long a search looks, as flags, and its progress.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::policy::directory::units::parse_duration;

/// How long a search looks.
#[derive(Debug, Args)]
pub(in crate::cli) struct Bounds {
    /// How many requests to try
    #[arg(
        long,
        value_name = "N",
        default_value_if("max_time", clap::builder::ArgPredicate::IsPresent, "18446744073709551615"),
        default_value = "100000"
    )]
    pub(in crate::cli) runs: u64,
    /// How long to try, e.g. 30s or 10m
    #[arg(long, value_name = "T", value_parser = time)]
    pub(in crate::cli) max_time: Option<Duration>,
    /// The same seed makes the same requests
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(in crate::cli) seed: u64,
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a time as 30s or 10m".to_owned())
}

/// The progress of a search of so many runs.
pub(in crate::cli) fn progress(runs: u64) -> ProgressBar {
    let bar = if runs == u64::MAX { ProgressBar::new_spinner() } else { ProgressBar::new(runs) };
    let style = ProgressStyle::with_template("{elapsed} {wide_bar} {pos} runs, {per_sec}, {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
