// SPDX-License-Identifier: GPL-2.0

//! Which disks count after losses, after updates that were cut, and when some of them were away meanwhile.

use crate::md_common::{apply, blanks, create, facts, open, open_keyed, Of, World, ALL};
use emd_core::metadata::md::{Md, MdSet, Version, MD_090, MD_10, MD_12};
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Access, Consistency, DiskOffer, DiskState, Event, Level, MemberState, SpareRole, VolumeSpec,
};
use host_tests::crash::{cut_everywhere, Random};
use host_tests::samples::Disk;
use host_tests::shell::{carry_out, context, spec, writes};

/// More lost than the array bears: nothing is written, so that what is there can come back.
#[test]
fn beyond_redundancy_nothing_is_given_up() {
    for format in ALL {
        for (level, count) in [(Level::Raid0, 2), (Level::Raid5, 3), (Level::Raid1, 2)] {
            let mut world = World::made(Of(format), count, 50, 512, 0);
            let disks: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
            let mut spec = spec("", level, &disks);
            spec.assume_clean = true;
            world.apply(&Event::VolumeCreated(spec));
            world.apply(&Event::Dirty(0));
            if level.is_redundant() {
                world.apply(&Event::DiskFailed(0));
                assert!(!world.set.plan().is_empty());
            }
            let before = world.disks.clone();
            world
                .set
                .apply(&Event::DiskFailed(1), &crate::md_common::context(5))
                .unwrap();
            assert!(world.set.plan().is_empty(), "{level}");
            if level.is_redundant() {
                for event in [Event::Clean(0), Event::Dirty(0), Event::ResyncDone(0)] {
                    assert!(world
                        .set
                        .apply(&event, &crate::md_common::context(6))
                        .is_err());
                }
            }
            // After a restart the member is as good as it was.
            let again = open(format, &before).unwrap();
            let member = again.set().volume(0).unwrap().members[1];
            assert_eq!(member.state, MemberState::InSync);
            assert!(again.is_whole());
        }
    }
}

/// A member that was lost loses against the others, whoever else is here.
#[test]
fn a_lost_member_stays_lost() {
    for format in ALL {
        for missing in [false, true] {
            let mut world = World::made(Of(format), 3, 50, 512, 0);
            let all = [Some(0), Some(1), Some(2)];
            world.apply(&Event::VolumeCreated(spec("", Level::Raid5, &all)));
            let event = if missing {
                Event::DiskMissing(1)
            } else {
                Event::DiskFailed(1)
            };
            let (set, disks) = (&mut world.set, &mut world.disks);
            apply(set, disks, &event, 60).unwrap();
            for others in [vec![0, 2], vec![0], vec![2]] {
                let keyed: Vec<(u64, &Disk)> = others
                    .iter()
                    .chain(&[1])
                    .map(|&key| (key, &world.disks[key as usize]))
                    .collect();
                let again = open_keyed(format, &keyed).unwrap();
                let member = again.set().volume(0).unwrap().members[1];
                assert_ne!(member.state, MemberState::InSync);
                let disk = again.set().disk_by_key(1).unwrap();
                let state = again.set().disk(disk).unwrap().state;
                let known = !missing && format.0 != Version::V090;
                let expected = if known {
                    DiskState::Failed
                } else {
                    DiskState::Stale
                };
                assert_eq!(state, expected);
            }
        }
    }
}

/// An update was cut, so that some disks are one event behind; the next one is cut as well: nobody is
/// two behind then. (Found by the simulator.)
#[test]
fn two_updates_that_are_cut() {
    for format in ALL {
        let mut world = World::made(Of(format), 5, 40, 512, 0);
        let disks: Vec<Option<u16>> = (0..5).map(Some).collect();
        world.apply(&Event::VolumeCreated(spec("", Level::Raid6, &disks)));
        world.apply(&Event::ResyncDone(0));
        let before = world.disks.clone();
        world.apply(&Event::Dirty(0));
        for behind in [1, 4] {
            world.disks[behind] = before[behind].clone();
        }
        for event in [Event::DiskFailed(2), Event::Clean(0)] {
            let set = open(format, &world.disks).unwrap();
            let mut world = World::of(Of(format), set, world.disks.clone(), 8);
            world.apply(&event);
            world.apply(&Event::ResyncDone(0));
        }
    }
}

/// A spare that is away while another one gets its number is an old disk when it is back, even if it missed
/// no more than that.
#[test]
fn a_number_that_was_given_away_belongs_to_the_new_disk() {
    for format in [&MD_10, &MD_12] {
        let mut disks = blanks(4, 40, 512);
        let mut set = create(format, &disks[..2], "a");
        let slots = [Some(0), Some(1)];
        let made = Event::VolumeCreated(spec("a", Level::Raid1, &slots));
        apply(&mut set, &mut disks, &made, 1).unwrap();
        let offer = |disks: &[Disk], key: usize| {
            Event::DiskAdded(DiskOffer {
                facts: facts(&disks[key], key as u64),
                role: SpareRole::Global,
            })
        };
        let event = offer(&disks, 2);
        apply(&mut set, &mut disks, &event, 2).unwrap();
        // Without it.
        let keyed = [(0, &disks[0]), (1, &disks[1])];
        let mut set = open_keyed(format, &keyed).unwrap();
        let event = offer(&disks, 3);
        apply(&mut set, &mut disks, &event, 3).unwrap();
        let set = open(format, &disks).unwrap();
        let volume = &set.set().volumes[0];
        assert!(matches!(volume.access, Access::ReadWrite), "{volume:?}");
        let state = |key| {
            set.set()
                .disk(set.set().disk_by_key(key).unwrap())
                .unwrap()
                .state
        };
        assert_eq!((state(2), state(3)), (DiskState::Stale, DiskState::Online));
        // A copy of the new one is another matter.
        let mut twice = disks.clone();
        twice[2] = disks[3].clone();
        let set = open(format, &twice).unwrap();
        assert!(matches!(set.set().volumes[0].access, Access::Refused(_)));
    }
}

/// Two disks with one number, as each was added while the other was away, and neither was more than a spare
/// yet, or about to be filled: one of them is old. 0.90 says nothing else of them.
#[test]
fn of_two_disks_with_one_number_and_no_data_one_is_old() {
    for format in ALL {
        for fills in [false, true] {
            let mut disks = blanks(5, 40, 512);
            let mut set = create(format, &disks[..3], "");
            let slots = [Some(0), Some(1), Some(2)];
            let made = Event::VolumeCreated(VolumeSpec {
                assume_clean: true,
                ..spec("", Level::Raid5, &slots)
            });
            apply(&mut set, &mut disks, &made, 1).unwrap();
            let before = disks.clone();
            // The same is done with either of two disks, while the other one is away.
            for added in [3, 4] {
                let mut own = before.clone();
                let keyed = [(0, &before[0]), (1, &before[1])];
                let mut set = open_keyed(format, &keyed).unwrap();
                let lost = set
                    .set()
                    .live_disks()
                    .find(|(_, disk)| disk.facts.is_none())
                    .map(|(index, _)| index);
                apply(&mut set, &mut own, &Event::DiskMissing(lost.unwrap()), 2).unwrap();
                let offer = DiskOffer {
                    facts: facts(&before[added], added as u64),
                    role: SpareRole::Global,
                };
                apply(
                    &mut set,
                    &mut own,
                    &Event::DiskAdded(offer),
                    3 + added as u64,
                )
                .unwrap();
                let disk = set.set().disk_by_key(added as u64).unwrap();
                let (volume, slot) = (0, 2);
                let event = Event::SpareActivated { volume, slot, disk };
                if fills {
                    apply(&mut set, &mut own, &event, 10 + added as u64).unwrap();
                }
                disks[added] = own[added].clone();
                (disks[0], disks[1]) = (own[0].clone(), own[1].clone());
            }
            let here = [
                (0, &disks[0]),
                (1, &disks[1]),
                (3, &disks[3]),
                (4, &disks[4]),
            ];
            let set = open_keyed(format, &here).unwrap();
            let volume = &set.set().volumes[0];
            assert!(matches!(volume.access, Access::ReadWrite), "{volume:?}");
            let old = |key| {
                let disk = set.set().disk_by_key(key).unwrap();
                set.set().disk(disk).unwrap().state == DiskState::Stale
            };
            assert_eq!(u8::from(old(3)) + u8::from(old(4)), 1);
        }
    }
}

/// A dirty mark that a cut left on some disks only is renewed on all of them: those that have it may go.
#[test]
fn an_uneven_dirty_mark_is_renewed() {
    for format in ALL {
        let mut disks = blanks(3, 40, 512);
        let mut set = create(format, &disks, "");
        let slots = [Some(0), Some(1), Some(2)];
        let made = Event::VolumeCreated(VolumeSpec {
            assume_clean: true,
            ..spec("", Level::Raid1, &slots)
        });
        apply(&mut set, &mut disks, &made, 1).unwrap();
        let mut one = disks.clone();
        apply(&mut set, &mut one, &Event::Dirty(0), 2).unwrap();
        disks[0] = one[0].clone();
        let mut set = open(format, &disks).unwrap();
        assert_eq!(set.set().volumes[0].consistency, Consistency::Dirty);
        apply(&mut set, &mut disks, &Event::Dirty(0), 3).unwrap();
        let left = [(1, &disks[1]), (2, &disks[2])];
        let set = open_keyed(format, &left).unwrap();
        assert_eq!(set.set().volumes[0].consistency, Consistency::Dirty);
    }
}

/// The only member that is left is damaged by a cut in the middle of its superblock, after a new disk got its
/// own: what that one says of the member that was lost before counts.
#[test]
fn a_new_disk_knows_who_was_lost_before_it_came() {
    for format in ALL {
        let mut disks = blanks(3, 40, 512);
        let mut set = create(format, &disks[..2], "");
        let slots = [Some(0), Some(1)];
        let made = Event::VolumeCreated(VolumeSpec {
            assume_clean: true,
            ..spec("", Level::Raid1, &slots)
        });
        apply(&mut set, &mut disks, &made, 1).unwrap();
        let lost = disks[0].clone();
        apply(&mut set, &mut disks, &Event::DiskMissing(0), 2).unwrap();
        apply(&mut set, &mut disks, &Event::Dirty(0), 3).unwrap();
        let offer = DiskOffer {
            facts: facts(&disks[2], 2),
            role: SpareRole::Global,
        };
        apply(&mut set, &mut disks, &Event::DiskAdded(offer), 4).unwrap();
        let set = open_keyed(format, &[(0, &lost), (2, &disks[2])]).unwrap();
        let members: Vec<_> = set.set().volumes[0].members.iter().collect();
        assert!(
            members
                .iter()
                .all(|member| member.state != MemberState::InSync),
            "{members:?}"
        );
    }
}

/// A loss of which one disk only heard before a cut: without the lost one the others go on, and from then on
/// all of them say that it is lost, in whatever order they are read.
#[test]
fn a_loss_that_one_disk_heard_of_is_told_by_all_later() {
    for format in [&MD_090, &MD_10, &MD_12] {
        let mut disks = blanks(3, 40, 512);
        // 0.90 has no place for a name.
        let name = if format.0 == Version::V090 { "" } else { "a" };
        let mut set = create(format, &disks, name);
        let slots = [Some(0), Some(1), Some(2)];
        let made = Event::VolumeCreated(VolumeSpec {
            assume_clean: true,
            ..spec(name, Level::Raid5, &slots)
        });
        apply(&mut set, &mut disks, &made, 1).unwrap();
        for heard in [0, 2] {
            let mut own = disks.clone();
            let mut told = disks.clone();
            let mut set = open(format, &disks).unwrap();
            set.apply(&Event::DiskMissing(1), &context(2)).unwrap();
            // The first phase in which superblocks are written; with 0.90 a copy of them goes before.
            let first = u16::from(format.0 == Version::V090);
            let cut: Vec<_> = writes(Of(format), &set)
                .into_iter()
                .filter(|write| write.phase <= first)
                .collect();
            carry_out(&mut told, &cut);
            own[heard] = told[heard].clone();
            let keyed = [(0, &own[0].clone()), (2, &own[2].clone())];
            let mut set = open_keyed(format, &keyed).unwrap();
            apply(&mut set, &mut own, &Event::Dirty(0), 3).unwrap();
            let set = open(format, &own).unwrap();
            let members = &set.set().volumes[0].members;
            assert_ne!(members[1].state, MemberState::InSync, "{heard}");
        }
    }
}

/// A disk whose place another one took is here and that other one is not: before anything is written without it, no
/// superblock has a member in that place any more.
#[test]
fn who_is_away_is_not_covered_by_who_had_the_place_before() {
    for format in [&MD_090, &MD_10, &MD_12] {
        let mut disks = blanks(4, 40, 512);
        let mut set = create(format, &disks[..3], "");
        let slots = [Some(0), Some(1), Some(2)];
        let made = Event::VolumeCreated(VolumeSpec {
            assume_clean: true,
            ..spec("", Level::Raid1, &slots)
        });
        apply(&mut set, &mut disks, &made, 1).unwrap();
        let before = disks[2].clone();
        apply(&mut set, &mut disks, &Event::DiskMissing(2), 2).unwrap();
        let offer = DiskOffer {
            facts: facts(&disks[3], 3),
            role: SpareRole::Global,
        };
        for event in [
            Event::DiskAdded(offer),
            Event::SpareActivated {
                volume: 0,
                slot: 2,
                disk: 3,
            },
            Event::RebuildDone { volume: 0, slot: 2 },
            Event::Dirty(0),
        ] {
            apply(&mut set, &mut disks, &event, 3).unwrap();
        }
        let away = disks[3].clone();
        disks[2] = before;
        let mut set = open(format, &disks[..3]).unwrap();
        let state = |set: &MdSet| set.set().volumes[0].members[2].state;
        assert_ne!(state(&set), MemberState::InSync);
        apply(&mut set, &mut disks, &Event::Dirty(0), 4).unwrap();
        disks[3] = away;
        let set = open(format, &disks).unwrap();
        assert_ne!(state(&set), MemberState::InSync, "{:?}", format.0);
    }
}

/// A disk that is filled is a member by its own superblock only, because power went, and away when the others start,
/// for which it is a spare: before anything is written without it they are ahead of it.
#[test]
fn a_filled_disk_that_only_itself_calls_a_member_is_old_once_the_others_went_on() {
    for format in ALL {
        for was_dirty in [true, false] {
            let mut disks = blanks(4, 40, 512);
            let mut set = create(format, &disks[..3], "");
            let slots = [Some(0), Some(1), Some(2)];
            let made = Event::VolumeCreated(VolumeSpec {
                assume_clean: true,
                ..spec("", Level::Raid5, &slots)
            });
            apply(&mut set, &mut disks, &made, 1).unwrap();
            apply(&mut set, &mut disks, &Event::DiskMissing(2), 2).unwrap();
            let offer = DiskOffer {
                facts: facts(&disks[3], 3),
                role: SpareRole::Global,
            };
            let activated = Event::SpareActivated {
                volume: 0,
                slot: 2,
                disk: 3,
            };
            let before = if was_dirty {
                Event::Dirty(0)
            } else {
                Event::Clean(0)
            };
            for event in [Event::DiskAdded(offer), activated, before] {
                apply(&mut set, &mut disks, &event, 3).unwrap();
            }
            let mut told = disks.clone();
            let done = Event::RebuildDone { volume: 0, slot: 2 };
            apply(&mut set, &mut told, &done, 4).unwrap();
            disks[3] = told[3].clone();
            // The others alone.
            let here = [(0, &disks[0].clone()), (1, &disks[1].clone())];
            let mut set = open_keyed(format, &here).unwrap();
            let absent = set.set().volumes[0].members[2].disk;
            if let Some(disk) = absent {
                apply(&mut set, &mut disks, &Event::DiskMissing(disk), 5).unwrap();
            }
            apply(&mut set, &mut disks, &Event::Dirty(0), 6).unwrap();
            let back = [0, 1, 3].map(|key| (key, disks[key as usize].clone()));
            let back: Vec<_> = back.iter().map(|(key, disk)| (*key, disk)).collect();
            for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
                let keyed: Vec<_> = order.map(|at| back[at]).to_vec();
                let set = open_keyed(format, &keyed).unwrap();
                let member = set.set().volumes[0].members[2];
                let what = format!("{:?} {was_dirty} {order:?}", format.0);
                assert_ne!(member.state, MemberState::InSync, "{what}");
            }
            // Nor is it told anew each time.
            let events = set.head.events;
            apply(&mut set, &mut disks, &Event::Dirty(0), 7).unwrap();
            assert_eq!(set.head.events, events);
        }
    }
}

/// Starts an array without the first of three members, up to its dirty mark, and looks how many events the others are ahead of it:
/// two at least, so that it is old also for who asks each disk for its own role.
fn starts_without_the_first(format: &'static Md, disks: &[Disk], what: &str) {
    let mut disks = disks.to_vec();
    let left = disks[1..].to_vec();
    let mut set = open_keyed(format, &[(1, &left[0]), (2, &left[1])]).unwrap();
    let members = &set.set().volumes[0].members;
    for slot in [1, 2] {
        assert_eq!(members[slot].state, MemberState::InSync, "{what}");
    }
    let lost = members[0].disk.map(Event::DiskMissing);
    for event in lost.into_iter().chain([Event::Dirty(0)]) {
        apply(&mut set, &mut disks, &event, 9).unwrap();
    }
    let [then, now @ ..] = [0, 1, 2].map(|key| {
        let set = open_keyed(format, &[(key, &disks[key as usize])]);
        set.unwrap().head.events
    });
    assert!(
        now.iter().all(|&now| now >= then + 2),
        "{what}: {now:?} {then}"
    );
}

/// A member that is away got an update that was cut before the others had it; or others are one behind; or one of them missed
/// what came last. Wherever the update that takes it out is cut: those that are here are members, and it is old before anything
/// is written without it.
#[test]
fn who_got_one_event_more_is_old_too() {
    for format in ALL {
        for has_more in [vec![0], vec![0, 1], vec![0, 2], vec![]] {
            let mut disks = blanks(3, 40, 512);
            let mut set = create(format, &disks, "");
            let slots = [0, 1, 2].map(Some);
            let made = Event::VolumeCreated(VolumeSpec {
                assume_clean: true,
                ..spec("", Level::Raid1, &slots)
            });
            for (n, event) in (1..).zip(&[made, Event::Dirty(0)]) {
                apply(&mut set, &mut disks, event, n).unwrap();
            }
            let mut told = disks.clone();
            apply(&mut set, &mut told, &Event::Clean(0), 3).unwrap();
            for &disk in &has_more {
                disks[disk] = told[disk].clone();
            }
            // It is away after the cut; or it is there, and the last one did not take that update.
            for is_away in [true, false] {
                let what = format!("{:?} {has_more:?} {is_away}", format.0);
                let mut disks = disks.clone();
                if !is_away {
                    disks.clone_from(&told);
                }
                let copies = disks.clone();
                let from = usize::from(is_away);
                let keyed: Vec<_> = (0..).zip(&copies).skip(from).collect();
                let mut set = open_keyed(format, &keyed).unwrap();
                if !is_away {
                    set.apply(&Event::Dirty(0), &context(4)).unwrap();
                    let plan = writes(Of(format), &set);
                    for write in plan.iter().filter(|write| write.key != 2) {
                        disks[write.key as usize].write(write.sector, &write.bytes);
                    }
                    set.missed(2, u16::MAX);
                }
                let lost = match set.set().disk_by_key(0) {
                    Some(disk) => Event::DiskFailed(disk),
                    None => Event::DiskMissing(set.set().volumes[0].members[0].disk.unwrap()),
                };
                set.apply(&lost, &context(5)).unwrap();
                let plan = writes(Of(format), &set);
                cut_everywhere(&disks, &plan, &mut Random(11), 20, &mut |cut, at| {
                    starts_without_the_first(format, cut, &format!("{what}, {at}"));
                });
                carry_out(&mut disks, &plan);
                starts_without_the_first(format, &disks, &what);
                // Without a restart.
                apply(&mut set, &mut disks, &Event::Dirty(0), 6).unwrap();
                let events = |disk: &Disk| open_keyed(format, &[(0, disk)]).unwrap().head.events;
                for disk in [1, 2] {
                    assert!(events(&disks[disk]) >= events(&disks[0]) + 2, "{what}");
                }
                apply(&mut set, &mut disks, &Event::Dirty(0), 7).unwrap();
                assert!(set.plan().is_empty(), "{what}");
            }
        }
    }
}

/// Without the disks that know of a loss the lost one would be trusted: that is told from what is merely less.
#[test]
fn who_is_trusted_without_those_who_know() {
    for format in ALL {
        let mut world = World::made(Of(format), 3, 50, 512, 0);
        let all = [Some(0), Some(1), Some(2)];
        world.apply(&Event::VolumeCreated(spec("", Level::Raid5, &all)));
        let trusts_more = |world: &World, keys: &[u64]| {
            let of = |keys: &[u64]| {
                let keyed = keys.iter().map(|&key| (key, &world.disks[key as usize]));
                open_keyed(format, &keyed.collect::<Vec<_>>()).unwrap()
            };
            let (left, before) = (of(keys), of(&[0, 1, 2]));
            left.set().trusts_more_than(before.set())
        };
        for left in [&[0, 1, 2][..], &[0, 2], &[1, 2], &[1]] {
            assert!(!trusts_more(&world, left), "{left:?}");
        }
        let (set, disks) = (&mut world.set, &mut world.disks);
        apply(set, disks, &Event::DiskMissing(1), 60).unwrap();
        for left in [&[0, 1, 2][..], &[0, 1], &[1, 2], &[0, 2], &[0]] {
            assert!(!trusts_more(&world, left), "{left:?}");
        }
        assert!(trusts_more(&world, &[1]));
    }
}
