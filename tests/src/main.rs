//! The program, its policies and real namespaces, tested together. One binary, so that it's linked once.

mod cli;
mod deadlines;
mod directory;
mod faults;
mod fuzz;
mod gated;
mod inside;
mod list;
mod misbehaving;
mod operations;
mod places;
mod race;
mod sound;
mod support;
mod systemd;
mod tracer;

use libtest_mimic::Arguments;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((inside, job)) = words.split_first()
        && inside == "inside"
    {
        if let Err(error) = inside::main(job) {
            eprintln!("error: {error:#}");
            std::process::exit(1);
        }
        return;
    }
    let mut arguments = Arguments::from_args();
    // Each test starts processes of its own.
    arguments.test_threads.get_or_insert(2);
    let groups = [
        cli::tests(),
        directory::tests(),
        misbehaving::tests(),
        fuzz::tests(),
        gated::tests(),
        list::tests(),
        operations::tests(),
        sound::tests(),
        deadlines::tests(),
        systemd::tests(),
        faults::tests(),
        places::tests(),
    ];
    let tests = groups.into_iter().flatten().collect();
    libtest_mimic::run(&arguments, tests).exit();
}
