// SPDX-License-Identifier: GPL-2.0

//! Volumes to begin with: made once by the real format for each configuration, then copied.

use crate::disk::{Disk, Token};
use crate::history::{Config, TakesBack, WriteHole};
use crate::images::Images;
use crate::rng::{mix, Rng};
use emd_core::metadata::ddf::create::{self, Room};
use emd_core::metadata::{registry, Format, MetadataSet};
use emd_core::model::{
    Checked, Context, CrashPolicy, DiskFacts, DiskOffer, Event, Layout, Level, SpareRole, Text,
    VolumeSpec,
};
use emd_core::personalities::{Geometry, Kind};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Length of every disk: enough for each format's own needs.
const DISK_SECTORS: u64 = 34 << 11;

/// Chunk lengths to choose from.
pub fn chunks(format: &str) -> &'static [u32] {
    let least = registry::by_name(format).map_or(8, |format| format.capabilities().chunk_sectors.0);
    match least {
        0..=4 => &[4, 8],
        5..=8 => &[8],
        _ => &[32],
    }
}

/// Size of a configuration's volume.
pub fn size_sectors(config: &Config) -> u64 {
    let unit = u64::from(config.chunk_sectors) * u64::from(config.stripes);
    let level = config.level();
    match level {
        Level::Raid1 => unit,
        Level::Raid10 | Level::Raid1e => unit * u64::from(config.members) / 2,
        _ => unit * u64::from(config.members - config.spans * level.parity_members()),
    }
}

/// A set that was just made.
pub struct Template {
    /// Its disks: members, then spares.
    pub disks: Vec<Disk>,
    /// What each sector of the volume may hold.
    pub contents: Vec<Vec<Token>>,
    /// Where everything is.
    pub geometry: Geometry,
    /// Disk and first sector of each member.
    pub places: Vec<Option<(usize, u64)>>,
    /// The disks as the format sees them.
    pub images: Images,
}

/// What was made, or why it could not be.
type Made = Result<Rc<Template>, String>;

/// Most that a thread keeps: some take megabytes.
const TEMPLATES_MAX: usize = 64;

thread_local! {
    static TEMPLATES: RefCell<BTreeMap<Config, Made>> = const { RefCell::new(BTreeMap::new()) };
}

/// The format of a configuration.
pub fn format_of(config: &Config) -> &'static dyn Format {
    registry::by_name(config.format).expect("a registered format")
}

/// What a shell knows of a disk.
pub fn facts(key: usize) -> DiskFacts {
    DiskFacts {
        key: key as u64,
        size_sectors: DISK_SECTORS,
        logical_block_bytes: 512,
        serial: Text::from_text(&format!("SIM-{key:04}")),
    }
}

/// A blank disk with a data window like the others'.
pub fn blank(key: usize, like: &Disk, data_sectors: usize) -> Disk {
    let data = (0..data_sectors as u64).map(|at| garbage(key, at));
    Disk::new(DISK_SECTORS, like.data_start, data.collect())
}

fn garbage(disk: usize, at: u64) -> Token {
    mix(0xBAD0_0000_0000 ^ ((disk as u64) << 32) ^ at)
}

/// The moment for an event.
pub fn context(n: u64) -> Context {
    Context {
        now_seconds: 1_800_000_000 + n,
        random: [mix(n), mix(!n)],
    }
}

/// The disks that `config` begins with, or why the format does not make such a volume.
pub fn template(config: &Config) -> Made {
    // What it does not depend on.
    let config = Config {
        lane_sectors: 0,
        hole: WriteHole::Open,
        tasks: false,
        takes_back: TakesBack::Always,
        ..*config
    };
    if let Some(known) = TEMPLATES.with(|all| all.borrow().get(&config).cloned()) {
        return known;
    }
    let made = make(&config).map(Rc::new);
    TEMPLATES.with(|all| {
        let mut all = all.borrow_mut();
        if all.len() >= TEMPLATES_MAX {
            all.clear();
        }
        all.insert(config, made.clone());
    });
    made
}

fn make(config: &Config) -> Result<Template, String> {
    let format = format_of(config);
    let members = usize::from(config.members);
    let mut disks: Vec<Disk> = (0..members + usize::from(config.spares))
        .map(|_| Disk::new(DISK_SECTORS, 0, Vec::new()))
        .collect();
    let all: Vec<DiskFacts> = (0..members).map(facts).collect();
    let why = |reason: emd_core::model::Reason| reason.to_string();
    let mut set = new_set(format, &all).map_err(why)?;
    carry_out(&mut disks, set.as_ref());
    let capability = format
        .capabilities()
        .levels
        .iter()
        .find(|capability| capability.level == config.level())
        .ok_or("no such level")?;
    let layout = capability.layouts.get(config.layout).copied();
    let slots: Vec<Option<u16>> = (0..config.members).map(Some).collect();
    let spec = VolumeSpec {
        name: Text::from_text(if format.capabilities().name_bytes_max > 0 {
            "sim"
        } else {
            ""
        }),
        level: config.level(),
        spans: config.spans,
        layout,
        chunk_sectors: match layout {
            _ if config.level() == Level::Raid1 => 0,
            Some(Layout::Plain) | None | Some(_) => config.chunk_sectors,
        },
        size_sectors: size_sectors(config),
        disks: &slots,
        assume_clean: config.assume_clean,
        log: config.log,
        regions: None,
    };
    set.apply(&Event::VolumeCreated(spec), &context(2))
        .map_err(why)?;
    carry_out(&mut disks, set.as_ref());
    if config.log {
        set.apply(&Event::CrashPolicySet(0, CrashPolicy::Log), &context(2))
            .map_err(why)?;
        carry_out(&mut disks, set.as_ref());
    }
    for spare in members..disks.len() {
        let offer = DiskOffer {
            facts: facts(spare),
            role: SpareRole::Global,
        };
        set.apply(&Event::DiskAdded(offer), &context(3 + spare as u64))
            .map_err(why)?;
        carry_out(&mut disks, set.as_ref());
    }
    let (_, volume) = set.set().live_volumes().next().ok_or("no volume")?;
    // Some formats make volumes of whole megabytes. Histories use the start of them, and the data path is told
    // that there is no more.
    let is_longer = config.level() != Level::Concat && volume.size_sectors > size_sectors(config);
    let size = match is_longer {
        true => size_sectors(config),
        false => volume.size_sectors,
    };
    let geometry = Geometry::new(&volume.shape, size).map_err(why)?;
    let offsets: Vec<u64> = volume
        .members
        .iter()
        .map(|member| member.offset_sectors)
        .collect();
    let start = offsets.iter().copied().min().unwrap_or(0);
    let end = offsets.iter().copied().max().unwrap_or(0) + geometry.used_member_sectors();
    if config.region_sectors > 0 {
        crate::regions::make_small(config, &mut disks, volume)?;
    }
    for (key, disk) in disks.iter_mut().enumerate() {
        disk.freeze();
        let data = (0..end - start).map(|at| garbage(key, at));
        disk.set_data(start, data.collect());
    }
    let mut contents = vec![Vec::new(); geometry.size_sectors() as usize];
    for sector in 0..geometry.used_member_sectors() {
        let at = |slot: usize| offsets[slot] + sector;
        if config.assume_clean {
            agree(&mut disks, &geometry, sector, &at);
        }
        if config.assume_clean && geometry.kind() == Kind::Copies {
            // Copies are not side by side: all take what is on the first.
            agree_copies(&mut disks, &geometry, sector, &at);
        }
    }
    for sector in 0..geometry.used_member_sectors() {
        let at = |slot: usize| offsets[slot] + sector;
        for slot in 0..config.members {
            if let Some(logical) = geometry.logical(slot, sector) {
                let disk = &disks[usize::from(slot)];
                let token = disk.peek(at(usize::from(slot)));
                let cell = &mut contents[logical as usize];
                if !cell.contains(&token) {
                    cell.push(token);
                }
            }
        }
    }
    let images = Images::of(format, &disks[0])?;
    let places = offsets
        .iter()
        .enumerate()
        .map(|(slot, &offset)| Some((slot, offset)));
    Ok(Template {
        disks,
        contents,
        geometry,
        places: places.collect(),
        images,
    })
}

/// A new set. DDF's tables, of which every start reads and checks each copy, have room for what histories need.
fn new_set(format: &dyn Format, disks: &[DiskFacts]) -> Checked<Box<dyn MetadataSet>> {
    if format.name() == "ddf" {
        let room = Room {
            disks: 31,
            volumes: 7,
            partitions: 4,
        };
        return Ok(create::create_with(&room, disks, "sim", &context(1))?);
    }
    // Some formats have no place for the name of a set.
    let named = format.create(disks, "sim", &context(1));
    named.or_else(|_| format.create(disks, "", &context(1)))
}

/// Makes one row of a new volume agree.
fn agree(disks: &mut [Disk], geometry: &Geometry, sector: u64, at: &dyn Fn(usize) -> u64) {
    let members = usize::from(geometry.members());
    let row: Vec<Token> = (0..members)
        .map(|slot| disks[slot].peek(at(slot)))
        .collect();
    let mut wanted = row.clone();
    match geometry.kind() {
        Kind::Mirrored => wanted.fill(row[0]),
        Kind::Parity => {
            for (stripe, _) in rows_at(geometry, sector) {
                crate::parity::establish(geometry, stripe, &mut wanted);
            }
        }
        _ => {}
    }
    let mut rng = Rng::new(0);
    for slot in 0..members {
        let _ = disks[slot].write(&mut rng, at(slot), &wanted[slot..=slot], true);
    }
}

/// The stripes that have parts at a sector of the members, one for each span; and the column.
pub fn rows_at(geometry: &Geometry, sector: u64) -> Vec<(u64, u32)> {
    let spans = geometry.shape().spans;
    let firsts = (0..spans).map(|span| span * geometry.span_members());
    firsts
        .filter_map(|slot| geometry.row_at(slot, sector))
        .collect()
}

/// Gives all copies of what is at a sector of the members the contents of the first.
fn agree_copies(disks: &mut [Disk], geometry: &Geometry, sector: u64, at: &dyn Fn(usize) -> u64) {
    let mut rng = Rng::new(0);
    for slot in 0..geometry.members() {
        let Some((stripe, column)) = geometry.row_at(slot, sector) else {
            continue;
        };
        let Some((first, start)) = geometry.copy(stripe, 0) else {
            continue;
        };
        let offset = at(usize::from(first)) - sector;
        let token = disks[usize::from(first)].peek(offset + start + u64::from(column));
        let _ = disks[usize::from(slot)].write(&mut rng, at(usize::from(slot)), &[token], true);
    }
}

fn carry_out(disks: &mut [Disk], set: &dyn MetadataSet) {
    let mut rng = Rng::new(0);
    for write in set.plan().writes() {
        let key = set
            .set()
            .disk(write.disk)
            .and_then(|disk| disk.facts)
            .map(|facts| facts.key);
        if let Some(disk) = key.and_then(|key| disks.get_mut(key as usize)) {
            let _ = disk.write_bytes(&mut rng, write.sector, set.bytes(&write.source), false);
        }
    }
}
