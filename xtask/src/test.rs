//! Every test there is.

use anyhow::Result;

use crate::{cargo, elsewhere, parsers, plugins, setup, step};

/// Sets up and runs every test, or the integration tests that the arguments select.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    step("cargo xtask setup --tests: the programs that the tests run");
    setup::test_tools()?;
    step("cargo xtask plugins");
    plugins::build()?;
    plugins::build_with_lines(crate::coverage::FOLDER)?;
    step("cargo build --package mountgate-registry");
    crate::run(cargo().args(["build", "--locked", "--package", "mountgate-registry"]))?;
    if !arguments.is_empty() {
        step("cargo test --package mountgate --test integration");
        let mut test = cargo();
        test.args(["test", "--locked", "--package", "mountgate", "--test", "integration", "--"]).args(arguments);
        return crate::run(&mut test);
    }
    if setup::has_tool("g++") {
        parsers::search(parsers::Bound::Short, false, None)?;
    } else {
        step("SKIPPED: the parsers aren't fuzzed, since libFuzzer is built with g++, which isn't there");
    }
    if setup::is_root()? && elsewhere::IS_POSSIBLE {
        elsewhere::compare_one_plugin(&crate::mountgate()?, 300)?;
    } else {
        step("SKIPPED: no search is made on another machine, which takes root and x86_64");
    }
    // Two calls: in one, all members would agree on features, and wasmtime would be compiled again.
    step("cargo test --workspace --exclude mountgate");
    crate::run(cargo().args(["test", "--locked", "--workspace", "--exclude", "mountgate"]))?;
    step("cargo test --package mountgate");
    crate::run(cargo().args(["test", "--locked", "--package", "mountgate"]))
}
