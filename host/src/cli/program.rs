//! The program: reads the command line, runs one subcommand, and ends with its status.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::global::Global;
use super::inherited::put_right;
use super::lent::{self, Choices};
use super::log::start_log;
use super::output::{arguments_for_people, is_broken_pipe, print_error, print_usage_error, report_error};
use super::{check, completions, drop_in, fuzz, list, man, mount, plugin, policy, replay, umount};
use crate::exit::ExitStatus;
use crate::policy::engine::compiler;

/// Runs mounts on a host on behalf of others, and lets WebAssembly policy plugins decide which.
#[derive(Debug, Parser)]
#[command(name = "mountgate", version, after_help = ExitStatus::HELP, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Mount(mount::MountArgs),
    Umount(umount::UmountArgs),
    Check(check::CheckArgs),
    List(list::ListArgs),
    Plugin(plugin::PluginArgs),
    Policy(policy::PolicyArgs),
    Replay(replay::ReplayArgs),
    Fuzz(fuzz::FuzzArgs),
    FuzzTarget(fuzz::target::FuzzTargetArgs),
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    Man(man::ManArgs),
}

/// Runs the program.
pub fn main() -> ! {
    if std::env::args_os().next().is_some_and(|name| name == compiler::NAME) {
        // Code that was compiled with lent rights is only for the one who lent them.
        let is_ours = lent::how().is_none() || is_started_by_this_program();
        std::process::exit(if is_ours { compiler::main(&fuzz::guides::REWRITINGS) } else { ExitStatus::Usage as i32 });
    }
    if let Err(message) = put_right() {
        print_error(&message, &[], None);
        std::process::exit(ExitStatus::HostFailed as i32);
    }
    compiler::compile_apart();
    if let Some(status) = std::env::args_os().next().and_then(|name| drop_in::run_by_name(&name)) {
        std::process::exit(status);
    }
    let cli = parse_one_command(std::env::args_os().collect()).unwrap_or_else(parse_all_commands);
    cli.global.color_choice().write_global();
    start_log(cli.global.verbose);
    let status = match run(&cli) {
        Ok(status) => status,
        // The reader of the output is gone.
        Err(error) if is_broken_pipe(&error) => ExitStatus::Done,
        Err(error) => report_error(&error, cli.global.json),
    };
    let _ = io::stdout().flush();
    // Nothing is left to tidy up, and taking the sandbox apart piece by piece takes time.
    std::process::exit(status as i32)
}

/// Whether the process that started this one runs this program.
fn is_started_by_this_program() -> bool {
    let program = |process: &str| {
        let found = rustix::fs::stat(format!("/proc/{process}/exe")).ok()?;
        Some((found.st_dev, found.st_ino))
    };
    let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().to_string());
    program("self").is_some() && parent.is_some_and(|parent| program(&parent) == program("self"))
}

/// Adds a command's arguments to a definition.
type Define = fn(clap::Command) -> clap::Command;
/// Makes a command of what was given for its arguments.
type Make = fn(&mut ArgMatches) -> Result<Command, clap::Error>;

/// The commands that are parsed alone.
const ALONE: [(&str, Define, Make); 4] = [
    ("mount", mount::MountArgs::augment_args, |given| Ok(Command::Mount(FromArgMatches::from_arg_matches_mut(given)?))),
    ("umount", umount::UmountArgs::augment_args, |given| {
        Ok(Command::Umount(FromArgMatches::from_arg_matches_mut(given)?))
    }),
    ("check", check::CheckArgs::augment_args, |given| Ok(Command::Check(FromArgMatches::from_arg_matches_mut(given)?))),
    ("list", list::ListArgs::augment_args, |given| Ok(Command::List(FromArgMatches::from_arg_matches_mut(given)?))),
];

/// Parses the command line with the definition of one command, because building that of all commands takes as long as a
/// decision. Its arguments stand beside the flags that every command takes: to hand these down to a command takes time too. Returns `None`
/// for help and for mistakes: then the caller parses with all commands.
fn parse_one_command(mut arguments: Vec<OsString>) -> Option<Cli> {
    let bare = clap::Command::new("mountgate").disable_help_flag(true).disable_help_subcommand(true);
    let program = Global::augment_args(bare);
    let word = arguments.remove(first_word(&program, &arguments)?);
    let (_, define, make) = ALONE.iter().find(|(name, ..)| word == *name)?;
    let mut program = define(program);
    let mut given = program.try_get_matches_from_mut(arguments).ok()?;
    let global = Global::from_arg_matches_mut(&mut given).ok()?;
    let command = make(&mut given).ok()?;
    if matches!(&command, Command::Check(args) if args.is_empty()) {
        return None;
    }
    // The process ends soon: taking these apart piece by piece takes time.
    std::mem::forget((program, given));
    Some(Cli { global, command })
}

/// Where the first word is that is neither a flag of the program nor a flag's value. `None` where something else is before it, or a
/// flag that may be given again behind it: of these, only those behind the command would count.
fn first_word(program: &clap::Command, arguments: &[OsString]) -> Option<usize> {
    let mut at = 1;
    loop {
        let word = arguments.get(at)?.to_str()?;
        if !word.starts_with('-') {
            return Some(at);
        }
        let word = word.strip_prefix("--")?;
        let (name, value) = word.split_once('=').unzip();
        let flag = program.get_arguments().find(|flag| flag.get_long() == Some(name.unwrap_or(word)))?;
        at += match (flag.get_action(), value) {
            (ArgAction::Set, Some(_)) | (ArgAction::SetTrue, None) => 1,
            (ArgAction::Set, None) => 2,
            _ => return None,
        };
    }
}

/// Parses the command line with the definition of all commands. Ends the program for help and for mistakes.
fn parse_all_commands() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        let as_json = std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json");
        // What is wrong with the arguments is the same where they are written for people.
        let error = Cli::try_parse_from(arguments_for_people()).err().unwrap_or(error);
        if error.use_stderr() && as_json {
            print_usage_error(&error);
        }
        error.exit()
    })
}

/// What the command line has that decides about requests.
fn choices(cli: &Cli) -> Choices {
    let mut choices = cli.global.choices();
    match &cli.command {
        Command::Plugin(_) => choices.note("plugin", true),
        Command::Policy(_) => choices.note("policy", true),
        Command::Replay(_) => choices.note("replay", true),
        Command::Fuzz(_) => choices.note("fuzz", true),
        Command::FuzzTarget(_) => choices.note("fuzz-target", true),
        Command::List(args) => choices.note("--file", args.reads_file()),
        Command::Check(args) => choices.note("--request", args.reads_file()),
        Command::Man(_) => choices.note("man", true),
        Command::Completions(_) => choices.note("completions", true),
        Command::Mount(_) | Command::Umount(_) => {}
    }
    choices
}

fn run(cli: &Cli) -> anyhow::Result<ExitStatus> {
    choices(cli).check()?;
    let global = &cli.global;
    match &cli.command {
        Command::Mount(args) => mount::run(global, args),
        Command::Umount(args) => umount::run(global, args),
        Command::Check(args) => check::run(global, args),
        Command::List(args) => list::run(global, args),
        Command::Plugin(args) => plugin::run(global, args),
        Command::Policy(args) => policy::run(global, args),
        Command::Replay(args) => replay::run(global, args),
        Command::Fuzz(args) => fuzz::run(global, args),
        Command::FuzzTarget(args) => fuzz::target::run(global, args),
        Command::Completions(args) => completions::run(args, Cli::command()),
        Command::Man(args) => man::run(args, Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_defined_soundly() {
        Cli::command().debug_assert();
        for (_, define, _) in ALONE {
            define(Global::augment_args(clap::Command::new("mountgate"))).debug_assert();
        }
    }

    #[test]
    fn what_is_parsed_alone_is_what_all_commands_would_make_of_it() {
        let words: Vec<&str> = "mount umount check list policy -t tmpfs /mnt -o ro --bind --json --policies --policies=/p --host-root /h \
            --label a=1 --label=b=2 -v --verbose --color never --color=always --sandbox --cache --cache= --audit --trusted-keys -- -R --all \
            --only --file --request -l"
            .split_whitespace()
            .collect();
        let mut random = fastrand::Rng::with_seed(1);
        let mut alone = 0;
        for _ in 0..20_000 {
            let mut line = vec!["mountgate"];
            line.extend((0..random.usize(..4)).map(|_| words[random.usize(..words.len())]));
            line.push(words[random.usize(..4)]);
            line.extend((0..random.usize(..6)).map(|_| words[random.usize(..words.len())]));
            if let Some(one) = parse_one_command(line.iter().map(OsString::from).collect()) {
                let all = Cli::try_parse_from(&line).map(|all| format!("{all:?}"));
                assert_eq!(Some(format!("{one:?}")), all.ok(), "{line:?}");
                alone += 1;
            }
        }
        assert!(alone > 100, "{alone}");
    }

    #[test]
    fn the_command_is_the_first_word_that_belongs_to_no_flag() {
        let program = Global::augment_args(clap::Command::new("mountgate"));
        let first = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
            first_word(&program, &words)
        };
        assert_eq!(first("mountgate mount -t tmpfs tmpfs /mnt"), Some(1));
        assert_eq!(first("mountgate --policies mount --json check mount"), Some(4));
        assert_eq!(first("mountgate --policies=mount check mount"), Some(2));
        let others = [
            "",
            " --json",
            " -v mount",
            " -- mount",
            " --polic mount check",
            " --target=/mnt mount",
            " --json=x mount",
        ];
        // The full parser takes the second label alone.
        let others = others.into_iter().chain([" --label a=1 mount --label b=2", " --verbose mount -v"]);
        for line in others.map(|line| format!("mountgate{line}")) {
            assert_eq!(first(&line), None, "{line}");
        }
    }
}
