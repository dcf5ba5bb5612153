//! The program, its policies and real namespaces, tested together. One binary, so that it's linked once.

mod directory;
mod fuzz;
mod gated;
mod list;
mod misbehaving;
mod support;

use libtest_mimic::Arguments;

fn main() {
    let mut arguments = Arguments::from_args();
    // Each test starts processes of its own.
    arguments.test_threads.get_or_insert(2);
    let groups = [directory::tests(), misbehaving::tests(), fuzz::tests(), gated::tests(), list::tests()];
    let tests = groups.into_iter().flatten().collect();
    libtest_mimic::run(&arguments, tests).exit();
}
