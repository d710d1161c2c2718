// SPDX-License-Identifier: GPL-2.0

//! What `mdadm -E` says of what we write. Runs where mdadm is (the toolbox has it); elsewhere it says
//! that it was skipped; in the toolbox that is a failure.

use crate::ddf_common::damage::spec;
use crate::ddf_common::{apply, blanks, create};
use emd_core::metadata::MetadataSet;
use emd_core::model::{Event, Layout, Level, Rotation, SpareRole, VolumeSpec};
use host_tests::samples::Disk;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

fn mdadm() -> Option<&'static str> {
    ["/sbin/mdadm", "/usr/sbin/mdadm", "/usr/bin/mdadm"]
        .into_iter()
        .find(|path| Path::new(path).exists())
}

/// Writes the disks as sparse files.
fn save(disks: &[Disk], folder: &Path) -> Vec<PathBuf> {
    std::fs::create_dir_all(folder).unwrap();
    disks
        .iter()
        .enumerate()
        .map(|(index, disk)| {
            let path = folder.join(format!("d{index}.img"));
            let mut file = std::fs::File::create(&path).unwrap();
            file.set_len(disk.size_sectors * 512).unwrap();
            for (sector, bytes) in disk.runs() {
                file.seek(SeekFrom::Start(sector * 512)).unwrap();
                file.write_all(bytes).unwrap();
            }
            path
        })
        .collect()
}

fn examine(program: &str, path: &Path) -> String {
    let output = Command::new(program).arg("-E").arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// The value of a line "name : value", blanks squeezed.
fn value(text: &str, name: &str) -> String {
    text.lines()
        .find(|line| line.trim_start().starts_with(name))
        .and_then(|line| line.split_once(" : "))
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

/// Images stay in `$EMD_DDF_IMAGES` when it is set, for tests in the guest.
fn folder(name: &str) -> PathBuf {
    match std::env::var_os("EMD_DDF_IMAGES") {
        Some(path) => PathBuf::from(path).join(name),
        None => std::env::temp_dir().join(format!("emd-ddf-{name}-{}", std::process::id())),
    }
}

fn forget(folder: &Path) {
    if std::env::var_os("EMD_DDF_IMAGES").is_none() {
        let _ = std::fs::remove_dir_all(folder);
    }
}

#[test]
fn mdadm_reads_what_we_create() {
    let Some(program) = mdadm() else {
        host_tests::skip("mdadm");
        return;
    };
    let mut disks = blanks(4, 80, 512);
    let mut set = create(&mut disks, "set");
    let all = [Some(0), Some(1), Some(2)];
    let two = [Some(2), Some(0)];
    let step = |set: &mut _, disks: &mut [Disk], event: &Event<'_>, n| {
        apply(set, disks, event, n).unwrap_or_else(|why| panic!("{event:?}: {why}"));
    };
    let five = spec("five", Level::Raid5, 2 * 65536, &all);
    step(&mut set, &mut disks, &Event::VolumeCreated(five), 1);
    let one = spec("one", Level::Raid1, 16384, &two);
    step(&mut set, &mut disks, &Event::VolumeCreated(one), 2);
    step(
        &mut set,
        &mut disks,
        &Event::SpareAssigned(3, SpareRole::Global),
        3,
    );
    let dir = folder("created");
    let paths = save(&disks, &dir);
    for (index, path) in paths.iter().enumerate() {
        let text = examine(program, path);
        assert_eq!(value(&text, "Magic"), "de11de11", "{text}");
        assert_eq!(value(&text, "Version"), "01.02.00", "{text}");
        assert_eq!(value(&text, "Redundant hdr"), "yes", "{text}");
        assert_eq!(value(&text, "Seq"), "00000004", "{text}");
        assert_eq!(value(&text, "Virtual Disks"), "2", "{text}");
        assert_eq!(value(&text, "Name[0]"), "five", "{text}");
        assert_eq!(value(&text, "Name[1]"), "one", "{text}");
        assert_eq!(value(&text, "state[0]"), "Optimal, Consistent", "{text}");
        assert_eq!(value(&text, "init state[0]"), "Fully Initialised", "{text}");
        if index < 3 {
            assert_eq!(
                value(&text, "Raid Devices[0]"),
                "3 (0@0K 1@0K 2@0K)",
                "{text}"
            );
            assert_eq!(value(&text, "Raid Level[0]"), "RAID5", "{text}");
            assert_eq!(value(&text, "Chunk Size[0]"), "128 sectors", "{text}");
            assert_eq!(value(&text, "Array Size[0]"), "65536", "{text}");
        }
        if index == 0 || index == 2 {
            assert_eq!(
                value(&text, "Raid Devices[1]"),
                "2 (2@32768K 0@32768K)",
                "{text}"
            );
            assert_eq!(value(&text, "Raid Level[1]"), "RAID1", "{text}");
            assert_eq!(value(&text, "Device Size[1]"), "8192", "{text}");
        }
        assert_eq!(text.matches("active/Online").count(), 3, "{text}");
        assert_eq!(text.matches("Global-Spare/Online").count(), 1, "{text}");
    }

    // A failed disk, and the spare in its place.
    step(&mut set, &mut disks, &Event::Dirty(0), 4);
    step(&mut set, &mut disks, &Event::DiskFailed(1), 5);
    let activated = Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: 3,
    };
    step(&mut set, &mut disks, &activated, 6);
    let text = examine(program, &save(&disks, &dir)[0]);
    assert_eq!(
        value(&text, "state[0]"),
        "Degraded, Not Consistent",
        "{text}"
    );
    assert_eq!(
        value(&text, "Raid Devices[0]"),
        "3 (0@0K 3@0K 2@0K)",
        "{text}"
    );
    assert_eq!(text.matches("Offline, Failed").count(), 1, "{text}");
    assert_eq!(
        text.matches("active/Online, Rebuilding").count(),
        1,
        "{text}"
    );
    step(
        &mut set,
        &mut disks,
        &Event::RebuildDone { volume: 0, slot: 1 },
        7,
    );
    step(&mut set, &mut disks, &Event::Clean(0), 8);
    step(&mut set, &mut disks, &Event::DiskMissing(2), 9);
    let text = examine(program, &save(&disks, &dir)[0]);
    assert_eq!(value(&text, "state[0]"), "Degraded, Consistent", "{text}");
    assert_eq!(
        text.matches("Offline, Failed, Missing").count(),
        1,
        "{text}"
    );
    assert_eq!(set.set().generation, 10);
    forget(&dir);
}

#[test]
fn mdadm_reads_two_levels() {
    let Some(program) = mdadm() else {
        host_tests::skip("mdadm");
        return;
    };
    let mut disks = blanks(4, 80, 512);
    let mut set = create(&mut disks, "set");
    let all = [Some(0), Some(1), Some(2), Some(3)];
    let ten = spec("ten", Level::Raid10, 0, &all);
    apply(&mut set, &mut disks, &Event::VolumeCreated(ten), 1).unwrap();
    let dir = folder("two-levels");
    let paths = save(&disks, &dir);
    let text = examine(program, &paths[2]);
    assert_eq!(value(&text, "Raid Devices[0]"), "2 (2@0K 3@0K)", "{text}");
    assert_eq!(value(&text, "Raid Level[0]"), "RAID1", "{text}");
    assert_eq!(value(&text, "Secondary Position[0]"), "1 of 2", "{text}");
    assert_eq!(value(&text, "Secondary Level[0]"), "Spanned", "{text}");
    assert_eq!(value(&text, "Device Size[0]"), "49152", "{text}");
    assert_eq!(value(&text, "Array Size[0]"), "98304", "{text}");
    forget(&dir);
}

/// Levels that mdadm knows, and what it calls them; of 50 and 60 it reads the records, though it does
/// not run them.
#[test]
fn mdadm_reads_every_level() {
    let Some(program) = mdadm() else {
        host_tests::skip("mdadm");
        return;
    };
    for (level, layout, count, spans, name, devices) in [
        (
            Level::Raid4,
            Rotation::ParityLast,
            3u16,
            1u16,
            "RAID4",
            "3 (0@0K 1@0K 2@0K)",
        ),
        (
            Level::Raid6,
            Rotation::DdfZeroRestart,
            4,
            1,
            "RAID6",
            "4 (0@0K 1@0K 2@0K 3@0K)",
        ),
        (
            Level::Raid6,
            Rotation::DdfNContinue,
            4,
            1,
            "RAID6",
            "4 (0@0K 1@0K 2@0K 3@0K)",
        ),
        (
            Level::Raid5,
            Rotation::LeftSymmetric,
            6,
            2,
            "RAID5",
            "3 (0@0K 1@0K 2@0K)",
        ),
        (
            Level::Raid6,
            Rotation::DdfNRestart,
            8,
            2,
            "RAID6",
            "4 (0@0K 1@0K 2@0K 3@0K)",
        ),
    ] {
        let what = format!("{level} {} {spans}", layout.name());
        let mut disks = blanks(usize::from(count), 80, 512);
        let mut set = create(&mut disks, "set");
        let all: Vec<Option<u16>> = (0..count).map(Some).collect();
        let spec = VolumeSpec {
            layout: Some(Layout::Parity(layout)),
            spans,
            ..spec("vol", level, 0, &all)
        };
        apply(&mut set, &mut disks, &Event::VolumeCreated(spec), 1).unwrap();
        let dir = folder(&format!("level-{count}-{spans}-{}", layout.name()));
        let paths = save(&disks, &dir);
        let text = examine(program, &paths[0]);
        assert_eq!(value(&text, "Raid Level[0]"), name, "{what}: {text}");
        assert_eq!(value(&text, "Raid Devices[0]"), devices, "{what}: {text}");
        assert_eq!(
            value(&text, "state[0]"),
            "Optimal, Consistent",
            "{what}: {text}"
        );
        let width = u64::from(count / spans);
        let data = (width - u64::from(level.parity_members())) * u64::from(spans);
        assert_eq!(
            value(&text, "Array Size[0]"),
            (data * 49152).to_string(),
            "{what}: {text}"
        );
        if spans > 1 {
            let text = examine(program, paths.last().unwrap());
            assert_eq!(
                value(&text, "Secondary Position[0]"),
                "1 of 2",
                "{what}: {text}"
            );
            assert_eq!(
                value(&text, "Secondary Level[0]"),
                "Spanned",
                "{what}: {text}"
            );
        }
        forget(&dir);
    }
}
