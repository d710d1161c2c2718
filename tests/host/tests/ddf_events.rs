// SPDX-License-Identifier: GPL-2.0

//! Every event, one after the other, on sets of our own and of others: after each one, the disks say
//! what the memory says; cut anywhere, they say the old or the new state and never a mix.

mod ddf_common;

use ddf_common::crash::{cut_everywhere, is_between, Random};
use ddf_common::{
    apply, assert_same, blanks, carry_out, context, create, facts, open, show, writes,
};
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Consistency, DiskOffer, DiskRole, DiskState, Event, Layout, Level, MemberState, Rotation,
    SpareRole, Text, VolumeSpec,
};
use host_tests::samples::{load, Disk};

/// A set in memory and its disks.
struct World {
    set: Box<DdfSet>,
    disks: Vec<Disk>,
    step: u64,
    crashes: usize,
    random: Random,
}

impl World {
    fn new(set: Box<DdfSet>, mut disks: Vec<Disk>, crashes: usize) -> Self {
        // Data is of no interest here, and makes copying slow.
        for disk in &mut disks {
            disk.keep_last(70_000);
        }
        let mut world = Self {
            set,
            disks,
            step: 0,
            crashes,
            random: Random(0x9E37_79B9_7F4A_7C15),
        };
        world.check("start");
        world.random.next();
        world
    }

    fn created(count: usize, mib: u64, block: u32, crashes: usize) -> Self {
        let mut disks = blanks(count, mib, block);
        let set = create(&mut disks, "set");
        Self::new(set, disks, crashes)
    }

    fn check(&self, what: &str) {
        assert_same(&self.set, &self.disks, what);
    }

    /// Keys of the disks that are in the set or that the plan writes.
    fn keys(&self, plan: &[ddf_common::Write]) -> Vec<u64> {
        let mut keys: Vec<u64> = self
            .set
            .set()
            .live_disks()
            .filter_map(|(_, disk)| disk.facts.map(|facts| facts.key))
            .chain(plan.iter().map(|write| write.key))
            .collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Applies an event, cuts it everywhere, carries it out, compares.
    fn apply(&mut self, event: &Event<'_>) {
        self.step += 1;
        let what = format!("step {}: {event:?}", self.step);
        let keys_before = self.keys(&[]);
        let by_index: Vec<u64> = self
            .set
            .set()
            .disks
            .iter()
            .map(|disk| disk.facts.map_or(u64::MAX, |facts| facts.key))
            .collect();
        self.set
            .apply(event, &context(self.step))
            .unwrap_or_else(|why| panic!("{what}: {why:?}"));
        let plan = writes(&self.set);
        if self.crashes > 0 && !plan.is_empty() {
            let mut keys = self.keys(&plan);
            if let Event::DiskMissing(_) = event {
                keys.retain(|key| keys_before.contains(key));
            }
            let single = self.set.set().live_disks().any(|(index, _)| {
                self.set
                    .home(index)
                    .is_some_and(|home| home.copies[1].is_none())
            });
            let old = state_of(&self.disks, &keys);
            let mut after = self.disks.clone();
            carry_out(&mut after, &plan);
            let new = state_of(&after, &keys);
            cut_everywhere(
                &self.disks,
                &plan,
                &keys,
                &mut self.random,
                self.crashes,
                &|state, at| {
                    let single = single && is_between(state, &old, &new);
                    let leftover = single || without_leftovers(event, &by_index, state, &old, &new);
                    assert!(
                        state == old || state == new || leftover,
                        "{what}: {at}:\n{state}\n--- old\n{old}\n--- new\n{new}"
                    );
                },
            );
        }
        carry_out(&mut self.disks, &plan);
        self.check(&what);
    }

    fn refuse(&mut self, event: &Event<'_>) -> String {
        let before = show(self.set.set());
        let pd = self.set.pd.to_vec();
        let vd = self.set.vd.to_vec();
        let why = self.set.apply(event, &context(999)).unwrap_err();
        assert_eq!(before, show(self.set.set()), "{event:?} changed something");
        assert!(
            pd == *self.set.pd && vd == *self.set.vd,
            "{event:?} changed bytes"
        );
        assert!(self.set.plan().is_empty());
        why.text().to_owned()
    }

    fn add(&mut self, mib: u64, role: SpareRole) -> u16 {
        let block = self.disks[0].logical_block_bytes;
        let key = self.disks.len() as u64;
        self.disks.push(Disk::blank("added", mib * 2048, block));
        let offer = DiskOffer {
            facts: facts(&self.disks[key as usize], key),
            role,
        };
        self.apply(&Event::DiskAdded(offer));
        (self.set.set().disks.len() - 1) as u16
    }

    fn state(&self, disk: u16) -> DiskState {
        self.set.set().disk(disk).unwrap().state
    }

    fn role(&self, disk: u16) -> DiskRole {
        self.set.set().disk(disk).unwrap().role
    }

    fn member(&self, volume: u16, slot: usize) -> MemberState {
        self.set.set().volume(volume).unwrap().members[slot].state
    }
}

fn state_of(disks: &[Disk], keys: &[u64]) -> String {
    let keyed: Vec<(u64, &Disk)> = keys
        .iter()
        .map(|&key| (key, &disks[key as usize]))
        .collect();
    match ddf_common::open_keyed(&keyed) {
        Ok(set) => show(set.set()),
        Err(why) => format!("refused: {why}"),
    }
}

/// A disk that is being added, taken back or removed is in the set, out of it, or shows as a leftover
/// that is in no volume. Everything else must be the old or the new state.
fn without_leftovers(event: &Event<'_>, keys: &[u64], state: &str, old: &str, new: &str) -> bool {
    let subject = match event {
        Event::DiskAdded(offer) => offer.facts.key,
        Event::DiskReturned(_, facts) => facts.key,
        Event::DiskRemoved(disk) => keys.get(usize::from(*disk)).copied().unwrap_or(u64::MAX),
        _ => return false,
    };
    let strip = |text: &str| -> String {
        let own = format!(" key Some({subject}) ");
        text.lines()
            .filter(|line| {
                let gone = line.contains(" key None ");
                !(line.starts_with("disk ") && (gone || line.contains(&own)))
            })
            .collect::<Vec<_>>()
            .join("\n")
    };
    strip(state) == strip(old) || strip(state) == strip(new)
}

fn spec<'a>(name: &str, level: Level, disks: &'a [Option<u16>]) -> VolumeSpec<'a> {
    VolumeSpec {
        name: Text::from_text(name),
        level,
        spans: 1,
        layout: None,
        chunk_sectors: 0,
        size_sectors: 0,
        disks,
        assume_clean: false,
    }
}

/// The life of a redundant volume, with everything that can happen to it.
fn life(world: &mut World, volume: u16, spare_mib: u64) {
    world.apply(&Event::Dirty(volume));
    world.apply(&Event::ResyncProgress {
        volume,
        done_sectors: 0,
    });
    world.apply(&Event::ResyncProgress {
        volume,
        done_sectors: 64,
    });
    assert!(world.set.plan().is_empty(), "a mark is not recorded");
    world.apply(&Event::ResyncDone(volume));
    assert_eq!(
        world.set.set().volume(volume).unwrap().consistency,
        Consistency::Dirty
    );
    world.apply(&Event::Clean(volume));
    world.apply(&Event::Clean(volume));
    assert!(world.set.plan().is_empty(), "clean twice writes once");
    world.apply(&Event::Dirty(volume));

    let spare = world.add(spare_mib, SpareRole::Global);
    assert_eq!(world.role(spare), DiskRole::GlobalSpare);
    world.apply(&Event::SpareAssigned(spare, SpareRole::None));
    world.apply(&Event::SpareAssigned(spare, SpareRole::Dedicated(volume)));
    assert_eq!(world.role(spare), DiskRole::DedicatedSpare(volume));

    let lost = world.set.set().volume(volume).unwrap().members[0]
        .disk
        .unwrap();
    world.refuse(&Event::DiskRemoved(lost));
    world.refuse(&Event::SpareActivated {
        volume,
        slot: 0,
        disk: spare,
    });
    world.apply(&Event::DiskFailed(lost));
    assert_eq!(world.member(volume, 0), MemberState::Failed);
    world.apply(&Event::DiskFailed(lost));
    assert!(world.set.plan().is_empty(), "failed twice writes once");
    world.apply(&Event::SpareActivated {
        volume,
        slot: 0,
        disk: spare,
    });
    assert_eq!(world.role(spare), DiskRole::Member);
    let home = world.set.home(spare).unwrap();
    assert_eq!(home.spare_slot(), None, "no spare any more");
    world.apply(&Event::RebuildProgress {
        volume,
        slot: 0,
        done_sectors: 128,
    });
    assert!(world.set.plan().is_empty());
    assert_eq!(
        world.member(volume, 0),
        MemberState::Rebuilding { done_sectors: 128 }
    );
    world.apply(&Event::RebuildDone { volume, slot: 0 });
    assert_eq!(world.member(volume, 0), MemberState::InSync);

    // The failed disk comes back as a blank one and is a spare; then it goes.
    let returned = world.set.set().disk(lost).unwrap().facts.unwrap();
    world.apply(&Event::DiskReturned(lost, returned));
    assert_eq!(world.state(lost), DiskState::Online);
    assert_eq!(world.role(lost), DiskRole::Unused);
    let gone = world.set.set().volume(volume).unwrap().members[1]
        .disk
        .unwrap();
    world.apply(&Event::DiskMissing(gone));
    assert_eq!(world.member(volume, 1), MemberState::Missing);
    assert_eq!(world.state(gone), DiskState::Missing);
    world.apply(&Event::SpareActivated {
        volume,
        slot: 1,
        disk: lost,
    });
    world.apply(&Event::RebuildDone { volume, slot: 1 });
    world.apply(&Event::DiskRemoved(gone));
    world.apply(&Event::Clean(volume));

    world.apply(&Event::VolumeRenamed(volume, Text::from_text("renamed")));
    world.refuse(&Event::VolumeRenamed(
        volume,
        Text::from_text("a name of 17 char"),
    ));
}

#[test]
fn life_of_created_sets() {
    for (level, count, crashes) in [
        (Level::Raid1, 2, 6),
        (Level::Raid1, 3, 0),
        (Level::Raid5, 3, 4),
        (Level::Raid6, 4, 0),
        (Level::Raid4, 3, 0),
        (Level::Raid1e, 3, 0),
        (Level::Raid10, 4, 4),
    ] {
        for block in [512, 4096] {
            let mut world =
                World::created(count, 40, block, if block == 512 { crashes } else { 0 });
            let disks: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
            world.apply(&Event::VolumeCreated(spec("vol", level, &disks)));
            life(&mut world, 0, 40);
            world.apply(&Event::VolumeDeleted(0));
            for (index, _) in world.set.set().live_disks() {
                let Some(home) = world.set.home(index) else {
                    continue;
                };
                assert!(home.slots().all(|slot| home.record(slot).is_none()));
            }
            for disk in 0..count as u16 {
                assert_ne!(world.role(disk), DiskRole::Member);
            }
        }
    }
}

#[test]
fn life_of_mdadms_sets() {
    for (case, crashes) in [
        ("raid1", 4),
        ("raid10", 2),
        ("raid5-la", 0),
        ("raid6-ddf-N-restart", 0),
    ] {
        let disks = load(&format!("ddf/gen/{case}"));
        let set = open(&disks).unwrap();
        life(&mut World::new(set, disks, crashes), 0, 80);
    }
}

#[test]
fn life_of_graids_sets() {
    for (case, crashes) in [
        ("ddf-raid1-2d", 6),
        ("ddfle-raid1-2d", 3),
        ("ddf-raid1-2d-4kn", 3),
        ("ddf-raid5-ls-3d", 2),
        ("ddfle-raid5-la-3d", 2),
    ] {
        let disks = load(&format!("ddf/gen-freebsd/{case}"));
        let set = open(&disks).unwrap();
        life(&mut World::new(set, disks, crashes), 0, 96);
    }
}

#[test]
fn unfinished_sets_go_on() {
    let disks = load("ddf/gen/raid1-rebuild");
    let set = open(&disks).unwrap();
    let mut world = World::new(set, disks, 3);
    world.apply(&Event::RebuildDone { volume: 0, slot: 0 });
    world.apply(&Event::DiskRemoved(1));

    // A failed member that returns is a stranger to the volume until it is activated.
    let failed = world.set.set().volume(0).unwrap().members[1].disk.unwrap();
    let back = world.set.set().disk(failed).unwrap().facts.unwrap();
    let reference = world.set.master(0, 0).unwrap().reference(1);
    assert_ne!(reference, 0);
    world.apply(&Event::DiskFailed(failed));
    world.apply(&Event::DiskReturned(failed, back));
    assert_eq!(world.set.master(0, 0).unwrap().reference(1), 0);
    assert_ne!(world.set.disk_meta(failed).unwrap().reference, reference);
    let at = world.set.set().volume(0).unwrap().members[1];
    assert_eq!((at.disk, at.state), (None, MemberState::Missing));

    let disks = load("ddf/gen/raid1-missing");
    let set = open(&disks).unwrap();
    let mut world = World::new(set, disks, 3);
    let stale = world.set.set().disk_by_key(1).unwrap();
    let back = world.set.set().disk(stale).unwrap().facts.unwrap();
    world.apply(&Event::DiskReturned(stale, back));
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: stale,
    });
    world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
}

#[test]
fn several_volumes_on_the_same_disks() {
    let mut world = World::created(4, 64, 512, 2);
    let all = [Some(0), Some(1), Some(2), Some(3)];
    let mut first = spec("first", Level::Raid5, &all);
    first.size_sectors = 3 * 8192;
    first.chunk_sectors = 64;
    world.apply(&Event::VolumeCreated(first));
    let two = [Some(2), Some(0)];
    let mut second = spec("second", Level::Raid1, &two);
    second.size_sectors = 10_000;
    second.assume_clean = true;
    world.apply(&Event::VolumeCreated(second));
    let third = spec("third", Level::Raid0, &all);
    let largest = world.set.largest_volume(&third).unwrap();
    world.apply(&Event::VolumeCreated(third));
    assert_eq!(world.set.set().volume(2).unwrap().size_sectors, largest);
    world.refuse(&Event::VolumeCreated(spec("full", Level::Raid0, &all)));
    world.refuse(&Event::VolumeDeleted(3));

    // One disk carries all three: its failure shows in each.
    world.apply(&Event::DiskFailed(2));
    assert_eq!(world.member(0, 2), MemberState::Failed);
    assert_eq!(world.member(1, 0), MemberState::Failed);
    assert_eq!(world.member(2, 2), MemberState::Failed);
    world.apply(&Event::VolumeDeleted(2));
    let spare = world.add(64, SpareRole::Global);
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 2,
        disk: spare,
    });
    world.apply(&Event::SpareActivated {
        volume: 1,
        slot: 0,
        disk: spare,
    });
    world.apply(&Event::RebuildDone { volume: 0, slot: 2 });
    world.apply(&Event::RebuildDone { volume: 1, slot: 0 });
    // Volume 1 lies behind volume 0 on the new disk.
    let offsets: Vec<u64> = world
        .set
        .set()
        .memberships(spare)
        .map(|(_, _, member)| member.offset_sectors)
        .collect();
    assert_eq!(offsets[0], 0);
    assert!(offsets[1] >= 8192);
    world.apply(&Event::VolumeDeleted(0));
    // The gap in front is found again, and the table stays dense.
    let disks = [Some(0), Some(1), Some(3)];
    let mut again = spec("again", Level::Raid5, &disks);
    again.size_sectors = 2 * 8192;
    world.apply(&Event::VolumeCreated(again));
    let volume = world.set.set().volume(3).unwrap();
    assert!(volume
        .members
        .iter()
        .all(|member| member.offset_sectors == 0));
}

#[test]
fn volumes_of_every_level_and_layout() {
    for capability in emd_core::metadata::Format::capabilities(&emd_core::metadata::ddf::Ddf).levels
    {
        for layout in capability.layouts {
            for chunk in [0, 8, 2048] {
                let count = match (capability.level, layout) {
                    (Level::Raid10, Layout::Near(copies)) => 2 * usize::from(*copies),
                    _ => usize::from(capability.members.0.max(3)),
                };
                let mut world = World::created(count, 50, 512, 0);
                let disks: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
                let mut spec = spec("v", capability.level, &disks);
                spec.layout = Some(*layout);
                spec.chunk_sectors = chunk;
                world.apply(&Event::VolumeCreated(spec));
            }
        }
    }
}

#[test]
fn degraded_creation() {
    let mut world = World::created(3, 50, 512, 3);
    let open = [Some(0), None, Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &open)));
    assert_eq!(world.member(0, 1), MemberState::Missing);
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: 1,
    });
    world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
    world.refuse(&Event::VolumeCreated(spec("w", Level::Raid0, &open)));
}

#[test]
fn refusals_say_why() {
    let mut world = World::created(3, 50, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    let says = |world: &mut World, spec: VolumeSpec<'_>, part: &str| {
        let why = world.refuse(&Event::VolumeCreated(spec));
        assert!(why.contains(part), "{why}");
    };
    says(
        &mut world,
        spec("a name that is long", Level::Raid5, &all),
        "16",
    );
    says(
        &mut world,
        spec("v", Level::Raid5, &[Some(0), Some(0), Some(1)]),
        "twice",
    );
    says(
        &mut world,
        spec("v", Level::Raid5, &[Some(0), Some(1)]),
        "3 to 64",
    );
    says(
        &mut world,
        spec("v", Level::Raid5, &[Some(0), Some(1), Some(9)]),
        "no disk 9",
    );
    says(
        &mut world,
        VolumeSpec {
            chunk_sectors: 3,
            ..spec("v", Level::Raid5, &all)
        },
        "power of two",
    );
    says(
        &mut world,
        VolumeSpec {
            size_sectors: 1 << 40,
            ..spec("v", Level::Raid5, &all)
        },
        "at most",
    );
    says(
        &mut world,
        VolumeSpec {
            layout: Some(Layout::Parity(Rotation::DdfNRestart)),
            ..spec("v", Level::Raid5, &all)
        },
        "layout",
    );
    for event in [
        Event::DiskFailed(7),
        Event::DiskMissing(7),
        Event::DiskRemoved(7),
        Event::SpareAssigned(7, SpareRole::Global),
        Event::SpareAssigned(0, SpareRole::Dedicated(0)),
        Event::SpareActivated {
            volume: 0,
            slot: 0,
            disk: 0,
        },
        Event::Dirty(0),
        Event::Clean(3),
        Event::ResyncDone(0),
        Event::RebuildDone { volume: 0, slot: 0 },
        Event::RebuildProgress {
            volume: 0,
            slot: 0,
            done_sectors: 0,
        },
        Event::VolumeDeleted(0),
        Event::VolumeRenamed(0, Text::from_text("x")),
        Event::DiskReturned(0, facts(&world.disks[0].clone(), 0)),
    ] {
        world.refuse(&event);
    }
    let small = DiskOffer {
        facts: facts(&Disk::blank("s", 32 * 2048, 512), 77),
        role: SpareRole::None,
    };
    let why = world.refuse(&Event::DiskAdded(small));
    assert!(why.contains("at least 67584"), "{why}");
    let other = DiskOffer {
        facts: facts(&Disk::blank("s", 64 * 2048, 4096), 77),
        role: SpareRole::None,
    };
    world.refuse(&Event::DiskAdded(other));
}

#[test]
fn create_refuses_what_cannot_be() {
    use emd_core::metadata::ddf::create::create;
    let disk = |mib: u64, block| facts(&Disk::blank("d", mib * 2048, block), mib);
    assert!(create(&[], "n", &context(1)).is_err());
    let why = create(&[disk(32, 512)], "n", &context(1)).unwrap_err();
    assert!(why.text().contains("at least 67584"), "{why}");
    assert!(create(&[disk(64, 512), disk(65, 4096)], "n", &context(1)).is_err());
    assert!(create(&[disk(64, 512), disk(64, 512)], "n", &context(1)).is_err());
    assert!(create(&[disk(33, 512), disk(65, 512)], "n", &context(1)).is_ok());
}

/// Creation cut anywhere: every disk is blank or a disk of the new, empty set.
#[test]
fn creation_is_crash_safe() {
    let facts: Vec<_> = (0..3).map(|k| facts(&blanks(1, 40, 512)[0], k)).collect();
    let set = emd_core::metadata::ddf::create::create(&facts, "n", &context(1)).unwrap();
    let plan = writes(&set);
    let disks = blanks(3, 40, 512);
    cut_everywhere(
        &disks,
        &plan,
        &[0, 1, 2],
        &mut Random(5),
        10,
        &|state, at| {
            let fine = state.starts_with("refused: no disk carries") || state.contains("set [");
            assert!(fine && !state.contains("volume"), "{at}: {state}");
        },
    );
}

/// Disks with one copy: those whose records do not change are written last.
#[test]
fn a_bystander_does_not_run_ahead() {
    let disks = load("ddf/gen-freebsd/ddf-raid1-2d");
    let set = open(&disks).unwrap();
    let mut world = World::new(set, disks, 6);
    let bystander = world.add(96, SpareRole::None);
    let spare = world.add(96, SpareRole::Global);
    world.apply(&Event::DiskFailed(0));
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 0,
        disk: spare,
    });
    assert_eq!(world.role(bystander), DiskRole::Unused);
}

/// On disks with one copy a new volume is whole or not there.
#[test]
fn volumes_of_single_copies_come_and_go_whole() {
    for case in ["ddf-raid1-2d", "ddf-raid5-ls-3d"] {
        let disks = load(&format!("ddf/gen-freebsd/{case}"));
        let set = open(&disks).unwrap();
        let mut world = World::new(set, disks, 8);
        world.apply(&Event::VolumeDeleted(0));
        let two = [Some(1), Some(0)];
        let mut small = spec("new", Level::Raid1, &two);
        small.size_sectors = 8192;
        world.apply(&Event::VolumeCreated(small));
        small.name = Text::from_text("more");
        let why = world.refuse(&Event::VolumeCreated(small));
        assert!(why.contains("has room for 1"), "{why}");
    }
}

/// Recording that writes begin or end costs few sectors and few writes a disk.
#[test]
fn dirty_is_cheap() {
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    world.set.apply(&Event::Dirty(0), &context(50)).unwrap();
    let plan = writes(&world.set);
    assert_eq!(plan.len(), 3 * 6, "two headers and one run, twice");
    let sectors: usize = plan.iter().map(|write| write.bytes.len() / 512).sum();
    assert_eq!(sectors, 3 * 6);
    assert_eq!(plan.last().unwrap().phase, 5);
}

/// A failed disk that comes back at the next boot loses against the others.
#[test]
fn a_failed_disk_loses_at_the_next_assembly() {
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    let before = world.disks.clone();
    let (set, disks) = (&mut world.set, &mut world.disks);
    apply(set, disks, &Event::DiskFailed(1), 60).unwrap();
    let bits = set.pde(1).unwrap().disk_state();
    assert_eq!(bits, 2, "failed, neither online nor rebuilding");
    // Its metadata was not touched.
    assert_eq!(before[1].runs().count(), disks[1].runs().count());
    let again = open(disks).unwrap();
    assert_eq!(
        again.set().volume(0).unwrap().members[1].state,
        MemberState::Failed
    );
    apply(set, disks, &Event::DiskMissing(1), 61).unwrap();
    let again = open(disks).unwrap();
    assert_eq!(again.set().disk(1).unwrap().state, DiskState::Stale);
    assert_eq!(
        again.set().volume(0).unwrap().members[1].state,
        MemberState::Failed
    );
}

/// The surviving disk's second copy cannot be written: the disk that failed stays failed all the same,
/// although all disks have the state before in some copy.
#[test]
fn a_failed_disk_is_not_brought_back() {
    for block in [512, 4096] {
        let mut world = World::created(2, 64, block, 0);
        let all = [Some(0), Some(1)];
        world.apply(&Event::VolumeCreated(spec("v", Level::Raid1, &all)));
        for event in [Event::DiskFailed(1), Event::DiskMissing(1)] {
            let mut disks = world.disks.clone();
            let mut set = open(&disks).unwrap();
            set.apply(&event, &context(70)).unwrap();
            let facts = world.set.set().disk(1).unwrap().facts.unwrap();
            assert_eq!(facts.key, 1);
            let mut plan = writes(&set);
            plan.retain(|write| write.phase < 3);
            assert_eq!(plan.last().unwrap().phase, 2);
            carry_out(&mut disks, &plan);
            let again = open(&disks).unwrap();
            let member = again.set().volume(0).unwrap().members[1];
            assert_eq!(member.state, MemberState::Failed, "{event:?}");
        }
    }
}

/// One disk is left that keeps one copy only, and it is being written while power fails: a failed disk
/// with older metadata does not get the last word.
#[test]
fn an_open_header_beats_older_disks() {
    let disks = load("ddf/gen-freebsd/ddf-raid1-2d");
    let set = open(&disks).unwrap();
    let mut world = World::new(set, disks, 0);
    world.apply(&Event::Dirty(0));
    world.apply(&Event::DiskFailed(1));
    world.set.apply(&Event::Clean(0), &context(90)).unwrap();
    let plan = writes(&world.set);
    for cut in 0..=plan.len() {
        let mut disks = world.disks.clone();
        carry_out(&mut disks, &plan[..cut]);
        let again = open(&disks).unwrap();
        let member = again.set().volume(0).unwrap().members[1];
        assert_eq!(member.state, MemberState::Failed, "cut after {cut}");
    }
}

/// A disk that missed updates without being recorded as lost is not trusted with redundancy, and is
/// with a volume that has none (it could not have run without it).
#[test]
fn a_disk_left_behind_is_stale() {
    let mut world = World::created(2, 64, 512, 0);
    let all = [Some(0), Some(1)];
    let mut mirror = spec("m", Level::Raid1, &all);
    mirror.size_sectors = 4096;
    world.apply(&Event::VolumeCreated(mirror));
    world.apply(&Event::VolumeCreated(spec("s", Level::Raid0, &all)));
    let old = world.disks[1].clone();
    world.apply(&Event::VolumeRenamed(0, Text::from_text("m1")));
    let one_behind = [world.disks[0].clone(), old.clone()];
    let set = open(&one_behind).unwrap();
    assert_eq!(set.set().disk(1).unwrap().state, DiskState::Online);
    world.apply(&Event::VolumeRenamed(0, Text::from_text("m2")));
    let two_behind = [world.disks[0].clone(), old];
    let set = open(&two_behind).unwrap();
    assert_eq!(set.set().disk(1).unwrap().state, DiskState::Stale);
    assert_eq!(
        set.set().volume(0).unwrap().members[1].state,
        MemberState::Failed
    );
    assert_eq!(
        set.set().volume(1).unwrap().members[1].state,
        MemberState::InSync
    );
}
