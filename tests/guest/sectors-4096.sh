# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Disks of 4096-byte sectors: RAID5 and RAID1 with all that they go through on others, and partitions.
# disks: 4x80M scsi 4096
# cpus: 1
# timeout: 120

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

boot_1() {
  mapfile -t DISKS < <(disks)
  level five raid5 3 "${DISKS[@]}" -- --chunk 32K --size 24M
  step "an array of 4096-byte sectors"
  expect "created" emdadm create -e ddf -l raid1 -n one --force --size 24M "${DISKS[@]:0:2}"
  expect_equal "its sectors" "$(blockdev --getss "/dev/$(emd_node one)")" 4096
  partitions one
}
