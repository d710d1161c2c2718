// SPDX-License-Identifier: GPL-2.0

//! The program as people run it: usage, exit codes, and `examine` on other tools' disks.
//!
//! None of this needs the module. Where `/dev/emd` exists (a test inside a guest), the tests about
//! its absence say nothing.

use host_tests::samples;
use serde_json::Value;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn emdadm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_emdadm"))
        .args(args)
        .output()
        .expect("run emdadm")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by itself")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&path).expect("scratch folder");
    path
}

/// The disks of a sample case as sparse image files.
fn images(case: &str) -> Vec<String> {
    write_images(case, &samples::load(case))
}

/// Disks as sparse image files.
fn write_images(case: &str, disks: &[samples::Disk]) -> Vec<String> {
    // Tests run at the same time: each has its own files.
    let test = std::thread::current().name().unwrap_or("test").to_owned();
    let folder = scratch(&format!("{test}/{}", case.replace('/', "-")));
    disks
        .iter()
        .map(|disk| {
            use std::io::{Seek, SeekFrom, Write};
            let path = folder.join(&disk.name);
            let mut file = std::fs::File::create(&path).expect("image");
            file.set_len(disk.size_sectors * 512).expect("size");
            // In pieces; zeros stay holes.
            let step = 2048;
            for sector in (0..disk.size_sectors).step_by(step) {
                let count = (disk.size_sectors - sector).min(step as u64) as usize;
                let bytes = disk.read(sector, count);
                if bytes.iter().any(|&byte| byte != 0) {
                    file.seek(SeekFrom::Start(sector * 512)).expect("seek");
                    file.write_all(&bytes).expect("write");
                }
            }
            path.to_str().expect("UTF-8 path").to_owned()
        })
        .collect()
}

fn examine(extra: &[&str], images: &[String]) -> Output {
    let mut args = vec!["examine"];
    args.extend(extra);
    args.extend(images.iter().map(String::as_str));
    emdadm(&args)
}

#[test]
fn every_command_has_help() {
    let help = out(&emdadm(&["--help"]));
    // As it lists them itself: one that is new needs examples too.
    let listed = help
        .split("Commands:\n")
        .nth(1)
        .expect("a list of commands");
    let commands: Vec<&str> = listed
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .collect();
    for command in [
        "create", "scan", "start", "list", "show", "examine", "formats", "add", "fail", "remove",
        "spare", "stop", "delete", "rename", "policy", "check", "repair", "resync", "pause",
        "resume", "cancel", "limit", "monitor", "wait",
    ] {
        assert!(commands.contains(&command), "{command} in --help");
    }
    for command in commands {
        let output = emdadm(&[command, "--help"]);
        assert_eq!(code(&output), 0);
        let text = out(&output);
        assert!(text.contains("Usage: emdadm"), "{command}");
        let examples = text.split("Examples:\n").nth(1).unwrap_or("");
        let own = format!("  emdadm {command}");
        assert!(examples.contains(&own), "no examples of {command}: {text}");
    }
    assert!(help.contains("Exit codes:") && help.contains("Examples:"));
    assert_eq!(code(&emdadm(&["assemble", "--help"])), 0, "alias of scan");
    assert!(out(&emdadm(&["--version"])).starts_with("emdadm "));
}

#[test]
fn wrong_usage_is_2() {
    for args in [
        &[][..],
        &["frobnicate"],
        &["create", "/dev/null"],
        &["create", "-e", "ddf", "--set", "x", "--set-name", "y"],
        &["create", "-e", "ddf", "--name", "x", "/dev/null"],
        &["create", "-e", "ddf", "--regions", "yes", "/dev/null"],
        &["create", "--set", "x", "-l", "raid1", "--regions", "maybe"],
        &[
            "create",
            "-e",
            "ddf",
            "-l",
            "raid0",
            "--chunk",
            "1Q",
            "/dev/null",
        ],
        &[
            "create",
            "-e",
            "ddf",
            "-l",
            "raid0",
            "--size",
            "100",
            "/dev/null",
        ],
        &["examine"],
        &["examine", "--sector-size", "520", "x"],
        &["add", "emd0"],
        &["remove", "emd0"],
        &["remove", "emd0", "--disk", "1", "/dev/null"],
        &["spare", "--off", "--dedicated", "emd0", "/dev/null"],
        &["stop"],
        &["stop", "--all", "emd0"],
        &["rename", "emd0"],
        &["wait", "--timeout", "soon"],
        &["check", "--check", "emd0"],
        // Less than 1K would be no limit.
        &["limit", "--max", "512", "emd0"],
        &["limit", "--min", "1s"],
        &["scan", "--set", "shelf"],
        // A character device and a file are no disks.
        &["add", "emd0", "/dev/null"],
        &["create", "-e", "ddf", "-l", "raid0", "Cargo.toml"],
    ] {
        let output = emdadm(args);
        assert_eq!(code(&output), 2, "{args:?}: {}", err(&output));
        assert!(!err(&output).is_empty());
        let output = emdadm(&[args, &["--json"]].concat());
        assert_eq!(code(&output), 2, "{args:?}: {}", err(&output));
        assert_eq!(json(&output)["error"]["exit_code"], 2, "{args:?}");
        let text = json(&output)["error"]["text"].as_str().map(str::to_owned);
        let text = text.expect("text");
        let shown = err(&output)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(!text.is_empty() && shown.contains(&text), "{text}");
    }
    // Help is no failure, whoever asks for it.
    let output = emdadm(&["--json", "stop", "--help"]);
    assert_eq!(code(&output), 0);
    assert!(out(&output).contains("Usage:"));
}

/// `emdadm … | head -1`: what nobody reads is not printed, and that is no crash. The exit code is what it is.
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let healthy = images("ddf/gen/raid1");
    let degraded = images("ddf/gen/raid5-degraded");
    for (args, images, wanted) in [
        (&["examine"][..], &healthy, 0),
        (&["examine", "--json"], &healthy, 0),
        (&["examine", "--check"], &degraded, 3),
        (&["--help"], &Vec::new(), 0),
        (&["frobnicate", "--json"], &Vec::new(), 2),
    ] {
        let (kept, gone) = UnixStream::pair().expect("a pair of sockets");
        drop(gone);
        let output = Command::new(env!("CARGO_BIN_EXE_emdadm"))
            .args(args)
            .args(images)
            .stdout(OwnedFd::from(kept))
            .stderr(Stdio::piped())
            .output()
            .expect("run emdadm");
        assert_eq!(code(&output), wanted, "{args:?}: {}", err(&output));
        assert!(!err(&output).contains("panicked"), "{}", err(&output));
        assert!(wanted == 2 || output.stderr.is_empty(), "{}", err(&output));
    }
}

/// What cannot be written because the disk is full, or the like, is a failure.
#[test]
fn output_that_is_lost_is_a_failure() {
    let full = std::fs::File::options().write(true).open("/dev/full");
    let output = Command::new(env!("CARGO_BIN_EXE_emdadm"))
        .arg("examine")
        .args(images("ddf/gen/raid1"))
        .stdout(full.expect("/dev/full"))
        .stderr(Stdio::piped())
        .output()
        .expect("run emdadm");
    assert_eq!(code(&output), 1, "{}", err(&output));
    assert!(err(&output).contains("standard output"), "{}", err(&output));
}

#[test]
fn files_are_refused_with_a_hint() {
    let output = emdadm(&["add", "emd0", "Cargo.toml"]);
    assert!(err(&output).contains("losetup"), "{}", err(&output));
    assert!(err(&output).contains("emdadm examine"), "{}", err(&output));
}

#[test]
fn what_is_not_there_is_4() {
    assert_eq!(code(&emdadm(&["add", "emd0", "/dev/no-such-disk"])), 4);
    assert_eq!(code(&emdadm(&["examine", "/no/such/file"])), 4);
    if Path::new("/dev/emd").exists() {
        return;
    }
    for args in [
        &["list"][..],
        &["show", "emd0"],
        &["formats"],
        &["stop", "--all"],
        &["monitor"],
        &["wait"],
        &["scan"],
    ] {
        let output = emdadm(args);
        assert_eq!(code(&output), 4, "{args:?}");
        assert!(err(&output).contains("insmod emd.ko"), "{}", err(&output));
    }
    let output = emdadm(&["--json", "list"]);
    let error = &json(&output)["error"];
    assert_eq!(error["exit_code"], 4);
    assert!(error["text"]
        .as_str()
        .expect("text")
        .contains("module is not loaded"));
}

#[test]
fn examine_of_blank_and_tiny_files() {
    let folder = scratch("blank");
    for (name, len) in [
        ("empty", 0),
        ("one", 1),
        ("sector", 512),
        ("odd", 513),
        ("mebi", 1 << 20),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, vec![0u8; len]).expect("write");
        let path = path.to_str().expect("UTF-8").to_owned();
        let output = examine(&["--json"], std::slice::from_ref(&path));
        assert_eq!(code(&output), 4, "{name}");
        // One object: what was found, and the failure.
        let found = json(&output);
        assert_eq!(found["error"]["exit_code"], 4);
        assert_eq!(found["without_metadata"][0], path.as_str());
        assert_eq!(found["sets"].as_array().map(Vec::len), Some(0));
    }
}

#[test]
fn examine_shows_what_mdadm_made() {
    let images = images("ddf/gen/raid5-ls");
    let output = examine(&["--json", "--check"], &images);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let found = json(&output);
    assert_eq!(found["problems"], serde_json::json!([]));
    assert_eq!(found["without_metadata"], serde_json::json!([]));
    let set = &found["sets"][0];
    assert_eq!(set["format"], "ddf");
    assert_eq!(set["disks"].as_array().map(Vec::len), Some(4));
    let volume = &set["volumes"][0];
    assert_eq!(volume["name"], "vol0");
    assert_eq!(volume["level"], "raid5");
    assert_eq!(volume["layout"], "left-symmetric");
    assert_eq!(volume["chunk_sectors"], 128);
    assert_eq!(volume["state"], "optimal");
    assert_eq!(volume["device"], Value::Null);
    assert_eq!(volume["task"], Value::Null);
    let members = volume["members"].as_array().expect("members");
    assert_eq!(members.len(), 4);
    // Each member names the file that it is on, and that file's disk.
    for member in members {
        let device = member["device"].as_str().expect("device");
        assert!(images.iter().any(|image| image == device), "{device}");
        let disk = usize::try_from(member["disk"].as_u64().expect("disk")).expect("small");
        assert_eq!(set["disks"][disk]["device"], device);
    }
    let text = out(&examine(&[], &images));
    assert!(
        text.contains("raid5 left-symmetric, chunk 64 KiB"),
        "{text}"
    );
    // The order of the files plays no part.
    let mut backwards = images.clone();
    backwards.reverse();
    let other = json(&examine(&["--json"], &backwards));
    assert_eq!(other["sets"][0]["id"], set["id"]);
    assert_eq!(other["sets"][0]["volumes"], set["volumes"]);
}

#[test]
fn examine_with_disks_missing_or_failed() {
    let degraded = images("ddf/gen/raid5-degraded");
    let output = examine(&["--json", "--check"], &degraded);
    assert_eq!(code(&output), 3);
    assert_eq!(json(&output)["sets"][0]["volumes"][0]["state"], "degraded");
    assert_eq!(code(&examine(&[], &degraded)), 0, "without --check");

    let images = images("ddf/gen/raid5-ls");
    let three = json(&examine(&["--json"], &images[..3]));
    assert_eq!(three["sets"][0]["volumes"][0]["state"], "degraded");
    let missing = |found: &Value| {
        let disks = found["sets"][0]["disks"].as_array().expect("disks");
        disks
            .iter()
            .filter(|disk| disk["state"] == "missing")
            .count()
    };
    assert_eq!(missing(&three), 1);
    let two = json(&examine(&["--json"], &images[..2]));
    assert_eq!(two["sets"][0]["volumes"][0]["state"], "failed");
    assert_eq!(missing(&two), 2);
}

#[test]
fn examine_keeps_sets_apart() {
    let mut both = images("ddf/gen/raid1");
    both.extend(images("ddf/gen/raid0"));
    let blank = scratch("apart").join("blank");
    std::fs::write(&blank, vec![0u8; 1 << 20]).expect("write");
    both.push(blank.to_str().expect("UTF-8").to_owned());
    let output = examine(&["--json"], &both);
    assert_eq!(code(&output), 0);
    let found = json(&output);
    let levels: Vec<_> = found["sets"]
        .as_array()
        .expect("sets")
        .iter()
        .map(|set| {
            set["volumes"][0]["level"]
                .as_str()
                .expect("level")
                .to_owned()
        })
        .collect();
    assert_eq!(levels, ["raid1", "raid0"]);
    assert_eq!(found["without_metadata"].as_array().map(Vec::len), Some(1));
}

/// A healthy set of each format, as files without serial numbers: all is well.
#[test]
fn examine_calls_healthy_sets_healthy() {
    for (case, format, members) in [
        ("ddf/gen/raid5-ls", "ddf", 4),
        ("imsm/gen/raid1", "imsm", 2),
        ("imsm/gen/raid5-4", "imsm", 4),
        ("md/gen/12-raid5-ls", "md", 4),
        ("asr", "asr", 2),
    ] {
        let images = match case {
            "asr" => new_asr(),
            case => images(case),
        };
        let output = examine(&["--json", "--check"], &images);
        let found = json(&output);
        assert_eq!(code(&output), 0, "{case}: {found:#}");
        assert_eq!(found["sets"].as_array().map(Vec::len), Some(1), "{case}");
        let set = &found["sets"][0];
        assert!(set["format"].as_str().unwrap().starts_with(format), "{set}");
        let volume = &set["volumes"][0];
        assert_eq!(volume["state"], "optimal", "{case}");
        let states: Vec<_> = volume["members"]
            .as_array()
            .expect("members")
            .iter()
            .map(|member| member["state"].as_str().expect("state"))
            .collect();
        assert_eq!(states, vec!["in-sync"; members], "{case}");
        assert_eq!(code(&examine(&["--check"], &images)), 0, "{case}");
    }
}

/// A new RAID 1 in Adaptec's format: the samples have no whole set.
fn new_asr() -> Vec<String> {
    use emd_core::metadata::registry;
    use emd_core::model::{DiskFacts, Event, Level, Text};
    use host_tests::shell;
    let format = registry::by_name("asr").expect("format");
    let mut disks: Vec<_> = (0..2)
        .map(|nth| samples::Disk::blank(&format!("d{nth}"), 40 << 11, 512))
        .collect();
    let facts: Vec<_> = (0u64..)
        .zip(&disks)
        .map(|(key, disk)| DiskFacts {
            key,
            size_sectors: disk.size_sectors,
            logical_block_bytes: 512,
            serial: Text::from_text(&disk.name),
        })
        .collect();
    let context = shell::context(1);
    let mut set = format.create(&facts, "", &context).expect("a set");
    let places = [Some(0), Some(1)];
    let mut spec = shell::spec("vol0", Level::Raid1, &places);
    spec.assume_clean = true;
    for event in [None, Some(Event::VolumeCreated(spec))] {
        if let Some(event) = event {
            set.apply(&event, &context).expect("a volume");
        }
        for write in set.plan().writes() {
            let disk = &mut disks[usize::from(write.disk)];
            disk.write(write.sector, set.bytes(&write.source));
        }
    }
    write_images("asr", &disks)
}

/// Intel's metadata tells disks by their serial numbers, which files do not have.
#[test]
fn examine_of_files_without_serial_numbers() {
    let images = images("imsm/gen/raid1");
    // Both disks are there; which of them is which cannot be told.
    let output = examine(&["--json"], &images);
    let found = json(&output);
    let set = &found["sets"][0];
    assert_eq!(set["disks"][0]["state"], "online");
    assert_eq!(set["disks"][0]["device"], Value::Null);
    assert_eq!(set["volumes"][0]["members"][0]["device"], Value::Null);
    let notes = set["notes"].to_string();
    assert!(notes.contains("FILE=SERIAL"), "{notes}");

    // It can when it is said. mdadm gave them to the table the other way round.
    let told = |nth: usize| format!("{}=QM{nth:05}i-raid1", images[nth]);
    let output = examine(&["--json", "--check"], &[told(0), told(1)]);
    assert_eq!(code(&output), 0);
    let found = json(&output);
    let set = &found["sets"][0];
    assert_eq!(set["notes"], serde_json::json!([]));
    for disk in set["disks"].as_array().expect("disks") {
        let nth = usize::from(disk["label"] == "QM00001i-raid1");
        assert_eq!(disk["device"], images[nth].as_str(), "{disk}");
        assert_eq!(disk["state"], "online");
    }
    // One that is known leaves one place only for the other one.
    let one = json(&examine(&["--json"], &[images[0].clone(), told(1)]));
    assert_eq!(one["sets"][0]["disks"], set["disks"]);

    // One of two: nothing is called lost that is not known to be, and it is said how to go on.
    let output = examine(&["--json", "--check"], &images[..1]);
    assert_eq!(code(&output), 3);
    let found = json(&output);
    let set = &found["sets"][0];
    assert_eq!(set["volumes"][0]["state"], "not-known");
    assert_eq!(set["volumes"][0]["members"][1]["state"], "not-known");
    for disk in set["disks"].as_array().expect("disks") {
        assert_eq!(disk["state"], "not-known", "{disk}");
    }
    let hint = found["problems"][0]["text"].as_str().expect("a problem");
    for word in [
        "FILE=SERIAL",
        "QM00000i-raid1",
        "QM00001i-raid1",
        &images[0],
    ] {
        assert!(hint.contains(word), "{hint}");
    }
    let text = out(&examine(&[], &images[..1]));
    assert!(
        text.contains("not-known") && !text.contains("failed"),
        "{text}"
    );
    // With its serial number it is known that the other one is missing.
    let found = json(&examine(&["--json"], &[told(0)]));
    assert_eq!(found["problems"], serde_json::json!([]));
    assert_eq!(found["sets"][0]["volumes"][0]["state"], "degraded");
}

/// Damage anywhere in the metadata: a set, a problem or nothing, but never a crash.
#[test]
fn examine_survives_damage() {
    let image = images("ddf/gen/raid1").remove(0);
    let good = std::fs::read(&image).expect("image");
    let folder = scratch("damage");
    let path = folder.join("disk").to_str().expect("UTF-8").to_owned();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..60 {
        let mut bad = good.clone();
        // The last mebibyte holds what is read first.
        let tail = bad.len() - (1 << 20);
        for _ in 0..1 + random() % 8 {
            let at = tail + random() as usize % (1 << 20);
            bad[at] = random() as u8;
        }
        let at = bad.len() - 512 + random() as usize % 512;
        bad[at] ^= 1 << (random() % 8);
        std::fs::write(&path, &bad).expect("write");
        let output = examine(&["--json", "--check"], std::slice::from_ref(&path));
        assert!([0, 3, 4].contains(&code(&output)), "{}", err(&output));
    }
}
