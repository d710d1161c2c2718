// SPDX-License-Identifier: GPL-2.0

//! An IMSM set in memory beside its disks.

use super::{open_keyed, Of};
use emd_core::metadata::imsm::layout::header;
use emd_core::metadata::MetadataSet;
use emd_core::model::{Consistency, Level, MemberState, VolumeSpec};
use host_tests::samples::Disk;
use host_tests::shell;

/// A set in memory and its disks.
pub type World = host_tests::world::World<Of>;

/// Marks of syncs are on the disks, too: rounded down to units, less than 2 MiB. Where others may have written them, at
/// least half of them.
pub fn check_marks(world: &World) {
    let is_dated = world
        .set
        .mpb
        .raw()
        .pair(header::CREATED, header::CREATED + 4)
        != 0;
    let keyed: Vec<(u64, &Disk)> = world
        .set
        .set()
        .live_disks()
        .filter_map(|(_, disk)| disk.facts)
        .map(|facts| (facts.key, &world.disks[facts.key as usize]))
        .collect();
    let again = open_keyed(&keyed).unwrap();
    let mut seen = 0;
    for (index, volume) in world.set.set().live_volumes() {
        let other = again.set().volume(index).unwrap();
        let mut near = |here: u64, there: u64| {
            seen += 1;
            let least = if is_dated { here } else { here / 2 };
            assert!(there <= here && there + 4096 > least, "{here} {there}");
        };
        if let Consistency::Initialising { done_sectors: here } = volume.consistency {
            match other.consistency {
                Consistency::Initialising { done_sectors } => near(here, done_sectors),
                state => panic!("{state:?}"),
            }
        }
        for (here, there) in volume.members.iter().zip(other.members.iter()) {
            if let MemberState::Rebuilding { done_sectors: here } = here.state {
                match there.state {
                    MemberState::Rebuilding { done_sectors } => near(here, done_sectors),
                    state => panic!("{state:?}"),
                }
            }
        }
    }
    assert!(seen > 0, "there is no mark");
}

/// A volume over `disks`, of a size that fits 40 MiB twice.
pub fn spec<'a>(name: &str, level: Level, disks: &'a [Option<u16>]) -> VolumeSpec<'a> {
    VolumeSpec {
        chunk_sectors: 128,
        assume_clean: true,
        ..shell::spec(name, level, disks)
    }
}
