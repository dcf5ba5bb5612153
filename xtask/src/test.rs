//! Every test there is.

use std::process::Command;

use anyhow::Result;

use crate::{built, cargo, mountgate, plugins, setup, step};

/// Builds everything and runs the unit tests, then the integration tests.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    setup::test_tools()?;
    plugins::build()?;
    mountgate()?;
    if arguments.is_empty() {
        step("unit tests");
        crate::run(cargo().args([
            "test",
            "--quiet",
            "--release",
            "--locked",
            "--workspace",
            "--exclude",
            "mountgate-tests",
        ]))?;
    }
    step("integration tests");
    crate::run(cargo().args(["build", "--quiet", "--release", "--locked", "--package", "mountgate-tests"]))?;
    crate::run(Command::new(built("mountgate-tests")?).args(arguments))
}
