//! `mountgate mount`

use clap::Args;

use super::carry_out::carry_out;
use super::global::Global;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::model::options::{MountOption, Options};
use crate::model::own_options::MKDIR;
use crate::model::refusals::Refusals;
use crate::model::request::{MountRequest, Operation, Propagation, PropagationType};

/// Mount, bind, remount or move on the host, if the policies agree
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mountgate mount -t tmpfs -o size=64m tmpfs /mnt/scratch
  mountgate mount --bind -o ro /srv/data /mnt/data
  mountgate mount -o remount,ro /mnt/data
  mountgate mount --make-rslave /mnt --json

Exit status: 0 mounted, 2 refused by the host itself, 3 denied, 4 a policy failed, 32 the mount failed")]
pub(super) struct MountArgs {
    #[command(flatten)]
    pub(super) request: MountRequestArgs,
    /// Print the host's mount table afterwards
    #[arg(long)]
    show_table: bool,
}

/// A request in the words of mount(8)
#[derive(Debug, Args)]
pub(super) struct MountRequestArgs {
    /// File system type
    #[arg(short = 't', long = "types", value_name = "TYPE")]
    fstype: Option<String>,
    /// Options, separated by commas; may be given more than once
    #[arg(short, long, value_name = "OPTS", allow_hyphen_values = true)]
    options: Vec<String>,
    /// Read-only, as -o ro
    #[arg(short, long)]
    read_only: bool,
    /// Read-write, as -o rw
    #[arg(short = 'w', long, visible_alias = "rw")]
    read_write: bool,
    /// Make the directories of TARGET that aren't there, as -o X-mount.mkdir
    #[arg(short, long, value_name = "MODE", num_args = 0..=1, require_equals = true)]
    mkdir: Option<Option<String>>,
    #[command(flatten)]
    operation: OperationArgs,
    #[command(flatten)]
    propagation: PropagationArgs,
    /// SOURCE, by its flag
    #[arg(long = "source", value_name = "SOURCE", hide_short_help = true)]
    named_source: Option<String>,
    /// TARGET, by its flag
    #[arg(long = "target", value_name = "TARGET", hide_short_help = true)]
    named_target: Option<String>,
    /// SOURCE and TARGET; TARGET alone where there is no source
    #[arg(required_unless_present = "named_target", num_args = 1..=2, value_names = ["SOURCE", "TARGET"])]
    paths: Vec<String>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct OperationArgs {
    /// Make SOURCE visible at TARGET as well
    #[arg(short = 'B', long)]
    bind: bool,
    /// Make SOURCE visible at TARGET with all mounts below it
    #[arg(short = 'R', long)]
    rbind: bool,
    /// Move the mount on SOURCE to TARGET
    #[arg(short = 'M', long = "move")]
    moves: bool,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag of mount(8)")]
struct PropagationArgs {
    /// Change the propagation of TARGET, or of what is mounted there
    #[arg(long)]
    make_shared: bool,
    #[arg(long, hide_short_help = true)]
    make_slave: bool,
    #[arg(long, hide_short_help = true)]
    make_private: bool,
    #[arg(long, hide_short_help = true)]
    make_unbindable: bool,
    #[arg(long, hide_short_help = true)]
    make_rshared: bool,
    #[arg(long, hide_short_help = true)]
    make_rslave: bool,
    #[arg(long, hide_short_help = true)]
    make_rprivate: bool,
    #[arg(long, hide_short_help = true)]
    make_runbindable: bool,
}

impl OperationArgs {
    fn operation(&self) -> Option<Operation> {
        let flags = [
            (self.bind, Operation::Bind { recursive: false }),
            (self.rbind, Operation::Bind { recursive: true }),
            (self.moves, Operation::Move),
        ];
        flags.into_iter().find_map(|(given, operation)| given.then_some(operation))
    }
}

impl PropagationArgs {
    fn propagation(&self) -> Option<Propagation> {
        let flags = [
            (self.make_shared, PropagationType::Shared, false),
            (self.make_slave, PropagationType::Slave, false),
            (self.make_private, PropagationType::Private, false),
            (self.make_unbindable, PropagationType::Unbindable, false),
            (self.make_rshared, PropagationType::Shared, true),
            (self.make_rslave, PropagationType::Slave, true),
            (self.make_rprivate, PropagationType::Private, true),
            (self.make_runbindable, PropagationType::Unbindable, true),
        ];
        flags.into_iter().find_map(|(given, kind, recursive)| given.then_some(Propagation { kind, recursive }))
    }
}

impl MountRequestArgs {
    /// The request that the flags stand for. `-o bind`, `rbind`, `move` and `remount` are operations, as in mount(8).
    pub(super) fn request(&self) -> Result<MountRequest, Error> {
        let mut options = Options::parse(&self.options.join(","));
        if self.read_only {
            options.push(MountOption::flag("ro"));
        }
        // Whatever their order: who asks for both gets less.
        if self.read_write {
            options = [MountOption::flag("rw")].into_iter().chain(options.iter().cloned()).collect();
        }
        if let Some(mode) = &self.mkdir {
            options.push(MountOption { name: MKDIR.to_owned(), value: mode.clone() });
        }
        let bind = options.take("bind");
        let rbind = options.take("rbind");
        let moves = options.take("move");
        let remount = options.take("remount");
        let worded = match (remount, bind, rbind, moves) {
            (false, false, false, false) => None,
            (true, bind, rbind, false) => Some(Operation::Remount { mount_point_only: bind || rbind }),
            (false, true, false, false) => Some(Operation::Bind { recursive: false }),
            (false, _, true, false) => Some(Operation::Bind { recursive: true }),
            (false, false, false, true) => Some(Operation::Move),
            _ => return Err(contradiction()),
        };
        let asked = match (self.operation.operation(), worded) {
            // Of a bind, as with mount(8).
            (Some(Operation::Bind { .. }), Some(Operation::Remount { .. })) => {
                Some(Operation::Remount { mount_point_only: true })
            }
            (Some(one), Some(other)) if one != other => return Err(contradiction()),
            (Some(operation), _) | (None, Some(operation)) => Some(operation),
            (None, None) => None,
        };
        let (source, target) = self.ends()?;
        // A propagation that comes with a type or a source is that of a new mount. `none` is mount(8)'s word for no source.
        let propagation = self.propagation.propagation();
        let is_change = propagation.is_some() && self.fstype.is_none() && asked.is_none();
        let source = source.filter(|source| !is_change || source != "none");
        let asked = asked.or((self.fstype.is_some() || source.is_some()).then_some(Operation::Mount));
        let operation = match (asked, propagation) {
            (Some(made @ (Operation::Mount | Operation::Bind { .. })), Some(propagation)) => {
                let word = if propagation.recursive { "r" } else { "" }.to_owned() + propagation.kind.name();
                options.push(MountOption { name: word, value: None });
                made
            }
            (Some(_), Some(_)) => return Err(contradiction()),
            (None, Some(propagation)) => Operation::SetPropagation(propagation),
            (asked, None) => asked.unwrap_or(Operation::Mount),
        };
        // As mount(8): what is bound or changed has its type, and a remount its source.
        let fstype = self.fstype.clone().filter(|_| operation == Operation::Mount);
        let source = source.filter(|_| !matches!(operation, Operation::Remount { .. }));
        Ok(MountRequest { operation, source, target, fstype, options })
    }
}

impl MountRequestArgs {
    /// The source and the target, each by its flag or by its place.
    fn ends(&self) -> Result<(Option<String>, String), Error> {
        let (source, target) = (self.named_source.clone(), self.named_target.clone());
        match (source, target, self.paths.as_slice()) {
            (None, None, [source, target]) => Ok((Some(source.clone()), target.clone())),
            (source, None, [target]) => Ok((source, target.clone())),
            (None, Some(target), [source]) => Ok((Some(source.clone()), target)),
            (source, Some(target), []) => Ok((source, target)),
            (None, None, [_, _, more, ..]) => {
                let words = format!("{more:?} is one path too many");
                Err(Refusals::one("SOURCE and TARGET", words, Some("give SOURCE and TARGET, in this order")).into())
            }
            _ => {
                let (words, hint) = ("it's given twice".to_owned(), Some("give SOURCE and TARGET once each"));
                Err(Refusals::one("--source or --target", words, hint).into())
            }
        }
    }
}

fn contradiction() -> Error {
    let hint = Some("one request does one thing: use two requests");
    Refusals::one("-o", "the flags and options ask for different operations".to_owned(), hint).into()
}

pub(super) fn run(global: &Global, args: &MountArgs) -> anyhow::Result<ExitStatus> {
    carry_out(global, args.request.request()?, args.show_table)
}
