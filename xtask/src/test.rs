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
    // Two calls: in one, all members would agree on features, and wasmtime would be compiled again.
    step("cargo test --workspace --exclude mountgate");
    crate::run(cargo().args(["test", "--locked", "--workspace", "--exclude", "mountgate"]))?;
    step("cargo test --package mountgate");
    crate::run(cargo().args(["test", "--locked", "--package", "mountgate"]))?;
    // CI skips nothing.
    let is_ci = std::env::var_os("CI").is_some();
    let is_there = setup::is_root()? && elsewhere::IS_POSSIBLE;
    let why = match is_there.then(elsewhere::set_up) {
        Some(Ok(_)) => return elsewhere::compare_one_plugin(&crate::mountgate()?, 300),
        Some(Err(error)) if is_ci => return Err(error),
        Some(Err(error)) => format!("{error:#}"),
        None => "that takes root and x86_64".to_owned(),
    };
    step(&format!("SKIPPED: no search is made on another machine: {why}"));
    Ok(())
}
