// SPDX-License-Identifier: GPL-2.0

//! Tables that others left, or that were left apart: what is believed of them, what is kept, and what is only read.

use crate::asr_common::{
    apply, blanks, carry_out, context, create, make_lone_spare, open, show, spec, state_of, writes,
    Of, World,
};
use emd_core::metadata::asr::layout::{header, state, Line, TABLE_BYTES};
use emd_core::metadata::asr::table::Table;
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Access, Consistency, DiskIndex, DiskRole, DiskState, Event, Level, MemberState, SpareRole,
    Text, VolumeSpec,
};
use host_tests::samples::Disk;
use host_tests::shell::open_keyed;

/// The disks of most volumes here.
static PAIR: [Option<DiskIndex>; 2] = [Some(0), Some(1)];

/// A mirror that is in sync.
fn mirror() -> VolumeSpec<'static> {
    VolumeSpec {
        assume_clean: true,
        ..spec("a", Level::Raid1, &PAIR)
    }
}

/// A set with that mirror.
fn mirrored(disks: usize) -> World {
    let mut world = World::created(disks, 8, 512, 0);
    world.apply(&Event::VolumeCreated(mirror()));
    world
}

/// A set with a mirror that has not been synced yet.
fn unsynced() -> World {
    let mut world = World::created(3, 8, 512, 0);
    world.apply(&Event::VolumeCreated(spec("a", Level::Raid1, &PAIR)));
    world
}

/// Where the table of one of our disks is.
fn table_at(disk: &Disk) -> u64 {
    disk.size_sectors - 17
}

/// The magic number of a disk, as its last sector has it.
fn disks_magic(disk: &Disk) -> u32 {
    let block = disk.read(disk.size_sectors - 1, 1);
    u32::from_be_bytes(block[0x40..0x44].try_into().unwrap())
}

fn table_bytes(disk: &Disk) -> Vec<u8> {
    disk.read(table_at(disk), 16)
}

/// Changes a disk's table behind the set's back.
fn edit_table(disk: &mut Disk, change: impl FnOnce(&mut Table)) {
    let mut table = Table::new(&table_bytes(disk)).unwrap();
    change(&mut table);
    disk.write(table_at(disk), table.bytes());
}

/// The same disks after somebody else wrote to the table: EMD's seal is broken.
fn written_by_others(disks: &[Disk]) -> Vec<Disk> {
    let mut theirs = disks.to_vec();
    for disk in &mut theirs {
        let mut bytes = table_bytes(disk);
        bytes[header::PRIORITY] ^= 1;
        disk.write(table_at(disk), &bytes);
    }
    theirs
}

/// What dmraid does not know to have been dirty by halves: someone else's mark means all arrays.
#[test]
fn a_dirty_mark_of_others_is_for_all() {
    let mut world = World::created(4, 8, 512, 0);
    let pairs = [[Some(0), Some(1)], [Some(2), Some(3)]];
    for (name, pair) in ["a", "b"].into_iter().zip(&pairs) {
        world.apply(&Event::VolumeCreated(VolumeSpec {
            assume_clean: true,
            ..spec(name, Level::Raid1, pair)
        }));
    }
    world.apply(&Event::Dirty(1));
    let set = open(&written_by_others(&world.disks)).unwrap();
    for volume in 0..2 {
        let volume = set.set().volume(volume).unwrap();
        assert_eq!(volume.consistency, Consistency::Dirty);
    }
}

/// Progress that somebody else has written counts for nothing: it may be in other units.
#[test]
fn progress_of_others_is_not_believed() {
    let mut world = unsynced();
    world.apply(&Event::ResyncProgress {
        volume: 0,
        done_sectors: 1024,
    });
    world.apply(&Event::DiskFailed(0));
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 0,
        disk: 2,
    });
    world.apply(&Event::RebuildProgress {
        volume: 0,
        slot: 0,
        done_sectors: 512,
    });
    let set = open(&written_by_others(&world.disks)).unwrap();
    let volume = set.set().volume(0).unwrap();
    assert_eq!(
        volume.consistency,
        Consistency::Initialising { done_sectors: 0 }
    );
    assert_eq!(
        volume.members[0].state,
        MemberState::Rebuilding { done_sectors: 0 }
    );
}

#[test]
fn disks_used_apart_are_not_put_together() {
    let world = mirrored(2);
    for more in [0, 1] {
        let disks = &world.disks;
        let mut first = open(disks).unwrap();
        let mut second = open(disks).unwrap();
        let mut apart = disks.clone();
        apply(&mut first, &mut apart, &Event::DiskMissing(1), 1).unwrap();
        apply(&mut second, &mut apart, &Event::DiskMissing(0), 2).unwrap();
        for n in 0..more {
            let name = Text::from_text("later");
            apply(
                &mut first,
                &mut apart,
                &Event::VolumeRenamed(0, name),
                3 + n,
            )
            .unwrap();
        }
        let set = open(&apart).unwrap();
        let access = &set.set().volume(0).unwrap().access;
        assert!(
            matches!(access, Access::Refused(why) if why.text().contains("apart")),
            "{more}: {access:?}"
        );
    }
}

/// A loss of which one disk only heard before a cut, and which the others, who start without it, record of that
/// one with the number that its table has: it was used by nobody, so what the others say counts. (Found by the
/// simulator.)
#[test]
fn an_update_that_was_cut_is_no_use_apart() {
    for (level, members, heard, lost) in [(Level::Raid10, 4, 3, 3), (Level::Raid1, 2, 2, 1)] {
        let mut world = World::created(members, 8, 512, 0);
        let slots: Vec<_> = (0..members as u16).map(Some).collect();
        world.apply(&Event::VolumeCreated(VolumeSpec {
            assume_clean: true,
            ..spec("a", level, &slots)
        }));
        if heard == members {
            world.add(8, SpareRole::Global);
        }
        let disks = &world.disks;
        let mut set = open(disks).unwrap();
        set.apply(&Event::DiskMissing(0), &context(1)).unwrap();
        let mut told = disks.clone();
        carry_out(&mut told, &writes(&set));
        let mut own = disks.clone();
        let keys = (0..disks.len()).filter(|&key| key != heard);
        let keyed: Vec<_> = keys.map(|key| (key as u64, &disks[key])).collect();
        let mut set = open_keyed(Of, &keyed).unwrap();
        apply(&mut set, &mut own, &Event::DiskFailed(lost), 2).unwrap();
        own[heard] = told[heard].clone();
        let set = open(&own).unwrap();
        let volume = set.set().volume(0).unwrap();
        assert!(matches!(volume.access, Access::ReadWrite), "{volume:?}");
        for (slot, member) in volume.members.iter().enumerate() {
            let is_lost = slot == usize::from(lost);
            assert_eq!(
                member.state == MemberState::InSync,
                !is_lost,
                "{level}: {slot}"
            );
        }
    }
}

/// A member that was left out is not taken for a good one, and a disk that an update did not reach
/// is not taken for a stale one.
#[test]
fn stale_and_late_disks() {
    let mut world = mirrored(2);
    let old = world.disks.clone();
    world.apply(&Event::DiskMissing(1));
    let set = open(&world.disks).unwrap();
    assert_eq!(set.set().disks[1].state, DiskState::Failed);
    assert_eq!(
        set.set().volume(0).unwrap().members[1].state,
        MemberState::Failed
    );

    let mut late = old;
    let mut set = open(&late).unwrap();
    set.apply(&Event::VolumeRenamed(0, Text::from_text("b")), &context(7))
        .unwrap();
    let plan = writes(&set);
    carry_out(&mut late, &plan[..1]);
    let mut set = open(&late).unwrap();
    let volume = set.set().volume(0).unwrap();
    assert_eq!(volume.name.as_str(), "b");
    assert!(volume
        .members
        .iter()
        .all(|member| member.state == MemberState::InSync));
    // The next update, whatever it is about, brings the other one up.
    apply(&mut set, &mut late, &Event::Dirty(0), 8).unwrap();
    let tables: Vec<Vec<u8>> = late.iter().map(table_bytes).collect();
    assert_eq!(tables[0], tables[1]);
}

/// What is not understood is kept: unknown lines, unknown fields, whatever happens around them.
#[test]
fn unknown_lines_and_fields_are_kept() {
    let mut disks = blanks(3, 8);
    let mut set = create(&mut disks);
    apply(&mut set, &mut disks, &Event::VolumeCreated(mirror()), 1).unwrap();
    let unknown = Line {
        kind: 2,
        magic: 0x1234_5678,
        name: *b"\x01\x02\xff unknown \0\0\0\0",
        burst: 0xDEAD_BEEF,
        sequence: 0xABCD,
        ..Line::default()
    };
    for disk in &mut disks {
        edit_table(disk, |table| {
            table.insert(table.spares().unwrap(), &unknown);
            for (at, byte) in [(0x10, 0x77), (0x16, 0x99), (0x33, 0x55)] {
                table.head_mut()[at] = byte;
            }
            for index in 0..table.len() {
                table.edit(index, |line| {
                    if line.is_known() {
                        line.bios = 0x4242;
                        line.lsu = 0x1357_9BDF;
                        line.target = 0x8201;
                    }
                });
            }
            table.seal();
        });
        let last = disk.size_sectors - 1;
        let mut block = disk.read(last, 1);
        for at in (4..0x3F).chain(0x44..0x100).chain(0x108..512) {
            block[at] = at as u8;
        }
        disk.write(last, &block);
    }
    let set = open(&disks).unwrap();
    assert!(set
        .set()
        .notes
        .iter()
        .any(|note| note.as_str().contains("unknown")));
    let mut world = World::new(set, disks.clone(), 2);
    let volume = 0;
    world.apply(&Event::Dirty(volume));
    world.apply(&Event::DiskFailed(0));
    world.apply(&Event::SpareActivated {
        volume,
        slot: 0,
        disk: 2,
    });
    world.apply(&Event::RebuildDone { volume, slot: 0 });
    world.apply(&Event::DiskRemoved(0));
    let kept = |world: &World| {
        let line = world.set.table.lines().find(|(_, line)| line.kind == 2);
        assert_eq!(line.unwrap().1, unknown);
        for (at, byte) in [(0x10, 0x77), (0x16, 0x99), (0x33, 0x55)] {
            assert_eq!(world.set.table.head()[at], byte);
        }
        let last = world.disks[1].size_sectors - 1;
        assert_eq!(world.disks[1].read(last, 1), disks[1].read(last, 1));
    };
    kept(&world);
    let top = world
        .set
        .table
        .volume_line(world.set.volumes[0].magic)
        .unwrap();
    for index in world.set.table.volume(top) {
        let line = world.set.table.line(index).unwrap();
        if line.is_known() {
            assert_eq!(
                (line.bios, line.lsu, line.target),
                (0x4242, 0x1357_9BDF, 0x8201)
            );
        }
    }
    world.apply(&Event::VolumeDeleted(volume));
    kept(&world);
}

/// A spare as firmware has it: a table of its own, which names the array that it is for, or none.
#[test]
fn lone_spares_of_others() {
    let mut disks = blanks(3, 8);
    let mut set = create(&mut disks);
    apply(&mut set, &mut disks, &Event::VolumeCreated(mirror()), 1).unwrap();
    apply(&mut set, &mut disks, &Event::DiskRemoved(2), 2).unwrap();
    let array = set.volumes[0].magic;
    // The members as firmware has them: without EMD's marks.
    for disk in &mut disks[..2] {
        edit_table(disk, |table| table.head_mut()[0x34..0x40].fill(0));
    }
    let lone = |array: u32, magic: u32| {
        let mut disk = disks[0].clone();
        let at = table_at(&disk);
        make_lone_spare(&mut disk, at, array, magic);
        disk
    };
    // For this array: it is part of its set, and is used like any other.
    let all = [disks[0].clone(), disks[1].clone(), lone(array, 77)].to_vec();
    let set = open(&all).unwrap();
    assert_eq!(set.set().disks[2].role, DiskRole::DedicatedSpare(0));
    assert!(!set.set().lends_spares);
    // Firmware numbers a table of its own as it likes; no number makes it the set's.
    for ahead in [1, 5, 0x7000] {
        let mut numbered = all.clone();
        edit_table(&mut numbered[2], |table| {
            table.stamp(table.sequence().wrapping_add(ahead));
        });
        for _ in 0..3 {
            numbered.rotate_left(1);
            let set = open(&numbered).unwrap();
            assert_eq!(set.set().live_volumes().count(), 1, "{ahead}");
            let volume = &set.set().volumes[0];
            assert!(volume
                .members
                .iter()
                .all(|member| member.state == MemberState::InSync));
            let is_spare = |disk: &emd_core::model::Disk| disk.role == DiskRole::DedicatedSpare(0);
            assert_eq!(
                set.set().disks.iter().filter(|disk| is_spare(disk)).count(),
                1
            );
        }
        // The set's next update numbers it as all others.
        let mut world = World::new(open(&numbered).unwrap(), numbered, 4);
        world.apply(&Event::Dirty(0));
        world.apply(&Event::Clean(0));
    }
    // Of a disk that another table has as a member its own one counts: that member is none any more.
    let mut made_spare = all[..2].to_vec();
    made_spare[1] = lone(array, disks_magic(&all[1]));
    edit_table(&mut made_spare[1], |table| {
        table.stamp(table.sequence().wrapping_add(5))
    });
    let set = open(&made_spare).unwrap();
    let mut members = set
        .set()
        .live_volumes()
        .flat_map(|(_, volume)| volume.members.iter());
    assert!(!members.any(|member| member.state == MemberState::InSync));
    let mut world = World::new(open(&all).unwrap(), all, 4);
    world.apply(&Event::DiskFailed(1));
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: 2,
    });
    world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
    // For any array: a set of its own, of which a disk can be taken out, and nothing else.
    let pool = vec![lone(u32::MAX, 5), lone(0, 6)];
    let set = open(&pool).unwrap();
    assert!(set.set().lends_spares);
    let mut world = World::new(set, pool, 0);
    for disk in 0..2 {
        assert_eq!(world.role(disk), DiskRole::GlobalSpare);
        assert_eq!(world.state(disk), DiskState::Online);
    }
    world.refuse(&Event::SpareAssigned(0, SpareRole::None));
    let both = [Some(0), Some(1)];
    world.refuse(&Event::VolumeCreated(spec("x", Level::Raid1, &both)));
    world.apply(&Event::DiskRemoved(0));
    let state = state_of(&world.disks, &[0]);
    assert!(state.contains("no disk carries"), "{state}");
}

/// The format's 16-bit number starts again; what is after 65535 is newer all the same.
#[test]
fn sequence_numbers_start_again() {
    let mut disks = blanks(2, 8);
    drop(create(&mut disks));
    for disk in &mut disks {
        edit_table(disk, |table| {
            table.stamp(u16::MAX - 1);
            table.seal();
        });
    }
    let mut set = open(&disks).unwrap();
    apply(&mut set, &mut disks, &Event::VolumeCreated(mirror()), 1).unwrap();
    for n in 0..4 {
        let name = Text::from_text(&format!("n{n}"));
        set.apply(&Event::VolumeRenamed(0, name), &context(n))
            .unwrap();
        let plan = writes(&set);
        let mut half = disks.clone();
        carry_out(&mut half, &plan[..1]);
        let half = open(&half).unwrap();
        assert_eq!(half.set().volume(0).unwrap().name, name);
        carry_out(&mut disks, &plan);
    }
    assert_eq!(set.set().generation, 3);
}

/// A table beyond what can be changed in one go, or one without room for that: nothing is written.
#[test]
fn tables_that_cannot_be_changed_safely_are_only_read() {
    let mut disks = blanks(9, 8);
    let mut set = create(&mut disks);
    apply(&mut set, &mut disks, &Event::VolumeCreated(mirror()), 0).unwrap();
    let disk = &mut disks[0];
    let last = disk.size_sectors - 1;
    // The place of the table is at the very end: no second half.
    let table = table_bytes(disk);
    let moved = last - 4;
    disk.write(moved, &table[..4 * 512]);
    let mut block = disk.read(last, 1);
    block[0x104..0x108].copy_from_slice(&(moved as u32).to_be_bytes());
    disk.write(last, &block);
    let before = show(set.set());
    let mut set = open(&disks).unwrap();
    assert_ne!(before, show(set.set()), "its place is another one");
    for event in [Event::SpareAssigned(2, SpareRole::Global), Event::Dirty(0)] {
        let why = set.apply(&event, &context(1)).unwrap_err();
        assert!(why.text().contains("too long"), "{why}");
    }
    let access = &set.set().volume(0).unwrap().access;
    assert!(
        matches!(access, Access::ReadOnly(why) if why.text().contains("too long")),
        "{access:?}"
    );
    set.apply(&Event::DiskFailed(1), &context(1)).unwrap();
    assert!(set.plan().is_empty());
    assert_eq!(state::FAILED, 3);
    assert_eq!(TABLE_BYTES, 8192);
}

/// Marks keep the sequence number; when an update of them was cut, the most careful copy counts.
#[test]
fn of_several_marks_the_most_careful_counts() {
    let mut world = unsynced();
    let cut = |world: &World, event: Event<'_>, reached: usize| {
        let mut set = open(&world.disks).unwrap();
        let mut disks = world.disks.clone();
        set.apply(&event, &context(9)).unwrap();
        let plan = writes(&set);
        assert_eq!(plan.len(), 3);
        carry_out(&mut disks, &plan[reached..=reached]);
        let set = open(&disks).unwrap();
        let consistency = set.set().volume(0).unwrap().consistency;
        consistency
    };
    let at = |done_sectors| Event::ResyncProgress {
        volume: 0,
        done_sectors,
    };
    world.apply(&at(1024));
    for reached in 0..3 {
        for (mark, careful) in [(2048, 1024), (64, 64)] {
            let careful = Consistency::Initialising {
                done_sectors: careful,
            };
            assert_eq!(cut(&world, at(mark), reached), careful, "disk {reached}");
        }
    }
    world.apply(&Event::ResyncDone(0));
    for reached in 0..3 {
        let state = cut(&world, Event::Dirty(0), reached);
        assert_eq!(state, Consistency::Dirty, "disk {reached}");
    }
}

/// A dirty mark that reached one disk only is on all of them before the set is relied on: the disk that
/// has it may be the next one to go.
#[test]
fn a_cut_dirty_mark_is_renewed() {
    let mut world = unsynced();
    world.apply(&Event::ResyncDone(0));
    for reached in 0..3 {
        let mut set = open(&world.disks).unwrap();
        let mut disks = world.disks.clone();
        set.apply(&Event::Dirty(0), &context(9)).unwrap();
        let plan = writes(&set);
        carry_out(&mut disks, &plan[reached..=reached]);
        let mut set = open(&disks).unwrap();
        apply(&mut set, &mut disks, &Event::Dirty(0), 10).unwrap();
        for disk in &disks {
            let set = open(std::slice::from_ref(disk)).unwrap();
            let consistency = set.set().volume(0).unwrap().consistency;
            assert_eq!(consistency, Consistency::Dirty, "reached {reached}");
        }
        // All have it now: nothing more is written.
        set.apply(&Event::Dirty(0), &context(11)).unwrap();
        assert!(set.plan().is_empty());
    }
}
