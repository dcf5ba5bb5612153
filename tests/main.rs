//! The program, its policies and real namespaces, tested together. One binary, so that it's linked once.

#![expect(clippy::disallowed_methods, reason = "tests start programs and mount")]

#[macro_use]
mod support;

mod aliases;
mod audit;
mod author;
mod callers;
mod claims;
mod cli;
mod coverage;
mod deadlines;
mod diff;
mod directory;
mod drop_in;
mod faults;
mod frozen;
mod fuzz;
mod gated;
mod hostile;
mod images;
mod inside;
mod lent;
mod list;
mod misbehaving;
mod names;
mod operations;
mod parsers;
mod pinning;
mod places;
mod policy_test;
mod race;
mod registry;
mod resolver;
mod sound;
mod sources;
mod systemd;
mod tracer;
mod unmounts;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((inside, job)) = arguments.split_first()
        && inside == "inside"
    {
        if let Err(error) = inside::main(job) {
            eprintln!("error: {error:#}");
            std::process::exit(1);
        }
        return;
    }
    let mut arguments = Arguments::from_args();
    if !arguments.list
        && let Err(error) = support::compile_plugins()
    {
        eprintln!("error: the plugins can't be compiled: {error:#}");
        std::process::exit(1);
    }
    // Each test starts processes of its own.
    arguments.test_threads.get_or_insert(2);
    let conclusion = libtest_mimic::run(&arguments, all_tests());
    // Exiting drops no static.
    let _ = std::fs::remove_dir_all(support::cache());
    conclusion.exit();
}

/// Every test of this program.
fn all_tests() -> Vec<Trial> {
    let groups = [
        cli::tests(),
        diff::tests(),
        directory::tests(),
        misbehaving::tests(),
        coverage::tests(),
        fuzz::tests(),
        gated::tests(),
        images::tests(),
        names::tests(),
        list::tests(),
        operations::tests(),
        parsers::tests(),
        sound::tests(),
        sources::tests(),
        deadlines::tests(),
        systemd::tests(),
        faults::tests(),
        frozen::tests(),
        pinning::tests(),
        places::tests(),
        policy_test::tests(),
        registry::tests(),
        resolver::tests(),
        aliases::tests(),
        author::tests(),
        audit::tests(),
        lent::tests(),
        drop_in::tests(),
        unmounts::tests(),
        claims::tests(),
    ];
    groups.into_iter().flatten().collect()
}
