// SPDX-License-Identifier: GPL-2.0

//! What `mdadm -E` and `--examine-badblocks` say of what we write. Runs where mdadm is: on the
//! machine (the toolbox has it), or in an unpacked toolbox; elsewhere it says that it was skipped; in the
//! toolbox that is a failure.

use crate::md_common::{open, version_of, Of, World, ALL};
use emd_core::metadata::md::{Md, MdSet, Version};
use emd_core::metadata::{Format, MetadataSet};
use emd_core::model::{
    BadRange, Event, Layout, Level, Rotation, Scrub, SpareRole, Text, VolumeSpec,
};
use host_tests::samples::{load, Disk};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::Command;

/// The command that runs mdadm.
fn mdadm() -> Option<Vec<PathBuf>> {
    let direct = ["/sbin/mdadm", "/usr/sbin/mdadm", "/usr/bin/mdadm"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists());
    if let Some(path) = direct {
        return Some(vec![path]);
    }
    let home = PathBuf::from(std::env::var_os("HOME")?);
    let folder = std::fs::read_dir(home.join(".cache/emd/toolbox")).ok()?;
    folder
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.join("usr/sbin/mdadm").exists())
        .map(|root| {
            vec![
                root.join("usr/lib64/ld-linux-x86-64.so.2"),
                "--library-path".into(),
                root.join("usr/lib/x86_64-linux-gnu"),
                root.join("usr/sbin/mdadm"),
            ]
        })
        .filter(|command| command[0].exists())
}

struct Judge {
    command: Vec<PathBuf>,
    folder: PathBuf,
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Judge {
    fn new(name: &str) -> Option<Self> {
        let Some(command) = mdadm() else {
            host_tests::skip("mdadm");
            return None;
        };
        let folder = std::env::temp_dir().join(format!("emd-md-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Some(Self { command, folder })
    }

    fn ask(&self, option: &str, disk: &Disk) -> String {
        let path = self.folder.join("disk.img");
        let mut file = std::fs::File::create(&path).unwrap();
        file.set_len(disk.size_sectors * 512).unwrap();
        for (sector, bytes) in disk.runs() {
            file.seek(SeekFrom::Start(sector * 512)).unwrap();
            file.write_all(bytes).unwrap();
        }
        drop(file);
        let output = Command::new(&self.command[0])
            .args(&self.command[1..])
            .arg(option)
            .arg(&path)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    fn examine(&self, disk: &Disk) -> String {
        let text = self.ask("-E", disk);
        let checksum = value(&text, "Checksum");
        assert!(checksum.ends_with("- correct"), "{text}");
        text
    }
}

/// The value of a line "name : value", blanks squeezed.
fn value(text: &str, name: &str) -> String {
    text.lines()
        .find(|line| line.trim_start().starts_with(name))
        .and_then(|line| line.split_once(" : "))
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

fn spec(level: Level, disks: &[Option<u16>]) -> VolumeSpec<'_> {
    VolumeSpec {
        name: Text::new(),
        level,
        spans: 1,
        layout: None,
        chunk_sectors: 128,
        size_sectors: 0,
        disks,
        assume_clean: true,
        log: false,
        regions: None,
    }
}

fn version_text(format: &Md) -> &'static str {
    match format.0 {
        Version::V12 => "1.2",
        Version::V11 => "1.1",
        Version::V10 => "1.0",
        Version::V090 => "0.90.00",
    }
}

/// What a member is called, and what all of them are.
fn role(format: &Md, text: &str) -> String {
    if format.0 == Version::V090 {
        let own = text.lines().find(|line| line.starts_with("this")).unwrap();
        let fields: Vec<&str> = own.split_whitespace().collect();
        return format!("{} {}", fields[4], fields[5..].join(" "));
    }
    value(text, "Device Role")
}

#[test]
fn mdadm_reads_what_we_create() {
    let Some(judge) = Judge::new("created") else {
        return;
    };
    for format in ALL {
        let mut world = World::made(Of(format), 4, 80, 512, 0);
        let all = [Some(2), Some(0), Some(1)];
        world.apply(&Event::VolumeCreated(spec(Level::Raid5, &all)));
        let old = format.0 == Version::V090;
        for (key, slot) in [(2, 0), (0, 1), (1, 2)] {
            let text = judge.examine(&world.disks[key]);
            assert_eq!(value(&text, "Magic"), "a92b4efc");
            assert_eq!(value(&text, "Version"), version_text(format));
            assert_eq!(value(&text, "Raid Level"), "raid5");
            assert_eq!(value(&text, "Raid Devices"), "3");
            assert_eq!(value(&text, "State"), "clean", "{text}");
            assert_eq!(value(&text, "Layout"), "left-symmetric");
            assert_eq!(value(&text, "Chunk Size"), "64K");
            assert_eq!(value(&text, "Events"), "1");
            let size = world.set.array().unwrap().size_sectors / 2;
            let shown = value(&text, "Array Size");
            assert!(shown.starts_with(&format!("{size} ")), "{text}");
            if old {
                assert_eq!(role(format, &text), format!("{slot} active sync"), "{text}");
                assert_eq!(value(&text, "Working Devices"), "4", "{text}");
                assert_eq!(value(&text, "Spare Devices"), "1", "{text}");
            } else {
                assert_eq!(role(format, &text), format!("Active device {slot}"));
                assert!(value(&text, "Array State").starts_with("AAA "), "{text}");
                assert!(text.contains("512 entries available"), "{text}");
            }
        }
        let text = judge.examine(&world.disks[3]);
        let expected = if old { "3 spare" } else { "spare" };
        assert_eq!(role(format, &text), expected, "{text}");

        // Dirty; a member fails, and the spare takes its place.
        world.apply(&Event::Dirty(0));
        let text = judge.examine(&world.disks[0]);
        assert_eq!(value(&text, "State"), "active", "{text}");
        world.apply(&Event::DiskFailed(0));
        let text = judge.examine(&world.disks[1]);
        if old {
            assert_eq!(value(&text, "Failed Devices"), "1", "{text}");
            assert!(text.contains("faulty removed"), "{text}");
        } else {
            assert!(value(&text, "Array State").starts_with("A.A "), "{text}");
        }
        world.apply(&Event::SpareActivated {
            volume: 0,
            slot: 1,
            disk: 3,
        });
        world.apply(&Event::RebuildProgress {
            volume: 0,
            slot: 1,
            done_sectors: 4096,
        });
        let text = judge.examine(&world.disks[3]);
        if !old {
            assert_eq!(value(&text, "Feature Map"), "0x2", "{text}");
            assert_eq!(value(&text, "Recovery Offset"), "4096 sectors", "{text}");
            assert_eq!(role(format, &text), "Active device 1");
        }
        world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
        world.apply(&Event::Clean(0));
        for (key, slot) in [(2, 0), (3, 1), (1, 2)] {
            let text = judge.examine(&world.disks[key]);
            assert_eq!(value(&text, "State"), "clean", "{text}");
            assert_eq!(
                value(&text, "Events"),
                world.set.head.events.to_string(),
                "{text}"
            );
            if old {
                assert_eq!(role(format, &text), format!("{slot} active sync"));
                assert_eq!(value(&text, "Working Devices"), "3", "{text}");
            } else {
                assert_eq!(value(&text, "Feature Map"), "0x0", "{text}");
                assert_eq!(role(format, &text), format!("Active device {slot}"));
                assert!(value(&text, "Array State").starts_with("AAA "), "{text}");
            }
        }
    }
}

#[test]
fn mdadm_reads_every_level() {
    let Some(judge) = Judge::new("levels") else {
        return;
    };
    let rotation = |rotation| Some(Layout::Parity(rotation));
    for format in ALL {
        for (level, count, layout, name, shown) in [
            (Level::Concat, 2, None, "linear", ""),
            (Level::Raid0, 3, None, "raid0", ""),
            (Level::Raid1, 2, None, "raid1", ""),
            (Level::Raid4, 3, None, "raid4", ""),
            (
                Level::Raid5,
                3,
                rotation(Rotation::RightAsymmetric),
                "raid5",
                "right-asymmetric",
            ),
            (
                Level::Raid5,
                3,
                rotation(Rotation::ParityFirst),
                "raid5",
                "parity-first",
            ),
            (Level::Raid6, 4, None, "raid6", "left-symmetric"),
            (
                Level::Raid6,
                5,
                rotation(Rotation::DdfNContinue),
                "raid6",
                "ddf-N-continue",
            ),
            (
                Level::Raid6,
                5,
                rotation(Rotation::LeftSymmetric6),
                "raid6",
                "left-symmetric-6",
            ),
            (Level::Raid10, 4, None, "raid10", "near=2"),
            (Level::Raid10, 3, Some(Layout::Far(2)), "raid10", "far=2"),
            (
                Level::Raid10,
                5,
                Some(Layout::Offset(3)),
                "raid10",
                "offset=3",
            ),
        ] {
            let mut world = World::made(Of(format), count, 80, 512, 0);
            let disks: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
            let mut spec = spec(level, &disks);
            spec.layout = layout;
            world.apply(&Event::VolumeCreated(spec));
            let text = judge.examine(&world.disks[0]);
            assert_eq!(value(&text, "Raid Level"), name);
            if !shown.is_empty() {
                assert_eq!(value(&text, "Layout"), shown, "{text}");
            }
            // (mdadm does not round copies in rows of their own to whole rows; the kernel does.)
            let rounded = matches!(layout, Some(Layout::Offset(_) | Layout::Far(_)));
            if level.is_redundant() && !rounded {
                let size = world.set.array().unwrap().size_sectors / 2;
                assert!(
                    value(&text, "Array Size").starts_with(&format!("{size} ")),
                    "{size} {text}"
                );
            }
            assert_eq!(value(&text, "State"), "clean");
        }
    }
}

/// Bitmaps that are asked for on small members are where `mdadm -E` finds them. (`mdadm -X` reads no files: guests do that.)
#[test]
fn mdadm_finds_bitmaps() {
    let Some(judge) = Judge::new("bitmaps") else {
        return;
    };
    for format in ALL {
        for regions in [Some(true), None] {
            let mut world = World::made(Of(format), 3, 80, 512, 0);
            let made = VolumeSpec {
                regions,
                ..spec(Level::Raid5, &[Some(0), Some(1), Some(2)])
            };
            world.apply(&Event::VolumeCreated(made));
            for (disk, image) in (0..3).zip(&world.disks) {
                let text = judge.examine(image);
                let home = world.set.home(disk).unwrap();
                let Some(place) = home.bitmap else {
                    assert!(regions.is_none() && !text.contains("Bitmap"), "{text}");
                    continue;
                };
                let expected = match format.0 {
                    Version::V090 => "present".to_owned(),
                    _ => format!(
                        "{} sectors from superblock",
                        place as i64 - home.sector as i64
                    ),
                };
                assert_eq!(value(&text, "Internal Bitmap"), expected, "{text}");
                assert_eq!(regions, Some(true));
            }
        }
    }
}

/// The fields that mdadm and EMD choose for the same array: equal where it matters.
#[test]
fn mdadm_would_have_put_it_there_too() {
    let Some(judge) = Judge::new("places") else {
        return;
    };
    for case in [
        "12-raid5-ls",
        "11-raid5",
        "10-raid1",
        "12-raid10-n2-3d",
        "4k-12-raid5",
        "12-raid0",
        "12-raid5-ppl",
    ] {
        let disks = load(&format!("md/gen/{case}"));
        let format = version_of(&disks);
        let theirs = open(format, &disks).unwrap();
        let shape = theirs.array().unwrap().shape;
        let block = disks[0].logical_block_bytes;
        let mut world = World::made(Of(format), disks.len(), 40, block, 0);
        let members: Vec<Option<u16>> = (0..disks.len() as u16).map(Some).collect();
        let mut spec = spec(shape.level, &members);
        spec.layout = Some(shape.layout);
        spec.chunk_sectors = shape.chunk_sectors;
        spec.log = theirs.hole_log(0).is_some();
        world.apply(&Event::VolumeCreated(spec));
        assert_eq!(world.set.array().unwrap().shape, shape, "{case}");
        let ours = judge.examine(&world.disks[0]);
        let text = judge.examine(&disks[0]);
        for name in [
            "Raid Level",
            "Data Offset",
            "Super Offset",
            "Array Size",
            "Raid Devices",
            "PPL",
            "Feature Map",
            "Bad Block Log",
        ] {
            // (mdadm leaves no room for a bitmap where a level has none.)
            let differs = name == "Bad Block Log" && case == "12-raid0";
            if text.contains(name) && !differs {
                assert_eq!(value(&ours, name), value(&text, name), "{case}");
            }
        }
    }
}

#[test]
fn mdadm_reads_names_and_bad_blocks() {
    let Some(judge) = Judge::new("more") else {
        return;
    };
    let disks = load("md/gen/12-raid1-bitmap-wm");
    let format = version_of(&disks);
    let set: Box<MdSet> = open(format, &disks).unwrap();
    let mut world = World::of(Of(format), set, disks, 0);
    let volume = 0;
    world.apply(&Event::VolumeRenamed(volume, Text::from_text("box:data")));
    world.apply(&Event::RegionsDirty {
        volume,
        first: 7,
        count: 3,
    });
    for sector in [4096, 20_000] {
        world.apply(&Event::BadRangeAdded(BadRange {
            disk: 1,
            sector,
            sectors: 600,
        }));
    }
    for disk in &world.disks {
        let text = judge.examine(disk);
        assert!(value(&text, "Name").starts_with("box:data"), "{text}");
        assert_eq!(value(&text, "State"), "active");
        assert_eq!(value(&text, "Internal Bitmap"), "8 sectors from superblock");
    }
    let text = judge.ask("--examine-badblocks", &world.disks[1]);
    for part in [
        "4096 for 512",
        "4608 for 88",
        "20000 for 512",
        "20512 for 88",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let spare = world.add(41, SpareRole::Global);
    let key = world.set.meta(spare).unwrap().number as usize;
    let text = judge.examine(&world.disks[key]);
    assert_eq!(value(&text, "Device Role"), "spare", "{}", format.name());
}

/// The mark of a check or repair is nothing to mdadm: but for the checksum it says what it said before.
#[test]
fn mdadm_does_not_see_scrubs() {
    let Some(judge) = Judge::new("scrubs") else {
        return;
    };
    for format in ALL {
        for (level, count) in [(Level::Raid1, 2u16), (Level::Raid6, 4)] {
            let mut world = World::made(Of(format), usize::from(count), 40, 512, 0);
            let disks: Vec<Option<u16>> = (0..count).map(Some).collect();
            world.apply(&Event::VolumeCreated(spec(level, &disks)));
            let said = |world: &World| {
                let text = judge.examine(&world.disks[0]);
                let lines = text.lines().filter(|line| !line.contains("Checksum"));
                lines.map(str::to_owned).collect::<Vec<_>>()
            };
            let before = said(&world);
            for repairs in [false, true] {
                let scrub = Scrub {
                    repairs,
                    done_sectors: 4096,
                };
                world.apply(&Event::ScrubProgress(0, Some(scrub)));
                assert!(!world.set.plan().is_empty());
                assert_eq!(said(&world), before);
            }
        }
    }
}
