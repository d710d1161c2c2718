// SPDX-License-Identifier: GPL-2.0

//! Whether regions are recorded, as somebody asks for it: each format does it, or refuses it and says why.

use emd_core::metadata::registry::FORMATS;
use emd_core::metadata::{check_region_log, Format};
use emd_core::model::{Checked, Context, DiskFacts, Event, Level, Text, VolumeSpec};
use host_tests::shell::spec;
use kernel::prelude::*;

const CONTEXT: Context = Context {
    now_seconds: 1_800_000_000,
    random: [3, 5],
};

/// A new volume on small disks: whether its regions are recorded.
fn make(format: &dyn Format, level: Level, regions: Option<bool>) -> Checked<bool> {
    let disks = [0, 1].map(|key| DiskFacts {
        key,
        size_sectors: 256 << 11,
        logical_block_bytes: 512,
        serial: Text::from_text(["one", "two"][key as usize]),
    });
    let mut set = format.create(&disks, "", &CONTEXT).unwrap();
    let slots = [Some(0), Some(1)];
    let wanted = VolumeSpec {
        regions,
        assume_clean: true,
        ..spec("", level, &slots)
    };
    let fits = set.largest_volume(&wanted);
    let made = set.apply(&Event::VolumeCreated(wanted), &CONTEXT);
    // What is refused is so before anything is written.
    assert_eq!(
        fits.err().map(|why| why.to_string()),
        made.as_ref().err().map(|why| why.to_string())
    );
    made?;
    let volume = set.set().volume(0).expect("a volume");
    Ok(volume.regions.is_some())
}

#[test]
fn who_cannot_says_so() {
    for format in FORMATS {
        let name = format.name();
        let can = format.capabilities().region_log;
        let check = |level, wanted| check_region_log(name, format.capabilities(), level, wanted);
        for level in Level::ALL {
            assert!(check(level, None).is_ok() && check(level, Some(false)).is_ok());
            let why = match check(level, Some(true)) {
                Ok(()) => {
                    assert!(can && level.is_redundant(), "{name}, {level}");
                    continue;
                }
                Err(why) => why,
            };
            assert_eq!(why.errno(), EOPNOTSUPP);
            assert!(!can || !level.is_redundant(), "{name}, {level}: {why}");
            let word = if level.is_redundant() {
                name
            } else {
                level.name()
            };
            let says = why.text().to_lowercase().replace(' ', "");
            assert!(says.contains(word), "{why}");
        }
    }
}

#[test]
fn formats_do_what_they_say() {
    for format in FORMATS {
        let name = format.name();
        let can = format.capabilities().region_log;
        let yes = make(*format, Level::Raid1, Some(true));
        match yes {
            Ok(has) => assert!(can && has, "{name}"),
            Err(why) => {
                assert!(!can, "{name}: {why}");
                assert_eq!(why.errno(), EOPNOTSUPP);
                assert!(why.text().contains("regions"), "{why}");
            }
        }
        let usual = make(*format, Level::Raid1, None).unwrap();
        // Left out, or it says that it cannot be.
        match make(*format, Level::Raid1, Some(false)) {
            Ok(has) => assert!(!has, "{name}"),
            Err(why) => {
                assert!(usual, "{name}: {why}");
                assert_eq!(why.errno(), EOPNOTSUPP);
                assert!(why.text().contains("always"), "{why}");
            }
        }
        // There is no redundancy to be resynced.
        let none = make(*format, Level::Raid0, Some(true));
        assert_eq!(none.map_err(|why| why.errno()), Err(EOPNOTSUPP), "{name}");
        assert!(!make(*format, Level::Raid0, Some(false)).unwrap());
        assert!(!make(*format, Level::Raid0, None).unwrap());
    }
}
