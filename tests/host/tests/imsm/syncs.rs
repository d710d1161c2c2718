// SPDX-License-Identifier: GPL-2.0

//! Syncs, checks and repairs: how records of them are read, what is recorded, and what neither mdadm nor graid takes for more
//! than was done.

use crate::imsm_common::world::{spec, World};
use crate::imsm_common::{context, open, open_keyed, reseal, sample};
use crate::readings::{change, raw};
use emd_core::metadata::imsm::layout::{header, map, volume, Which};
use emd_core::metadata::imsm::ImsmSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Access, Consistency, CrashPolicy, Event, Level, Member, MemberState, Scrub, SpareRole,
    VolumeSpec,
};
use host_tests::samples::Disk;

/// A volume in the middle of a migration of `kind`, with the mark at `units`: two maps alike.
pub fn migrating(kind: u8, fix: bool, dirty: u8, units: u32) -> World {
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    // A rebuild makes the second map.
    world.apply(&Event::DiskFailed(2));
    let spare = world.add(64, SpareRole::Global);
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 2,
        disk: spare,
    });
    let mut world_disks: Vec<Disk> = world.disks.clone();
    world_disks.remove(2);
    for disk in &mut world_disks {
        reseal(disk, &mut |mpb| {
            let at = raw(mpb).volume_at(0);
            assert_eq!(mpb[at + volume::MIGRATING], 1);
            for which in [Which::First, Which::Second] {
                let at = raw(mpb).map_at(at, which);
                mpb[at + map::STATE] = map::NORMAL;
                mpb[at + map::FAILED] = 0xFF;
                for slot in 0..3 {
                    mpb[at + map::ORDER + 4 * slot + 3] = 0;
                }
            }
            mpb[at + volume::KIND] = kind;
            mpb[at + volume::DIRTY] = dirty;
            mpb[at + volume::UNIT_LO..][..4].copy_from_slice(&units.to_le_bytes());
            let status = u32::from_le_bytes(mpb[at + volume::STATUS..][..4].try_into().unwrap());
            let status = status & !volume::FIX | if fix { volume::FIX } else { 0 };
            mpb[at + volume::STATUS..][..4].copy_from_slice(&status.to_le_bytes());
        });
    }
    world.disks = world_disks;
    world
}

/// Consistency of a volume whose migration is of `kind`.
fn consistency(kind: u8, fix: bool, dirty: u8) -> Consistency {
    let world = migrating(kind, fix, dirty, 40);
    let set = open(&world.disks).unwrap();
    let volume = set.set().volume(0).unwrap();
    assert!(
        matches!(volume.access, Access::ReadWrite),
        "{:?}",
        volume.access
    );
    assert!(volume
        .members
        .iter()
        .all(|m| m.state == MemberState::InSync));
    volume.consistency
}

/// Units of a resync of 3 members with chunks of 64 KiB: 384 sectors, as mdadm says of a sample.
#[test]
fn synchronisations_by_kind() {
    let mark = Consistency::Initialising {
        done_sectors: 40 * 384,
    };
    let again = Consistency::Initialising { done_sectors: 0 };
    // Verification that mends, and repair.
    assert_eq!(consistency(2, true, 0), mark);
    assert_eq!(consistency(5, false, 0), mark);
    assert_eq!(consistency(0, false, 0), mark);
    assert_eq!(consistency(0, false, 1), again);
    // What was in sync once is dirty, and not started without a member unless by force.
    assert_eq!(consistency(2, true, 1), Consistency::Dirty);
    assert_eq!(consistency(5, false, 1), Consistency::Dirty);
    // One that only looks makes nothing agree.
    assert_eq!(consistency(2, false, 0), Consistency::Clean);
    assert_eq!(consistency(2, false, 1), Consistency::Dirty);
}

/// What is recorded of a volume: kind of migration and whether it mends, checkpoint, dirty bits.
fn recorded(set: &ImsmSet) -> Option<(u8, bool, u32, u8)> {
    let raw = set.mpb.raw();
    let at = raw.volume_at(0);
    let fix = raw.u32(at + volume::STATUS) & volume::FIX != 0;
    (raw.u8(at + volume::MIGRATING) != 0).then(|| {
        let units = raw.u32(at + volume::UNIT_LO);
        (
            raw.u8(at + volume::KIND),
            fix,
            units,
            raw.u8(at + volume::DIRTY),
        )
    })
}

/// mdadm goes by the migration before it looks at the dirty mark: it resyncs from the checkpoint, or, beside a verification,
/// nothing. Before EMD writes there is no such record, also when the dirty mark was there already.
#[test]
fn what_is_in_flight_takes_marks_of_syncs_away() {
    for dirty in [0, 1, 3] {
        for (kind, fix) in [(2, true), (5, false), (2, false)] {
            let mut world = migrating(kind, fix, dirty, 40);
            world.set = open(&world.disks).unwrap();
            let scrub = world.set.set().volume(0).unwrap().scrub;
            let is_check = !fix && kind == 2 && dirty == 0;
            assert_eq!(scrub.is_some(), is_check);
            world.apply(&Event::Dirty(0));
            let again = open(&world.disks).unwrap();
            let volume = again.set().volume(0).unwrap();
            assert_eq!(
                (volume.consistency, volume.scrub),
                (Consistency::Dirty, None)
            );
            let wanted = is_check.then_some((volume::VERIFY, true, 0, 1));
            assert_eq!(recorded(&again), wanted, "{kind} {fix} {dirty}");
        }
        let mut world = migrating(volume::INIT, false, dirty, 40);
        world.set = open(&world.disks).unwrap();
        world.apply(&Event::Dirty(0));
        let again = open(&world.disks).unwrap();
        assert_eq!(recorded(&again), Some((volume::INIT, false, 0, 1)));
    }
    // A rebuild goes on where it was; that the rest has to agree, the dirty mark says.
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    world.apply(&Event::DiskFailed(2));
    let spare = world.add(64, SpareRole::Global);
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 2,
        disk: spare,
    });
    world.apply(&Event::RebuildProgress {
        volume: 0,
        slot: 2,
        done_sectors: 128 * 9,
    });
    world.apply(&Event::Dirty(0));
    assert_eq!(recorded(&world.set), Some((volume::REBUILD, false, 9, 1)));
}

/// With a log, what that says is put right and nothing else: so a resync is known as one beside the dirty mark, and a check
/// is not recorded as one.
#[test]
fn with_a_log_a_resync_stays_one() {
    for (kind, fix) in [(2, true), (5, false), (2, false)] {
        let mut world = migrating(kind, fix, 3, 40);
        change(&mut world.disks, 0, &|record| {
            record[volume::HOLE_POLICY] = volume::POLICY_LOGS;
        });
        world.set = open(&world.disks).unwrap();
        let volume = world.set.set().volume(0).unwrap();
        let wanted = match (kind, fix) {
            (2, false) => Consistency::Dirty,
            _ => Consistency::Initialising { done_sectors: 0 },
        };
        assert_eq!(volume.consistency, wanted);
        world.apply(&Event::Dirty(0));
        let again = open(&world.disks).unwrap();
        assert_eq!(again.set().volume(0).unwrap().consistency, wanted);
        let wanted = match wanted {
            Consistency::Dirty => None,
            _ => Some((volume::VERIFY, true, 0, 3)),
        };
        assert_eq!(recorded(&again), wanted);
        world.apply(&Event::LeftLogOff {
            volume: 0,
            is_settled: false,
        });
        let again = open(&world.disks).unwrap();
        let volume = again.set().volume(0).unwrap();
        assert_eq!(volume.consistency, Consistency::Dirty);
    }
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    world.apply(&Event::CrashPolicySet(0, CrashPolicy::Log));
    let scrub = Scrub {
        repairs: false,
        done_sectors: 384 * 5,
    };
    world.apply(&Event::ScrubProgress(0, Some(scrub)));
    assert_eq!(recorded(&world.set), Some((volume::VERIFY, false, 5, 0)));
    world.apply(&Event::Dirty(0));
    assert_eq!(recorded(&world.set), None);
    world.apply(&Event::Clean(0));
    assert_eq!(recorded(&world.set), Some((volume::VERIFY, false, 5, 0)));
}

/// A check goes on after a restart, a repair as a resync from where it was.
#[test]
fn scrubs_outlive_a_restart() {
    for (level, count) in [(Level::Raid1, 2), (Level::Raid5, 3), (Level::Raid10, 4)] {
        let mut world = World::created(count, 64, 512, 6);
        let disks: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
        world.apply(&Event::VolumeCreated(spec("v", level, &disks)));
        let read = |world: &World| {
            let again = open(&world.disks).unwrap();
            let volume = again.set().volume(0).unwrap();
            (volume.consistency, volume.scrub)
        };
        let clean = Consistency::Clean;
        let scrub = |repairs, done_sectors| Scrub {
            repairs,
            done_sectors,
        };
        for done_sectors in [0, 16 * 1536, 32 * 1536] {
            let said = Some(scrub(false, done_sectors));
            world.apply(&Event::ScrubProgress(0, said));
            assert_eq!(read(&world), (clean, said), "{level}");
            let said = Some(scrub(true, done_sectors));
            world.apply(&Event::ScrubProgress(0, said));
            assert_eq!(
                read(&world),
                (Consistency::Initialising { done_sectors }, None),
                "{level}"
            );
            // What it says while writes are in flight counts when they are not any more.
            world.apply(&Event::Dirty(0));
            let said = Some(scrub(false, done_sectors + 1536));
            world.apply(&Event::ScrubProgress(0, said));
            assert_eq!(read(&world), (Consistency::Dirty, None), "{level}");
            world.apply(&Event::Clean(0));
            assert_eq!(read(&world), (clean, said), "{level}");
        }
        let size = world.set.set().volume(0).unwrap().size_sectors;
        world.refuse(&Event::ScrubProgress(0, Some(scrub(false, size + 1))));
        world.apply(&Event::ScrubProgress(0, None));
        assert_eq!(read(&world), (clean, None));
        assert_eq!(recorded(&world.set), None);
        // A resync has the place, then the check again; a lost member ends it.
        let said = Some(scrub(false, 1536));
        world.apply(&Event::ScrubProgress(0, said));
        world.apply(&Event::ResyncProgress {
            volume: 0,
            done_sectors: 2 * 1536,
        });
        let done_sectors = 2 * 1536;
        assert_eq!(
            read(&world),
            (Consistency::Initialising { done_sectors }, None)
        );
        world.apply(&Event::ScrubProgress(0, said));
        assert_eq!(
            read(&world),
            (Consistency::Initialising { done_sectors }, None)
        );
        world.apply(&Event::ResyncDone(0));
        assert_eq!(read(&world), (clean, said));
        world.apply(&Event::DiskFailed(1));
        assert_eq!(read(&world), (clean, None));
        assert_eq!(recorded(&world.set), None);
    }
}

/// Where there is no room for a second map there is no check, and all else stays as it was.
#[test]
fn a_check_that_has_no_room_is_not_recorded() {
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    let size = world.set.mpb.raw().size();
    world.set.mpb.set_limit(size + 1024 + 48 + 12 - 1);
    let scrub = Scrub {
        repairs: true,
        done_sectors: 0,
    };
    world.apply(&Event::ScrubProgress(0, Some(scrub)));
    assert_eq!(recorded(&world.set), None);
    assert_eq!(world.set.set().volume(0).unwrap().scrub, None);
    world.set.mpb.set_limit(size + 1024 + 48 + 12);
    world.apply(&Event::ScrubProgress(0, Some(scrub)));
    assert_eq!(recorded(&world.set), Some((volume::VERIFY, true, 0, 0)));
}

/// A mirror's units: mdadm's are 512 sectors whatever the version; graid's as long as its strips, and it dates nothing. What is read is
/// never beyond either's mark, and what is written neither of them takes for more.
#[test]
fn marks_of_who_counts_otherwise() {
    for (modern, strip, graid) in [(false, 128, 256), (true, 128, 256), (true, 512, 1024)] {
        for (dated, kind) in [(false, 1), (true, 1), (false, 2), (true, 2)] {
            let mut disks = sample("gen/raid1-rebuild");
            for disk in &mut disks {
                reseal(disk, &mut |mpb| {
                    if !modern {
                        mpb[header::VERSION..][..8].copy_from_slice(b"1.1.00\0\0");
                    }
                    if !dated {
                        mpb[header::CREATED..][..8].fill(0);
                    }
                });
            }
            change(&mut disks, 0, &|record| {
                if record[volume::MIGRATING] == 0 {
                    // Of a disk that was replaced.
                    return;
                }
                record[volume::KIND] = kind;
                record[volume::STATUS] |= 0x80;
                record[volume::UNIT_LO..][..4].copy_from_slice(&80u32.to_le_bytes());
                for map in [0, 56] {
                    let map = volume::BYTES + map;
                    record[map + map::STRIP..][..2].copy_from_slice(&(strip as u16).to_le_bytes());
                    let stripes = 118784 / (2 * strip as u32);
                    record[map + map::STRIPES_LO..][..4].copy_from_slice(&stripes.to_le_bytes());
                    if kind == 2 {
                        for slot in 0..2 {
                            record[map + map::ORDER + 4 * slot + 3] = 0;
                        }
                        record[map + map::STATE] = map::NORMAL;
                    }
                }
            });
            let keyed: Vec<(u64, &Disk)> = (0u64..).zip(disks.iter()).collect();
            let set = open_keyed(&keyed).unwrap();
            let mut world = World::new(set, disks.clone(), 0);
            let mark = |world: &World| {
                let volume = world.set.set().volume(0).unwrap();
                let rebuilt = volume.members.iter().find_map(|member| match member.state {
                    MemberState::Rebuilding { done_sectors } => Some(done_sectors),
                    _ => None,
                });
                match volume.consistency {
                    Consistency::Initialising { done_sectors } => done_sectors,
                    _ => rebuilt.unwrap(),
                }
            };
            let mdadm: u64 = if strip == 512 && kind == 2 { 256 } else { 512 };
            let unit = if dated { mdadm } else { mdadm.min(graid) };
            let what = format!("{modern} {strip} {dated} {kind}");
            assert_eq!(mark(&world), 80 * unit, "{what}");
            let done_sectors = 98_304;
            let event = match kind {
                1 => {
                    let members = &world.set.set().volume(0).unwrap().members;
                    let is_rebuilt = |member: &Member| member.state != MemberState::InSync;
                    let slot = members.iter().position(is_rebuilt).unwrap() as u16;
                    Event::RebuildProgress {
                        volume: 0,
                        slot,
                        done_sectors,
                    }
                }
                _ => Event::ResyncProgress {
                    volume: 0,
                    done_sectors,
                },
            };
            world.apply(&event);
            let raw = world.set.mpb.raw();
            let units = u64::from(raw.u32(raw.volume_at(0) + volume::UNIT_LO));
            assert_eq!(units, done_sectors / mdadm.max(graid), "{what}");
        }
    }
}

/// A verification that only looked is a check that goes on, and a resync when there is something to sync.
#[test]
fn a_verification_is_carried_on() {
    let world = migrating(2, false, 0, 40);
    let mut set = open(&world.disks).unwrap();
    let check = Scrub {
        repairs: false,
        done_sectors: 40 * 384,
    };
    assert_eq!(set.set().volume(0).unwrap().scrub, Some(check));
    let done = 10 * 384;
    set.apply(
        &Event::ResyncProgress {
            volume: 0,
            done_sectors: done,
        },
        &context(2),
    )
    .unwrap();
    assert_eq!(recorded(&set), Some((volume::VERIFY, true, 10, 0)));
    set.apply(&Event::ResyncDone(0), &context(3)).unwrap();
    assert_eq!(recorded(&set), Some((volume::VERIFY, false, 40, 0)));
    set.apply(&Event::ScrubProgress(0, None), &context(4))
        .unwrap();
    assert_eq!(recorded(&set), None);
}

/// A resync after a crash, and an initialisation in which there were writes, are stopped with nothing in flight: they go on
/// at their mark. One that a person asks for while writes are in flight begins anew after a crash, as any.
#[test]
fn marks_outlive_a_clean_stop() {
    let done_sectors = 5 * 384;
    let progress = |done_sectors| Event::ResyncProgress {
        volume: 0,
        done_sectors,
    };
    let marked = Consistency::Initialising { done_sectors };
    for (assume_clean, log) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut world = World::created(3, 64, 512, 6);
        let all = [Some(0), Some(1), Some(2)];
        world.apply(&Event::VolumeCreated(VolumeSpec {
            assume_clean,
            ..spec("v", Level::Raid5, &all)
        }));
        if log {
            world.apply(&Event::CrashPolicySet(0, CrashPolicy::Log));
        }
        let read = |world: &World| {
            let set = open(&world.disks).unwrap();
            set.set().volume(0).unwrap().consistency
        };
        world.apply(&Event::Dirty(0));
        world.apply(&progress(0));
        let crashed = match assume_clean && !log {
            true => Consistency::Dirty,
            false => Consistency::Initialising { done_sectors: 0 },
        };
        assert_eq!(read(&world), crashed);
        world.apply(&progress(done_sectors));
        assert_eq!(read(&world), marked);
        world.apply(&Event::Clean(0));
        assert_eq!(read(&world), marked);
        world.apply(&progress(0));
        world.apply(&Event::Dirty(0));
        assert_eq!(read(&world), crashed);
        world.apply(&Event::ResyncDone(0));
        world.apply(&Event::Clean(0));
        assert_eq!(read(&world), Consistency::Clean);
    }
}
