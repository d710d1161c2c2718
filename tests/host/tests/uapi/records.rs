// SPDX-License-Identifier: GPL-2.0

//! Records: what goes in comes out; hostile streams are no danger to the tool; events and their log.

use crate::uapi_support::sample_set;
use emd_core::model::{
    Access, Consistency, CrashPolicy, Identity, Layout, Level, Member, MemberState, Rotation,
    Shape, Text, Volume,
};
use emd_core::uapi::constants::*;
use emd_core::uapi::layout::EventWire;
use emd_core::uapi::read_records::{decode, Records};
use emd_core::uapi::records::{put_text, Sink};
use emd_core::uapi::volume_state;
use emd_core::uapi::wire::Wire;
use emd_core::uapi::{DevNumber, EventKind, EventLog, EventRecord, VolumeState};
use kernel::prelude::*;
use proptest::prelude::*;

#[test]
fn sets_survive() {
    let mut sink = Sink::new(1 << 20);
    sink.set(&sample_set(1), true).unwrap();
    sink.set(&sample_set(2), true).unwrap();
    let decoded = decode(sink.bytes()).unwrap();
    assert_eq!(decoded.sets.len(), 2);
    assert_eq!(decoded.sets[0], sample_set(1));
    assert_eq!(decoded.sets[1], sample_set(2));
    assert_eq!(sink.needed() as usize, sink.bytes().len());
}

#[test]
fn unknown_kinds_and_longer_records_are_stepped_over() {
    let mut sink = Sink::new(1 << 20);
    sink.set(&sample_set(1), true).unwrap();
    let mut stream = Vec::new();
    for (_, record) in Records::new(sink.bytes()) {
        // A record of a later version: 16 bytes more, and one of an unknown kind after each.
        let mut longer = record.to_vec();
        let size = record.len() as u32 + 16;
        longer[..4].copy_from_slice(&size.to_ne_bytes());
        longer.extend([0xff; 16]);
        stream.extend(longer);
        stream.extend(16u32.to_ne_bytes());
        stream.extend(999u16.to_ne_bytes());
        stream.extend([0xff; 10]);
    }
    let decoded = decode(&stream).unwrap();
    assert_eq!(decoded.sets[0], sample_set(1));
}

#[test]
fn streams_that_cannot_be() {
    for bytes in [
        vec![0u8; 64],                                          // length 0
        [7u32.to_ne_bytes().as_slice(), &[0; 60]].concat(),     // shorter than its start
        [u32::MAX.to_ne_bytes().as_slice(), &[0; 60]].concat(), // longer than all
        vec![1, 2, 3],
    ] {
        assert_eq!(Records::new(&bytes).count(), 0);
        assert!(decode(&bytes).unwrap().sets.is_empty());
    }
    // A member before any set.
    let mut sink = Sink::new(1 << 20);
    sink.set(&sample_set(1), true).unwrap();
    let member = Records::new(sink.bytes())
        .find(|(kind, _)| *kind == REC_MEMBER)
        .unwrap()
        .1;
    assert!(decode(member).is_err());
}

#[test]
fn texts_are_cut_at_characters() {
    let mut field = [0u8; 6];
    put_text(&mut field, "aüüü");
    assert_eq!(&field, b"a\xc3\xbc\xc3\xbc\0");
    put_text(&mut field, "");
    let mut none: [u8; 0] = [];
    put_text(&mut none, "x");
}

#[test]
fn events_survive() {
    for &kind in EventKind::ALL {
        let mut event = EventRecord::new(kind);
        event.seq = 9;
        event.time_ns = 1 << 60;
        event.set_id = [3; 16];
        event.number = Some(0);
        event.slot = Some(63);
        event.dev = DevNumber::new(8, 1);
        event.value = u64::MAX;
        event.is_part = true;
        event.text = Text::from_text(&"ü".repeat(60));
        let mut bytes = [0u8; EventWire::BYTES];
        event.to_wire().to_bytes(&mut bytes);
        assert_eq!(
            EventRecord::from_wire(&EventWire::from_bytes(&bytes)),
            Some(event)
        );
        let bare = EventRecord::new(kind);
        assert_eq!(EventRecord::from_wire(&bare.to_wire()), Some(bare));
        assert_eq!(EventKind::from_code(kind.code()), Some(kind));
    }
    assert_eq!(EventKind::from_code(0), None);
}

#[test]
fn the_log_loses_nothing_unsaid() {
    let mut log = EventLog::new().unwrap();
    assert_eq!((log.oldest_seq(), log.next_seq()), (1, 1));
    assert!(log.read(1).is_none());
    let post = |log: &mut EventLog, count: u64| {
        for _ in 0..count {
            let mut event = EventRecord::new(EventKind::Note);
            event.value = log.next_seq();
            log.post(&event, 0);
        }
    };
    post(&mut log, 10);
    assert_eq!((log.oldest_seq(), log.next_seq()), (1, 11));
    let (event, next) = log.read(1).unwrap();
    assert_eq!((event.seq, event.value, next), (1, 1, 2));
    post(&mut log, 256);
    // 266 events; 11 to 266 are kept.
    assert_eq!((log.oldest_seq(), log.next_seq()), (11, 267));
    let (lost, next) = log.read(2).unwrap();
    assert_eq!(
        (lost.kind, lost.value, lost.seq, next),
        (EventKind::Lost, 9, 10, 11)
    );
    let mut position = next;
    for expected in 11..=266 {
        let (event, next) = log.read(position).unwrap();
        assert_eq!((event.seq, event.value), (expected, expected));
        position = next;
    }
    assert!(log.read(position).is_none());
    assert_eq!(log.seek(0), 11);
    assert_eq!(log.seek(3), 3, "reading there says what was lost");
    assert_eq!(log.seek(1000), 267);
}

proptest! {
    /// A reader of any habits: every event exactly once, or counted among the lost, in order.
    #[test]
    fn readers_of_the_log(steps in proptest::collection::vec((0u64..400, 0u64..400), 1..40)) {
        let mut log = EventLog::new().unwrap();
        let (mut position, mut seen) = (log.next_seq(), 0u64);
        for (posts, reads) in steps {
            for _ in 0..posts {
                log.post(&EventRecord::new(EventKind::Note), 0);
            }
            for _ in 0..reads {
                let Some((event, next)) = log.read(position) else { break };
                match event.kind {
                    EventKind::Lost => seen += event.value,
                    _ => {
                        seen += 1;
                        prop_assert_eq!(event.seq, seen);
                    }
                }
                prop_assert_eq!(event.seq, seen);
                position = next;
            }
            prop_assert_eq!(position, seen + 1);
        }
    }

    /// Bytes of any kind, as if a kernel gone mad had sent them.
    #[test]
    fn random_streams(bytes in proptest::collection::vec(any::<u8>(), 0..2000), kind in 0u16..10, size in 0u32..600) {
        let mut bytes = bytes;
        if bytes.len() >= 8 {
            bytes[..4].copy_from_slice(&size.to_ne_bytes());
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        }
        let _ = decode(&bytes);
        let _ = EventRecord::from_wire(&EventWire::from_bytes(&bytes));
    }
}

fn volume(level: Level, layout: Layout, spans: u16, lost: &[bool]) -> Volume {
    let mut members = KVec::new();
    for &lost in lost {
        let state = if lost {
            MemberState::Failed
        } else {
            MemberState::InSync
        };
        members
            .push(
                Member {
                    disk: None,
                    offset_sectors: 0,
                    state,
                },
                GFP_KERNEL,
            )
            .unwrap();
    }
    let members_per_span = lost.len() as u16 / spans;
    Volume {
        id: Identity::new(b"x"),
        name: Text::new(),
        shape: Shape {
            level,
            layout,
            members: members_per_span,
            spans,
            chunk_sectors: 128,
            member_sectors: 1024,
        },
        size_sectors: 1024,
        members,
        consistency: Consistency::Clean,
        access: Access::ReadWrite,
        regions: None,
        stretches: KVec::new(),
        scrub: None,
        crash_policy: CrashPolicy::Resync,
        block_bytes: 0,
        deleted: false,
    }
}

/// Members that hold chunk `chunk` of a span, by the definition of each layout.
fn holders(layout: Layout, members: usize, chunk: usize) -> Vec<usize> {
    match layout {
        Layout::Near(copies) => {
            let copies = usize::from(copies);
            (0..copies)
                .map(|copy| (chunk * copies + copy) % members)
                .collect()
        }
        Layout::Far(copies) | Layout::Offset(copies) => (0..usize::from(copies))
            .map(|copy| (chunk + copy) % members)
            .collect(),
        _ => unreachable!(),
    }
}

/// Every pattern of losses on up to 7 members, against "which chunk has how many copies left".
#[test]
fn states_of_mirrors() {
    for members in 2usize..=7 {
        for copies in 2u8..=3 {
            for layout in [
                Layout::Near(copies),
                Layout::Far(copies),
                Layout::Offset(copies),
            ] {
                if usize::from(copies) > members {
                    continue;
                }
                for pattern in 0u32..1 << members {
                    let lost: Vec<bool> =
                        (0..members).map(|nth| pattern & (1 << nth) != 0).collect();
                    let weakest = (0..members * 6)
                        .map(|chunk| {
                            let holders = holders(layout, members, chunk);
                            holders.iter().filter(|&&member| !lost[member]).count()
                        })
                        .min()
                        .unwrap();
                    let expected = match (pattern, weakest) {
                        (0, _) => VolumeState::Optimal,
                        (_, 0) => VolumeState::Failed,
                        (_, 1) => VolumeState::Degraded,
                        _ => VolumeState::PartiallyOptimal,
                    };
                    let state = volume_state::of(&volume(Level::Raid10, layout, 1, &lost));
                    assert_eq!(state, expected, "{layout} {lost:?}");
                }
            }
        }
    }
}

#[test]
fn states_of_the_others() {
    let parity = Layout::Parity(Rotation::LeftSymmetric);
    let state = |level, layout, spans, lost: &[u8]| {
        let lost: Vec<bool> = lost.iter().map(|&lost| lost != 0).collect();
        volume_state::of(&volume(level, layout, spans, &lost))
    };
    use VolumeState::*;
    assert_eq!(state(Level::Raid0, Layout::Plain, 1, &[0, 0]), Optimal);
    assert_eq!(state(Level::Raid0, Layout::Plain, 1, &[0, 1]), Failed);
    assert_eq!(state(Level::Concat, Layout::Plain, 1, &[1, 0]), Failed);
    assert_eq!(state(Level::Raid1, Layout::Plain, 1, &[0, 1]), Degraded);
    assert_eq!(
        state(Level::Raid1, Layout::Plain, 1, &[0, 1, 0]),
        PartiallyOptimal
    );
    assert_eq!(state(Level::Raid1, Layout::Plain, 1, &[1, 1, 1]), Failed);
    assert_eq!(state(Level::Raid5, parity, 1, &[0, 0, 1]), Degraded);
    assert_eq!(state(Level::Raid5, parity, 1, &[0, 1, 1]), Failed);
    assert_eq!(
        state(Level::Raid6, parity, 1, &[0, 0, 0, 1]),
        PartiallyOptimal
    );
    assert_eq!(state(Level::Raid6, parity, 1, &[0, 1, 0, 1]), Degraded);
    assert_eq!(state(Level::Raid6, parity, 1, &[1, 1, 0, 1]), Failed);
    // RAID 50: one span degraded, one whole; then one of them gone.
    assert_eq!(
        state(Level::Raid5, parity, 2, &[0, 0, 1, 0, 0, 0]),
        Degraded
    );
    assert_eq!(state(Level::Raid5, parity, 2, &[0, 0, 0, 0, 1, 1]), Failed);
}
