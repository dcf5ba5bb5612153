//! `mountgate mount`

use clap::Args;

use super::carry_out::carry_out;
use super::global::Global;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::model::options::{MountOption, Options};
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
    #[arg(short = 'w', long, visible_alias = "rw", conflicts_with = "read_only")]
    read_write: bool,
    #[command(flatten)]
    operation: OperationArgs,
    /// SOURCE and TARGET; TARGET alone where there is no source
    #[arg(required = true, num_args = 1..=2, value_names = ["SOURCE", "TARGET"])]
    paths: Vec<String>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag of mount(8)")]
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
    /// Change the propagation of TARGET
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
        let propagation = |kind, recursive| Operation::SetPropagation(Propagation { kind, recursive });
        let flags = [
            (self.bind, Operation::Bind { recursive: false }),
            (self.rbind, Operation::Bind { recursive: true }),
            (self.moves, Operation::Move),
            (self.make_shared, propagation(PropagationType::Shared, false)),
            (self.make_slave, propagation(PropagationType::Slave, false)),
            (self.make_private, propagation(PropagationType::Private, false)),
            (self.make_unbindable, propagation(PropagationType::Unbindable, false)),
            (self.make_rshared, propagation(PropagationType::Shared, true)),
            (self.make_rslave, propagation(PropagationType::Slave, true)),
            (self.make_rprivate, propagation(PropagationType::Private, true)),
            (self.make_runbindable, propagation(PropagationType::Unbindable, true)),
        ];
        flags.into_iter().find_map(|(given, operation)| given.then_some(operation))
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
        let bind = options.take("bind");
        let rbind = options.take("rbind");
        let moves = options.take("move");
        let remount = options.take("remount");
        let worded = match (remount, bind, rbind, moves) {
            (false, false, false, false) => None,
            (true, bind, false, false) => Some(Operation::Remount { mount_point_only: bind }),
            (false, true, false, false) => Some(Operation::Bind { recursive: false }),
            (false, _, true, false) => Some(Operation::Bind { recursive: true }),
            (false, false, false, true) => Some(Operation::Move),
            _ => return Err(contradiction()),
        };
        let operation = match (self.operation.operation(), worded) {
            (Some(one), Some(other)) if one != other => return Err(contradiction()),
            (Some(operation), _) | (None, Some(operation)) => operation,
            (None, None) => Operation::Mount,
        };
        // As mount(8): what is bound or changed has its type, and a remount its source.
        let fstype = self.fstype.clone().filter(|_| operation == Operation::Mount);
        let (source, target) = match self.paths.as_slice() {
            [_, target] if matches!(operation, Operation::Remount { .. }) => (None, target.clone()),
            [source, target] => (Some(source.clone()), target.clone()),
            paths => (None, paths.first().cloned().unwrap_or_default()),
        };
        Ok(MountRequest { operation, source, target, fstype, options })
    }
}

fn contradiction() -> Error {
    let hint = Some("one request does one thing: use two requests");
    Refusals::one("-o", "the flags and options ask for different operations".to_owned(), hint).into()
}

pub(super) fn run(global: &Global, args: &MountArgs) -> anyhow::Result<ExitStatus> {
    carry_out(global, args.request.request()?, args.show_table)
}
