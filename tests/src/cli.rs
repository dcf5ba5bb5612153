//! The command line by example: each file in `tests/cli` holds commands with what they print and how they end.
//! `cargo xtask test cli --bless` writes what they print now.

use anyhow::Result;
use libtest_mimic::Trial;

use crate::support::{plain, program, root};

pub(crate) fn tests() -> Vec<Trial> {
    vec![plain("cli::the_examples_print_what_they_say", the_examples_print_what_they_say)]
}

fn the_examples_print_what_they_say() -> Result<()> {
    trycmd::TestCases::new()
        .register_bin("mountgate", program()?)
        .env("MOUNTGATE_CACHE", "")
        .env("MOUNTGATE_POLICIES", root().join("policies/baseline").display().to_string())
        .case(root().join("tests/cli/*.trycmd"))
        .run();
    Ok(())
}
