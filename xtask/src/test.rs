//! Every test there is.

use anyhow::Result;

use crate::{cargo, plugins, setup, step};

/// Sets up and runs every test, or the integration tests that the arguments select.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    step("cargo xtask setup --tests: the programs that the tests run");
    setup::test_tools()?;
    step("cargo xtask plugins");
    plugins::build()?;
    let mut test = cargo();
    test.args(["test", "--locked"]);
    if arguments.is_empty() {
        step("cargo test --workspace");
        test.arg("--workspace");
    } else {
        step("cargo test --package mountgate --test integration");
        test.args(["--package", "mountgate", "--test", "integration", "--"]).args(arguments);
    }
    crate::run(&mut test)
}
