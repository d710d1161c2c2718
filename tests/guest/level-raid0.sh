# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# RAID0, with partitions on it: verified writes, ext4 and xfs, all there after a stop and a start.
# disks: 3x160M virtio
# timeout: 120

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

boot_1() {
  mapfile -t DISKS < <(disks)
  level two raid0 2 "${DISKS[@]}" -- --chunk 64K --size 24M
  NAME=three
  step "RAID0 of three: ext4 and xfs"
  expect "created" emdadm create -e ddf -l raid0 -n three --chunk 16K "${DISKS[@]}"
  filesystems "$(emd_node three)"
  partitions three
}
