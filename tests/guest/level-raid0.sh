# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# RAID0 and concatenation, with partitions on them: verified writes, ext4 and xfs, all there after a stop and a start.
# disks: 3x160M virtio
# timeout: 120

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

boot_1() {
  mapfile -t DISKS < <(disks)
  filesystem_states files raid0 3 "${DISKS[@]}" -- --chunk 16K --size 360M
  ! whole || filesystem_states files concat 3 "${DISKS[@]}" -- --size 360M
  every_loss linear md-1.2 concat 2 "" --size 8M
  level two raid0 2 "${DISKS[@]}" -- --chunk 64K --size 24M
  step "partitions"
  expect "created" emdadm create -e ddf -l raid0 -n three --chunk 16K --size 48M "${DISKS[@]}"
  partitions three
}
