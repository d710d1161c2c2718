// SPDX-License-Identifier: GPL-2.0

//! One copy or two, disks that fail and disks that were left behind: which of them is believed.

use crate::ddf_common::damage;
use crate::ddf_common::world::{spec, World};
use crate::ddf_common::{
    apply, blanks, carry_out, context, cut_everywhere, facts, open, open_keyed, writes, Random,
};
use emd_core::metadata::ddf::layout::pde;
use emd_core::metadata::MetadataSet;
use emd_core::model::{DiskRole, DiskState, Event, Level, MemberState, SpareRole, Text};
use host_tests::samples::load;

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
    assert_eq!(
        plan.len(),
        3 * 7,
        "two headers and one run, twice; the head of our records"
    );
    let sectors: usize = plan.iter().map(|write| write.bytes.len() / 512).sum();
    assert_eq!(sectors, 3 * 7);
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
    let bits = set.disk_state(1).unwrap();
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

/// What could not run without a disk was not written without it: a disk that took its data and none of the last
/// updates counts, and hears of all of them. Where there is another way that it may have been, it does not.
#[test]
fn a_disk_that_could_not_be_done_without_is_not_stale() {
    let all = [Some(0), Some(1), Some(2), Some(3)];
    for (level, lost, late, counts) in [
        (Level::Raid5, vec![1], vec![2], true),
        (Level::Raid5, vec![], vec![2], false),
        (Level::Raid5, vec![1], vec![2, 3], true),
        // One of them may have been there without the other.
        (Level::Raid5, vec![], vec![2, 3], false),
        (Level::Raid6, vec![1], vec![2, 3], false),
        (Level::Raid6, vec![0, 1], vec![2], true),
        (Level::Raid1, vec![0, 1, 2], vec![3], true),
        (Level::Raid1, vec![0, 1], vec![3], false),
    ] {
        let case = format!("{level} without {lost:?}, {late:?} late");
        // The last one has the news, whoever else does.
        let mut world = World::created(5, 64, 512, 0);
        world.apply(&Event::VolumeCreated(spec("v", level, &all)));
        let (mut set, mut disks) = world.restarted_without_metadata(&lost, &late);
        let wanted = match counts {
            true => (DiskState::Online, MemberState::InSync),
            false => (DiskState::Stale, MemberState::Failed),
        };
        for &disk in &late {
            let member = set.set().volume(0).unwrap().members[usize::from(disk)];
            let found = (set.set().disk(disk).unwrap().state, member.state);
            assert_eq!(found, wanted, "{case}");
        }
        if counts {
            apply(&mut set, &mut disks, &Event::Dirty(0), 90).unwrap();
            for &disk in &late {
                let key = usize::from(disk);
                let alone = open_keyed(&[(u64::from(disk), &disks[key])]).unwrap();
                assert_eq!(alone.set().generation, set.set().generation, "{case}");
            }
        }
    }
}

/// Disks that were not here while another volume of the set was used missed nothing of their own.
#[test]
fn disks_of_a_volume_that_did_not_run_are_not_stale() {
    let mut world = World::created(4, 64, 512, 0);
    let (first, second) = ([Some(0), Some(1)], [Some(2), Some(3)]);
    for (name, disks) in [("one", &first), ("two", &second)] {
        let mut mirror = spec(name, Level::Raid1, disks);
        mirror.size_sectors = 4096;
        world.apply(&Event::VolumeCreated(mirror));
    }
    let away = [world.disks[2].clone(), world.disks[3].clone()];
    let mut set = open(&world.disks[..2]).unwrap();
    for (n, name) in [(80, "a"), (81, "b"), (82, "c")] {
        let renamed = Event::VolumeRenamed(0, Text::from_text(name));
        apply(&mut set, &mut world.disks[..2], &renamed, n).unwrap();
    }
    [world.disks[2], world.disks[3]] = away;
    let whole = open(&world.disks).unwrap();
    let two = whole.set().volume(1).unwrap();
    assert!(two
        .members
        .iter()
        .all(|member| member.state == MemberState::InSync));
    // One of them alone, on a set of EMD's: had the other one been used without it, the newest tables would say so.
    let alone = open_keyed(&[(0, &world.disks[0]), (2, &world.disks[2])]).unwrap();
    let member = alone.set().volume(1).unwrap().members[0];
    assert_eq!(member.state, MemberState::InSync);
    // One that had news of its own without the other one.
    let mut set = open(&world.disks).unwrap();
    let old = world.disks[3].clone();
    for (n, name) in [(83, "d"), (84, "e")] {
        let renamed = Event::VolumeRenamed(1, Text::from_text(name));
        apply(&mut set, &mut world.disks, &renamed, n).unwrap();
    }
    world.disks[3] = old;
    let member = open(&world.disks).unwrap().set().volume(1).unwrap().members[1];
    assert_eq!(member.state, MemberState::Failed);
}

/// One disk that is left behind is old and said to be so by all, before anything is written without it; it may
/// return.
#[test]
fn a_disk_left_behind_is_recorded_as_lost() {
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("m", Level::Raid1, &all)));
    let old = world.disks[2].clone();
    for name in ["m1", "m2"] {
        world.apply(&Event::VolumeRenamed(0, Text::from_text(name)));
    }
    world.disks[2] = old;
    let mut set = open(&world.disks).unwrap();
    let facts = set.set().disk(2).unwrap().facts.unwrap();
    apply(&mut set, &mut world.disks, &Event::DiskFailed(2), 70).unwrap();
    assert!(!set.plan().is_empty());
    for set in [&set, &open(&world.disks).unwrap()] {
        assert_eq!(set.set().disk(2).unwrap().state, DiskState::Stale);
        let bits = set.disk_state(2).unwrap();
        assert_eq!(
            bits & (pde::FAILED | pde::MISSING),
            pde::FAILED | pde::MISSING
        );
        let member = set.set().volume(0).unwrap().members[2];
        assert_eq!(member.state, MemberState::Failed);
    }
    let returned = Event::DiskReturned(2, facts);
    apply(&mut set, &mut world.disks, &returned, 71).unwrap();
    assert_eq!(set.set().disk(2).unwrap().state, DiskState::Online);
}

/// A loss that reached one disk only, as another one did not take its metadata: with the mark of the first write
/// all have it, though that mark is there already.
#[test]
fn a_loss_that_one_disk_missed_comes_with_the_mark() {
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    world.apply(&Event::Dirty(0));
    let before = world.disks.clone();
    world.apply(&Event::DiskFailed(2));
    let mut disks = vec![world.disks[0].clone(), before[1].clone(), before[2].clone()];
    let mut set = open(&disks).unwrap();
    assert_eq!(
        set.set().volume(0).unwrap().members[2].state,
        MemberState::Failed
    );
    apply(&mut set, &mut disks, &Event::Dirty(0), 72).unwrap();
    assert!(!set.plan().is_empty());
    disks.remove(0);
    let set = open(&disks).unwrap();
    assert_eq!(
        set.set().volume(0).unwrap().members[2].state,
        MemberState::Failed
    );
    // Once.
    let mut set = open(&world.disks).unwrap();
    apply(&mut set, &mut world.disks, &Event::Dirty(0), 73).unwrap();
    assert!(set.plan().is_empty());
}

/// An update reaches one disk only, and the others start without it: they record its loss with the
/// number that its last words have, and give its place to a spare. Wherever that is cut, neither the
/// disk that is back nor the spare counts as in sync.
#[test]
fn two_histories_of_one_number() {
    for block in [512, 4096] {
        let mut world = World::created(3, 64, block, 0);
        let all = [Some(0), Some(1), Some(2)];
        world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
        let spare = world.add(64, SpareRole::Global);
        let mut disks = world.disks.clone();
        world.set.apply(&Event::Dirty(0), &context(80)).unwrap();
        let mut alone = writes(&world.set);
        alone.retain(|write| write.key == 0);
        carry_out(&mut disks, &alone);
        let rest: Vec<_> = (0u64..).zip(disks.iter()).skip(1).collect();
        let mut set = open_keyed(&rest).unwrap();
        apply(&mut set, &mut disks, &Event::DiskMissing(0), 81).unwrap();
        let event = Event::SpareActivated {
            volume: 0,
            slot: 0,
            disk: spare,
        };
        set.apply(&event, &context(82)).unwrap();
        let plan = writes(&set);
        let keys = [0, 1, 2, 3];
        cut_everywhere(&disks, &plan, &keys, &mut Random(9), 20, &|state, at| {
            let in_sync = state.matches(" InSync").count();
            assert!(in_sync == 2, "{at}: {state}");
        });
    }
}

/// A disk that did not take an update, and stays in use all the same, gets all of it with the next one.
#[test]
fn who_missed_an_update_gets_it_with_the_next() {
    let (mut set, mut disks) = damage::world(512);
    set.apply(&Event::DiskFailed(0), &context(5)).unwrap();
    let taken: Vec<_> = writes(&set)
        .into_iter()
        .filter(|write| write.key == 1)
        .collect();
    carry_out(&mut disks, &taken);
    set.missed(2, 0);
    apply(&mut set, &mut disks, &Event::Dirty(1), 6).unwrap();
    for key in [1, 2] {
        let alone = open_keyed(&[(key, &disks[key as usize])]).unwrap();
        assert_eq!(alone.set().generation, set.set().generation, "disk {key}");
        assert!(!alone.frozen, "disk {key}");
        assert_eq!(alone.disk_state(0), set.disk_state(0), "disk {key}");
    }
}
