// SPDX-License-Identifier: GPL-2.0

//! Sample disks as the host tests hold them: what is written is read back, and every packed one can be read.

use host_tests::samples::{cases, load, Disk};

#[test]
fn a_written_sector_is_read_back_and_runs_merge() {
    let mut disk = Disk::blank("d", 100, 512);
    disk.write(10, &[1; 1024]);
    disk.write(14, &[2; 512]);
    disk.write(11, &[3; 1536]);
    assert_eq!(disk.runs().count(), 1);
    let bytes = disk.read(9, 7);
    let first: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
    assert_eq!(first, [0, 1, 3, 3, 3, 2, 0]);
}

#[test]
fn every_packed_disk_loads() {
    for case in cases("ddf") {
        for disk in load(&case) {
            assert!(disk.runs().count() > 0, "{case}/{} is empty", disk.name);
        }
    }
}
