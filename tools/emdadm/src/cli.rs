// SPDX-License-Identifier: GPL-2.0

//! The command line.

use crate::size::Size;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Makes, starts, shows and watches EMD arrays.
#[derive(Parser)]
#[command(name = "emdadm", version, propagate_version = true, after_help = AFTER)]
pub struct Cli {
    /// Answer in JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const AFTER: &str = "\
Targets: an array is emd0, /dev/emd0, its id or its name; a set is its id or its name.
Sizes: bytes, or with K, M, G, T (1024 each), or s for sectors of 512 bytes.

Exit codes:
  0  done
  1  refused by the kernel, or failed; the reason is printed
  2  wrong usage
  3  done, but not all is well (with --check: something is partially optimal, degraded, failed, read-only, damaged or not
     started, or places do not agree)
  4  not there: module not loaded, no such array, set or device, no metadata found
  5  time ran out (--timeout)

Examples:
  emdadm create --format ddf --level raid5 --name data /dev/sd[b-e]
  emdadm scan
  emdadm list
  emdadm examine --json disk1.img disk2.img
  emdadm wait emd0";

// Of commands that share their arguments with others, or have none.
const FORMATS_EXAMPLES: &str = "\
Examples:
  emdadm formats           levels, layouts, chunks, names and spares of each format
  emdadm formats --json";
const FAIL_EXAMPLES: &str = "\
Examples:
  emdadm fail emd0 /dev/sdc             a spare takes its place, if there is one
  emdadm fail --force emd0 /dev/sdc     even if the array loses data by it";
const PAUSE_EXAMPLES: &str = "\
Examples:
  emdadm pause emd0                     goes on with: emdadm resume emd0";
const RESUME_EXAMPLES: &str = "\
Examples:
  emdadm resume emd0
  emdadm wait emd0                      and with a progress bar until it is done";
const CANCEL_EXAMPLES: &str = "\
Examples:
  emdadm cancel emd0
  emdadm show --mismatches emd0         what the check found until then";

/// The subcommands.
#[derive(Subcommand)]
pub enum Command {
    /// Make a set, or a volume in a set, or both, and start it
    Create(CreateArgs),
    /// Look for sets on disks and start their arrays
    #[command(visible_alias = "assemble")]
    Scan(ScanArgs),
    /// Start what is stopped of a set
    Start(StartArgs),
    /// List sets and arrays in short
    List(ListArgs),
    /// Show sets and arrays in full
    Show(ShowArgs),
    /// Say what metadata image files or disks carry; needs neither module nor root
    Examine(ExamineArgs),
    /// Show the formats and what they can express
    #[command(after_help = FORMATS_EXAMPLES)]
    Formats,
    /// Add disks to a set; they fill lost members' places
    Add(AddArgs),
    /// Treat disks as failed
    #[command(after_help = FAIL_EXAMPLES)]
    Fail(FailArgs),
    /// Take disks out of a set
    Remove(RemoveArgs),
    /// Make disks spares, or make them none
    Spare(SpareArgs),
    /// Stop arrays
    Stop(StopArgs),
    /// Delete a volume, or a whole set from its disks
    Delete(DeleteArgs),
    /// Give a volume a new name
    Rename(RenameArgs),
    /// Change what is done so that a crash in the middle of a write takes nothing with it (levels with parity)
    Policy(PolicyArgs),
    /// Read everything and compare; places that do not agree: `emdadm show --mismatches`
    Check(TaskArgs),
    /// Compare, and put right what does not agree
    Repair(TaskArgs),
    /// Make redundancy agree with the data, everywhere
    Resync(TaskArgs),
    /// Hold the task that is at work
    #[command(after_help = PAUSE_EXAMPLES)]
    Pause(TargetsArgs),
    /// Let a held task go on
    #[command(after_help = RESUME_EXAMPLES)]
    Resume(TargetsArgs),
    /// End a check or repair
    #[command(after_help = CANCEL_EXAMPLES)]
    Cancel(TargetsArgs),
    /// Limit how fast tasks go
    Limit(LimitArgs),
    /// Print events as they come
    Monitor(MonitorArgs),
    /// Wait until no rebuild, resync or check is running
    Wait(WaitArgs),
}

/// What may be asked for, or asked not to be.
#[derive(Clone, Copy, ValueEnum)]
pub enum Choice {
    /// It is to be there
    Yes,
    /// It is not to be there
    No,
}

/// `create`
#[derive(Args)]
#[command(
    override_usage = "emdadm create [OPTIONS] --format <FORMAT> <DEVICE>...\n       emdadm create [OPTIONS] --set <SET> --level <LEVEL> [DEVICE]..."
)]
#[command(after_help = "\
Examples:
  emdadm create --format ddf --level raid1 --name boot /dev/sdb /dev/sdc
  emdadm create --format ddf --level raid5 --chunk 64K --size 100G --name data --spare /dev/sdf /dev/sd[b-e]
  emdadm create --format ddf --level raid50 --spans 2 --name fast /dev/sd[b-g]
  emdadm create --set shelf1 --level raid0 --name scratch     (all disks of the set that are no spares)
  emdadm create --format ddf --level raid5 --name d /dev/sdb missing /dev/sdd   (degraded)
  emdadm create --format ddf --level raid6 --name ssd --zero /dev/nvme[0-5]n1   (redundant at once, on disks that zero themselves)
  emdadm create --format md-1.2 --level raid5 --name small --regions yes /dev/sd[b-d]   (with a bitmap)
  emdadm create --format ddf --set-name shelf1 /dev/sd[b-e]   (a set without a volume)")]
pub struct CreateArgs {
    /// Metadata format (see `emdadm formats`); not needed with --set
    #[arg(long, short = 'e', required_unless_present = "set")]
    pub format: Option<String>,
    /// Existing set to make the volume in: id, name, or one of its arrays
    #[arg(long, conflicts_with = "set_name")]
    pub set: Option<String>,
    /// Name of the new set
    #[arg(long)]
    pub set_name: Option<String>,
    /// Name of the volume
    #[arg(long, short, requires = "level")]
    pub name: Option<String>,
    /// Level (see `emdadm formats`; the number alone will do); without it only a set is made
    #[arg(long, short)]
    pub level: Option<String>,
    /// Layout; the format's usual one without it
    #[arg(long, requires = "level")]
    pub layout: Option<String>,
    /// Chunk; the format's usual one without it
    #[arg(long, short, requires = "level")]
    pub chunk: Option<Size>,
    /// Size that users see; all that fits without it
    #[arg(long, short, requires = "level")]
    pub size: Option<Size>,
    /// Spans of a two-level volume, striped over them; raid50 and raid60 have 2 without it
    #[arg(long, requires = "level")]
    pub spans: Option<u16>,
    /// A disk to keep as spare (may be given several times)
    #[arg(long, value_name = "DEVICE")]
    pub spare: Vec<PathBuf>,
    /// Take the members' redundancy as right; no resync
    #[arg(long, requires = "level")]
    pub assume_clean: bool,
    /// Have the disks fill themselves with zeroes, those that can; no resync. May take hours
    #[arg(long, requires = "level", conflicts_with = "assume_clean")]
    pub zero: bool,
    /// With a log that closes the write hole (levels with parity): `emdadm policy --help`
    #[arg(long, requires = "level")]
    pub log: bool,
    /// Whether the metadata records which regions are being written (md's bitmap), so that only these are resynced after a crash;
    /// as is usual in the format without it
    #[arg(long, requires = "level", value_enum)]
    pub regions: Option<Choice>,
    /// Also on disks that carry something already
    #[arg(long)]
    pub force: bool,
    /// Disks in order; "missing" leaves a place empty
    #[arg(value_name = "DEVICE")]
    pub devices: Vec<PathBuf>,
}

/// `scan`
#[derive(Args)]
#[command(after_help = "\
Examples:
  emdadm scan                          every block device
  emdadm scan --dry-run                say what would be started
  emdadm scan --degraded /dev/sd[b-d]  the sets of these only, even if a member is missing

Sets of which no disk is named are left alone. Without devices what somebody stopped is started again too.")]
pub struct ScanArgs {
    /// Say what would be done and do nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Start arrays with members missing, as long as no data is
    #[arg(long)]
    pub degraded: bool,
    /// Start also what is both dirty and degraded, or striped over disks that were lost to others: some data may be wrong
    #[arg(long)]
    pub force: bool,
    /// Only the set with this id
    #[arg(long, value_name = "ID")]
    pub set: Option<String>,
    /// Disks to look at, to start the sets they are of; every block device without any
    #[arg(value_name = "DEVICE")]
    pub devices: Vec<PathBuf>,
}

/// `start`
#[derive(Args)]
#[command(after_help = "\
Examples:
  emdadm start data                    after: emdadm stop emd0
  emdadm start --degraded data         even if a member is missing

A set that the module has not seen yet is found with: emdadm scan")]
pub struct StartArgs {
    /// Start arrays with members missing, as long as no data is
    #[arg(long)]
    pub degraded: bool,
    /// Start also what is both dirty and degraded, or striped over disks that were lost to others: some data may be wrong
    #[arg(long)]
    pub force: bool,
    /// Array or set; of an array, all of its set is started
    pub target: String,
}

/// `list`
#[derive(Args)]
#[command(after_help = "\
Examples:
  emdadm list                one line an array
  emdadm list --json
  emdadm list --check        exit code 3 unless all is well: for scripts")]
pub struct ListArgs {
    /// Exit with 3 when an array is not optimal, read-only or not started (of bad sectors only `show` knows)
    #[arg(long)]
    pub check: bool,
}

/// `show`
#[derive(Args)]
#[command(after_help = "\
Examples:
  emdadm show                everything
  emdadm show emd0           the set of /dev/emd0
  emdadm show --check emd0   exit code 3 unless all of that set is well
  emdadm show --mismatches emd0   and the places that did not agree, after a check or repair")]
pub struct ShowArgs {
    /// Exit with 3 when something shown is not optimal, read-only or not started, or a disk has bad sectors
    #[arg(long)]
    pub check: bool,
    /// List all places that did not agree at the last check, repair or resync. They are kept in memory: a restart forgets them
    #[arg(long)]
    pub mismatches: bool,
    /// Arrays or sets; all without any
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
}

/// `examine`
#[derive(Args)]
#[command(after_help = "\
Examples:
  emdadm examine /dev/sdb
  emdadm examine disk*.img
  emdadm examine --sector-size 4096 disk.img
  emdadm examine a.img=WD-1234 b.img=WD-5678    with the disks' serial numbers")]
pub struct ExamineArgs {
    /// Logical sector size of image files in bytes
    #[arg(long, default_value_t = 512, value_parser = sector_size)]
    pub sector_size: u32,
    /// Exit with 3 when metadata is damaged, a volume not optimal, or a disk has bad sectors
    #[arg(long)]
    pub check: bool,
    /// Image files, with their disks' serial numbers where the metadata goes by them, or block devices
    #[arg(value_name = "FILE[=SERIAL]|DEVICE", required = true)]
    pub paths: Vec<PathBuf>,
}

fn sector_size(text: &str) -> Result<u32, String> {
    match text {
        "512" => Ok(512),
        "4096" | "4K" | "4k" => Ok(4096),
        _ => Err("a disk's sectors have 512 or 4096 bytes".into()),
    }
}

/// `add`
#[derive(Args)]
#[command(after_help = "\
Examples:
  emdadm add emd0 /dev/sdg              fills a lost member's place; a rebuild starts
  emdadm add data /dev/sdg /dev/sdh     part of the set, whatever is lost there
  emdadm add --force emd0 /dev/sdg      though there is a filesystem, or another set's metadata, on it
  emdadm add --force data /dev/sdc      a disk of the set that was away, and is recorded as lost: where a RAID 0
                                        or concatenation cannot do without it, what it holds counts as it is

Where no member is lost a disk becomes part of the set. Whether it is a spare then is up to the format (md's,
Intel's: yes, DDF: no), and is said; `emdadm spare` makes it one.")]
pub struct AddArgs {
    /// Whatever the disks hold
    #[arg(long)]
    pub force: bool,
    /// Array or set
    pub target: String,
    /// Disks
    #[arg(value_name = "DEVICE", required = true)]
    pub devices: Vec<PathBuf>,
}

/// `remove`
#[derive(Args)]
#[command(after_help = "\
Examples:
  emdadm remove emd0 /dev/sdc           after: emdadm fail emd0 /dev/sdc
  emdadm remove data /dev/sdf           a disk of the set that no array uses
  emdadm remove data --disk 3           one that is gone for good, as `emdadm show` numbers it")]
pub struct RemoveArgs {
    /// Even if redundancy is lost
    #[arg(long)]
    pub force: bool,
    /// By its index in the set: a disk that is not here, and is no part of the set any more should it come back
    #[arg(long, value_name = "INDEX", conflicts_with = "devices")]
    pub disk: Option<u16>,
    /// Array or set
    pub target: String,
    /// Disks
    #[arg(value_name = "DEVICE", required_unless_present = "disk")]
    pub devices: Vec<PathBuf>,
}

/// `fail`
#[derive(Args)]
pub struct FailArgs {
    /// Even if redundancy is lost
    #[arg(long)]
    pub force: bool,
    /// Array or set
    pub target: String,
    /// Disks
    #[arg(value_name = "DEVICE", required = true)]
    pub devices: Vec<PathBuf>,
}

/// `spare`
#[derive(Args)]
#[command(after_help = "\
Examples:
  emdadm spare emd0 /dev/sdf               for every array of emd0's set
  emdadm spare --dedicated emd0 /dev/sdf   for emd0 only
  emdadm spare --force emd0 /dev/sdf       though there is a filesystem, or another set's metadata, on it
  emdadm spare --off emd0 /dev/sdf         no spare any more")]
pub struct SpareArgs {
    /// Only for the target, which must be an array
    #[arg(long, conflicts_with = "off")]
    pub dedicated: bool,
    /// Whatever the disks hold
    #[arg(long, conflicts_with = "off")]
    pub force: bool,
    /// Make them no spares any more
    #[arg(long)]
    pub off: bool,
    /// Array or set
    pub target: String,
    /// Disks
    #[arg(value_name = "DEVICE", required = true)]
    pub devices: Vec<PathBuf>,
}

/// `stop`
#[derive(Args)]
#[command(override_usage = "emdadm stop [OPTIONS] <TARGET>...\n       emdadm stop [OPTIONS] --all")]
#[command(after_help = "\
Examples:
  emdadm stop emd0           goes on with: emdadm start NAME
  emdadm stop --all          before the module is unloaded, or the disks go elsewhere")]
pub struct StopArgs {
    /// Every array
    #[arg(long, short, conflicts_with = "targets")]
    pub all: bool,
    /// Arrays or sets
    #[arg(value_name = "TARGET", required_unless_present = "all")]
    pub targets: Vec<String>,
}

/// `delete`
#[derive(Args)]
#[command(after_help = "\
An array as target deletes the volume. With its last volume a set goes too: its metadata is erased from all its disks,
spares included. A set as target is erased with all its volumes.

Examples:
  emdadm delete emd0             the volume of /dev/emd0, and its set if it has no other one
  emdadm delete --force data     though there is a filesystem on it")]
pub struct DeleteArgs {
    /// Even if it holds something that is known
    #[arg(long)]
    pub force: bool,
    /// Array or set
    pub target: String,
}

/// `rename`
#[derive(Args)]
#[command(after_help = "\
Examples:
  emdadm rename emd0 backup")]
pub struct RenameArgs {
    /// Array
    pub target: String,
    /// Its new name
    pub name: String,
}

/// `policy`
#[derive(Args)]
#[command(after_help = "\
Policies:
  none    nothing: redundancy is taken as right after a crash, and a volume that lacks a member then
          starts without force (DDF sets made by EMD or mdadm only)
  resync  redundancy is established again after a crash; what a member held that is missing then may
          be wrong in stripes that were being written (the write hole)
  log     the same, and partial parity is logged before a stripe is written: the hole is closed for all
          that was not itself being written (RAID 4, 5 and 6 of DDF sets made by EMD or mdadm; RAID 5 in
          Intel's metadata; RAID 5 of md 1.x without a bitmap: a PPL)

Other metadata has `resync` only. The array must be stopped; it has the new policy from its next start
on. With `resync`, what is in its log is put right first, if that is due.

Examples:
  emdadm show data
  emdadm stop emd0
  emdadm policy data log
  emdadm start data")]
pub struct PolicyArgs {
    /// Array
    pub target: String,
    /// Its new policy
    #[arg(value_parser = ["none", "resync", "log"])]
    pub policy: String,
}

/// `check`, `repair`, `resync`
#[derive(Args)]
#[command(after_help = "\
Examples:
  emdadm check emd0                    start it and return
  emdadm check --wait emd0             with a progress bar, until it is done
  emdadm check --wait --check emd0     exit code 3 unless all agrees: for scripts
  emdadm show --mismatches emd0        the places that did not agree, since the array was started
  emdadm repair emd0
  emdadm resync emd0                   when a check shows that much differs")]
pub struct TaskArgs {
    /// Wait for the end, with a progress bar
    #[arg(long)]
    pub wait: bool,
    /// Exit with 3 when places did not agree (`check`), the task was stopped, or an array is not well afterwards
    #[arg(long, requires = "wait")]
    pub check: bool,
    /// Arrays
    #[arg(value_name = "TARGET", required = true)]
    pub targets: Vec<String>,
}

/// `pause`, `resume`, `cancel`
#[derive(Args)]
pub struct TargetsArgs {
    /// Arrays
    #[arg(value_name = "TARGET", required = true)]
    pub targets: Vec<String>,
}

/// `limit`
#[derive(Args)]
#[command(after_help = "\
Rates are of each member. A task goes as fast as it can while nobody uses the array; beside users it
goes slowly, but at least at the lower limit. What is not given is taken back: of an array to the
limit for all, for all to what is usual, 1000K beside users and no upper limit.

Examples:
  emdadm limit --max 50M               for all arrays that have no limit of their own
  emdadm limit --min 5M --max 200M emd0
  emdadm limit emd0                    as for all arrays again
  emdadm limit                         for all: what is usual again")]
pub struct LimitArgs {
    /// Least for each second beside users; as for all arrays, or what is usual, without it
    #[arg(long, value_name = "SIZE")]
    pub min: Option<Size>,
    /// Most for each second; as for all arrays, or no limit, without it
    #[arg(long, value_name = "SIZE")]
    pub max: Option<Size>,
    /// Arrays; all without any
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
}

/// `monitor`
#[derive(Args)]
#[command(after_help = "\
Examples:
  emdadm monitor                    until interrupted; progress bars while something runs
  emdadm monitor --json             one JSON object a line
  emdadm monitor --once             exit after the next event
  emdadm monitor --from 0           from the oldest event the kernel keeps")]
pub struct MonitorArgs {
    /// Exit after the events that are there, or else after those that come first
    #[arg(long)]
    pub once: bool,
    /// Exit (with 5) when nothing came for so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Sequence number to start from; 0 is the oldest kept
    #[arg(long, value_name = "SEQUENCE")]
    pub from: Option<u64>,
}

/// `wait`
#[derive(Args)]
#[command(after_help = "\
Examples:
  emdadm wait emd0                     with a progress bar on a terminal
  emdadm wait --timeout 3600           for all arrays, an hour at most
  emdadm wait --check emd0             exit code 3 unless all is well then")]
pub struct WaitArgs {
    /// Exit with 3 when a check that ended meanwhile found places that do not agree, a task was stopped or is held, or an
    /// array is degraded, failed, read-only or not started
    #[arg(long)]
    pub check: bool,
    /// Exit (with 5) after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Arrays or sets; all without any
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
}
