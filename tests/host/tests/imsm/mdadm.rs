// SPDX-License-Identifier: GPL-2.0

//! What we write is what mdadm writes, and `mdadm -E` says of it what we mean.
//!
//! The second part runs where mdadm and a C compiler are (the toolbox has both); elsewhere it says that
//! it was skipped; in the toolbox that is a failure. mdadm wants to be told the length of a block, which a file does not do: a shim in
//! front of `ioctl` does.

use crate::imsm_common::world::{spec, World};
use crate::imsm_common::{carry_out, context, create, open, sample, writes};
use emd_core::metadata::imsm::layout::{disk, header, Raw};
use emd_core::metadata::MetadataSet;
use emd_core::model::{BadRange, Event, Level, Scrub, SpareRole, Text, VolumeSpec};
use host_tests::samples::Disk;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The MPB that is on a disk.
fn mpb(disk: &Disk) -> Vec<u8> {
    let (image, _, _) = crate::imsm_common::probe(disk, 0);
    match emd_core::metadata::imsm::probe::examine(&image) {
        emd_core::metadata::imsm::probe::Exam::Found(found) => {
            let raw: Raw<'_> = found.raw;
            (0..raw.size()).map(|at| raw.u8(at)).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Blanks what differs from one set to another: numbers made by chance, times, SCSI addresses.
fn blank_chance(mpb: &mut [u8]) {
    let disks = usize::from(mpb[header::DISKS]);
    let mut holes = vec![
        header::CHECKSUM..header::CHECKSUM + 4,
        header::FAMILY..header::GENERATION + 4,
        header::ORIG_FAMILY..header::ORIG_FAMILY + 4,
        header::CREATED..header::CREATED + 8,
    ];
    for index in 0..disks {
        let at = header::BYTES + index * disk::BYTES + disk::SCSI;
        holes.push(at..at + 4);
    }
    for hole in holes {
        mpb[hole].fill(0);
    }
}

/// The same disks, the same wishes: the same bytes as mdadm's.
#[test]
fn new_volumes_are_those_that_mdadm_makes() {
    for (case, level, chunk) in [
        ("gen/raid0", Level::Raid0, 128),
        ("gen/raid1", Level::Raid1, 0),
        ("gen/raid10", Level::Raid10, 128),
        ("gen/raid10-6", Level::Raid10, 128),
        ("gen/raid5-3", Level::Raid5, 128),
        ("gen/raid5-4", Level::Raid5, 256),
        ("gen/4k-raid0", Level::Raid0, 128),
        ("gen/4k-raid1", Level::Raid1, 0),
        ("gen/big-raid0", Level::Raid0, 256),
        ("gen/big-raid1", Level::Raid1, 0),
        ("gen/big-raid5", Level::Raid5, 256),
    ] {
        let theirs = sample(case);
        let set = open(&theirs).unwrap();
        // Disks in the order of the table.
        let order: Vec<usize> = set
            .set()
            .volume(0)
            .unwrap()
            .members
            .iter()
            .map(|member| {
                set.set()
                    .disk(member.disk.unwrap())
                    .unwrap()
                    .facts
                    .unwrap()
                    .key as usize
            })
            .collect();
        let mut ours: Vec<Disk> = order
            .iter()
            .map(|&index| {
                let like = &theirs[index];
                Disk::blank(&like.name, like.size_sectors, like.logical_block_bytes)
            })
            .collect();
        let name = set.set().volume(0).unwrap().name;
        let mut made = create(&mut ours);
        let disks: Vec<Option<u16>> = (0..ours.len() as u16).map(Some).collect();
        let spec = VolumeSpec {
            name,
            chunk_sectors: chunk,
            ..spec("", level, &disks)
        };
        made.apply(&Event::VolumeCreated(spec), &context(1))
            .unwrap();
        let plan = writes(&made);
        carry_out(&mut ours, &plan);
        let (mut here, mut there) = (mpb(&ours[0]), mpb(&theirs[0]));
        blank_chance(&mut here);
        blank_chance(&mut there);
        for (at, (a, b)) in here.iter().zip(&there).enumerate() {
            assert_eq!(a, b, "{case}: byte {at:#x}");
        }
        assert_eq!(here.len(), there.len(), "{case}");
    }
}

/// mdadm, and the shim that lets it read files.
struct Judge {
    program: &'static str,
    folder: PathBuf,
}

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdlib.h>
int ioctl(int fd, unsigned long request, ...)
{
	static int (*next)(int, unsigned long, ...);
	va_list list;
	void *arg;

	va_start(list, request);
	arg = va_arg(list, void *);
	va_end(list);
	if (!next)
		next = dlsym(RTLD_NEXT, "ioctl");
	if (request == BLKSSZGET) {
		*(int *)arg = atoi(getenv("EMD_BLOCK"));
		return 0;
	}
	return next(fd, request, arg);
}
"#;

impl Judge {
    fn find(name: &str) -> Option<Self> {
        let program = ["/sbin/mdadm", "/usr/sbin/mdadm", "/usr/bin/mdadm"]
            .into_iter()
            .find(|path| Path::new(path).exists())?;
        let folder = std::env::temp_dir().join(format!("emd-imsm-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let source = folder.join("shim.c");
        std::fs::write(&source, SHIM).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(folder.join("shim.so"))
            .arg(&source)
            .status();
        built
            .is_ok_and(|status| status.success())
            .then_some(Self { program, folder })
    }

    /// What mdadm says of a disk.
    fn examine(&self, disk: &Disk) -> String {
        let path = self.folder.join(format!("{}.img", disk.name));
        let mut file = std::fs::File::create(&path).unwrap();
        file.set_len(disk.size_sectors * 512).unwrap();
        for (sector, bytes) in disk.runs() {
            file.seek(SeekFrom::Start(sector * 512)).unwrap();
            file.write_all(bytes).unwrap();
        }
        drop(file);
        let output = Command::new(self.program)
            .arg("-E")
            .arg(&path)
            .env("IMSM_NO_PLATFORM", "1")
            .env("IMSM_DEVNAME_AS_SERIAL", "1")
            .env("EMD_BLOCK", disk.logical_block_bytes.to_string())
            .env("LD_PRELOAD", self.folder.join("shim.so"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(text.contains(" correct"), "{text}");
        text
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The value of a line "name : value"; of the `nth` volume.
fn value(text: &str, name: &str, nth: usize) -> String {
    text.lines()
        .filter(|line| line.trim_start().starts_with(name))
        .nth(nth)
        .and_then(|line| line.split_once(" : "))
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

#[test]
fn mdadm_reads_what_we_write() {
    for block in [512u32, 4096] {
        let Some(judge) = Judge::find(&format!("written-{block}")) else {
            host_tests::skip("mdadm or no C compiler");
            return;
        };
        let mut world = World::created(3, 80, block, 0);
        let scale = u64::from(block / 512);
        let all = [Some(0), Some(1), Some(2)];
        let five = VolumeSpec {
            size_sectors: 2 * 32768,
            ..spec("five", Level::Raid5, &all)
        };
        world.apply(&Event::VolumeCreated(five));
        let zero = VolumeSpec {
            size_sectors: 3 * 16384,
            ..spec("zero", Level::Raid0, &all)
        };
        world.apply(&Event::VolumeCreated(zero));
        for disk in 0..3 {
            let text = judge.examine(&world.disks[disk]);
            assert_eq!(value(&text, "Version", 0), "1.3.00");
            assert_eq!(value(&text, "Generation", 0), "00000003");
            assert_eq!(value(&text, "Disks", 0), "3");
            assert_eq!(value(&text, "RAID Devices", 0), "2");
            assert!(
                value(&text, "Attributes", 0).ends_with("(supported)"),
                "{text}"
            );
            assert!(
                text.contains("[five]:") && text.contains("[zero]:"),
                "{text}"
            );
            for (nth, level, size, offset) in
                [(0, "5", 65536, 0), (1, "0", 49152, 32768 + 2048 + 8192)]
            {
                assert_eq!(value(&text, "RAID Level", nth), level, "{text}");
                assert_eq!(value(&text, "Members", nth), "3");
                assert_eq!(value(&text, "Slots", nth), "[UUU]");
                assert_eq!(value(&text, "Chunk Size", nth), "64 KiB");
                assert_eq!(value(&text, "Map State", nth), "normal");
                assert_eq!(value(&text, "Migrate State", nth), "idle");
                assert_eq!(value(&text, "Dirty State", nth), "clean");
                assert_eq!(value(&text, "RWH Policy", nth), "off");
                assert_eq!(value(&text, "Failed disk", nth), "none");
                let sizes = value(&text, "Array Size", nth);
                assert!(sizes.starts_with(&format!("{} ", size / scale)), "{text}");
                let start = value(&text, "Sector Offset", nth);
                assert_eq!(start, (offset / scale).to_string(), "{text}");
            }
            assert_eq!(text.matches("State : active").count(), 3, "{text}");
        }
        // Dirty, then a failure, then a spare in its place.
        world.apply(&Event::Dirty(0));
        let text = judge.examine(&world.disks[0]);
        assert_eq!(value(&text, "Dirty State", 0), "dirty");
        assert_eq!(value(&text, "Dirty State", 1), "clean");
        world.apply(&Event::Clean(0));
        world.apply(&Event::VolumeDeleted(1));
        world.apply(&Event::BadRangeAdded(BadRange {
            disk: 2,
            sector: 8000,
            sectors: 16,
        }));
        let text = judge.examine(&world.disks[0]);
        assert_eq!(value(&text, "Entry Count", 0), "1", "{text}");
        let spare = world.add(80, SpareRole::Global);
        let text = judge.examine(&world.disks[3]);
        assert_eq!(value(&text, "RAID Devices", 0), "0", "{text}");
        assert!(text.contains("State : spare"), "{text}");
        world.apply(&Event::DiskFailed(1));
        let text = judge.examine(&world.disks[0]);
        assert_eq!(value(&text, "Slots", 0), "[U_U]", "{text}");
        assert_eq!(value(&text, "Map State", 0), "degraded", "{text}");
        assert_eq!(value(&text, "Failed disk", 0), "1", "{text}");
        assert!(text.contains("failed"), "{text}");
        let activated = Event::SpareActivated {
            volume: 0,
            slot: 1,
            disk: spare,
        };
        world.apply(&activated);
        world.apply(&Event::RebuildProgress {
            volume: 0,
            slot: 1,
            done_sectors: 128 * 40,
        });
        let text = judge.examine(&world.disks[3]);
        assert_eq!(value(&text, "Slots", 0), "[UUU] <-- [U_U]", "{text}");
        assert_eq!(value(&text, "Migrate State", 0), "rebuild", "{text}");
        assert_eq!(
            value(&text, "Map State", 0),
            "normal <-- degraded",
            "{text}"
        );
        assert_eq!(value(&text, "Checkpoint", 0), "40 (128)", "{text}");
        let (old, new) = (value(&text, "Orig Family", 0), value(&text, "Family", 0));
        assert_ne!(old, new, "{text}");
        world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
        world.apply(&Event::DiskMissing(0));
        let text = judge.examine(&world.disks[3]);
        assert_eq!(value(&text, "Slots", 0), "[_UU]", "{text}");
        assert!(
            text.contains("missing") || text.contains("failed"),
            "{text}"
        );
        world.apply(&Event::VolumeRenamed(0, Text::from_text("other")));
        assert!(judge.examine(&world.disks[3]).contains("[other]:"));
    }
}

#[test]
fn mdadm_reads_our_syncs() {
    let Some(judge) = Judge::find("syncs") else {
        host_tests::skip("mdadm or no C compiler");
        return;
    };
    for (level, count, unit) in [
        (Level::Raid1, 2, 512),
        (Level::Raid10, 4, 256),
        (Level::Raid10, 6, 256),
        (Level::Raid5, 3, 384),
    ] {
        let mut world = World::created(count, 64, 512, 0);
        let disks: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
        let new = VolumeSpec {
            assume_clean: false,
            ..spec("v", level, &disks)
        };
        world.apply(&Event::VolumeCreated(new));
        let text = judge.examine(&world.disks[0]);
        assert_eq!(value(&text, "Map State", 0), "uninitialized", "{text}");
        let shown = if level == Level::Raid10 {
            "10"
        } else {
            level.name().trim_start_matches("raid")
        };
        assert_eq!(value(&text, "RAID Level", 0), shown, "{text}");
        world.apply(&Event::ResyncProgress {
            volume: 0,
            done_sectors: unit * 20,
        });
        let text = judge.examine(&world.disks[1]);
        assert!(
            value(&text, "Migrate State", 0).starts_with("init"),
            "{text}"
        );
        assert_eq!(
            value(&text, "Checkpoint", 0),
            format!("20 ({unit})"),
            "{text}"
        );
        world.apply(&Event::ResyncDone(0));
        world.apply(&Event::Dirty(0));
        world.apply(&Event::ResyncProgress {
            volume: 0,
            done_sectors: unit * 3,
        });
        let text = judge.examine(&world.disks[1]);
        assert_eq!(value(&text, "Migrate State", 0), "repair", "{text}");
        assert_eq!(
            value(&text, "Checkpoint", 0),
            format!("3 ({unit})"),
            "{text}"
        );
        // Writes may be in flight: what it would go by of a migration would be too little.
        world.apply(&Event::Dirty(0));
        let text = judge.examine(&world.disks[1]);
        assert_eq!(value(&text, "Migrate State", 0), "idle", "{text}");
        assert_eq!(value(&text, "Dirty State", 0), "dirty", "{text}");
        world.apply(&Event::ResyncDone(0));
        world.apply(&Event::Clean(0));
        let text = judge.examine(&world.disks[1]);
        assert_eq!(value(&text, "Migrate State", 0), "idle", "{text}");
        assert_eq!(value(&text, "Map State", 0), "normal", "{text}");
        // A check and a repair that a person asks for; in the middle of either, writes.
        for (repairs, state) in [(false, "check"), (true, "repair")] {
            let scrub = Scrub {
                repairs,
                done_sectors: unit * 7 + 1,
            };
            world.apply(&Event::ScrubProgress(0, Some(scrub)));
            for (event, state, units, dirty) in [
                (None, state, 7, "clean"),
                (Some(Event::Dirty(0)), "repair", 0, "dirty"),
                (Some(Event::Clean(0)), state, 7, "clean"),
            ] {
                if let Some(event) = event {
                    world.apply(&event);
                }
                let text = judge.examine(&world.disks[1]);
                assert_eq!(value(&text, "Migrate State", 0), state, "{text}");
                let checkpoint = format!("{units} ({unit})");
                assert_eq!(value(&text, "Checkpoint", 0), checkpoint, "{text}");
                assert_eq!(value(&text, "Map State", 0), "normal <-- normal", "{text}");
                assert_eq!(value(&text, "Dirty State", 0), dirty, "{text}");
            }
            world.apply(&Event::ScrubProgress(0, None));
            let text = judge.examine(&world.disks[1]);
            assert_eq!(value(&text, "Migrate State", 0), "idle", "{text}");
        }
    }
}
