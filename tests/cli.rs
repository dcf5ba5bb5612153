//! The command line by example: each file in `tests/cli` holds commands with what they print and how they end.
//! With `TRYCMD=overwrite` the test writes what they print now.

use anyhow::Result;

use crate::support::{cache, program, root};

tests! {
    plain the_examples_print_what_they_say,
}

fn the_examples_print_what_they_say() -> Result<()> {
    trycmd::TestCases::new()
        .register_bin("mountgate", program())
        .env("MOUNTGATE_CACHE", cache().display().to_string())
        .env("MOUNTGATE_POLICIES", root().join("policies/baseline").display().to_string())
        .case(root().join("tests/cli/*.trycmd"))
        .run();
    Ok(())
}
