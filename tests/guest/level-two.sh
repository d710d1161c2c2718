# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Two levels, RAID50 and RAID60: verified writes, ext4 and xfs in every state, checks and rebuilds under load, lost members of one
# span and of all at once, and one more than a span bears.
# disks: 9x128M virtio
# timeout: 300

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

boot_1() {
  mapfile -t DISKS < <(disks)
  LOSSES="0 1 2 3 4 5 0,3 1,4 2,5" filesystem_states files raid50 6 "${DISKS[@]}" -- --chunk 64K --size 356M --spans 2
  ! whole || LOSSES="0,1 0,4 2,3 5,6 0,1,4,5 2,3,6,7" filesystem_states files raid60 8 "${DISKS[@]}" -- --chunk 64K --size 356M --spans 2
  every_loss fifty ddf raid50 6 "0 4 0,3 2,5" --chunk 16K --size 4M --spans 2
  ! whole || every_loss three ddf raid50 9 "0,3,6 2,4,8" --chunk 16K --size 4608K --spans 3
  every_loss sixty ddf raid60 8 "0 0,1 0,4 0,1,4,5 2,3,6 1,2,6,7" --chunk 16K --size 4M --spans 2

  step "more than a span bears"
  expect "created" emdadm create -e ddf -l raid50 -n both --chunk 16K --size 8M --assume-clean --force --spans 2 "${DISKS[@]:0:6}"
  wait_for 10 emd_node both
  expect "one of the first" emdadm fail both "${DISKS[0]}"
  expect_failure "a second one of the first is refused" emdadm fail both "${DISKS[1]}"
  expect "one of the second" emdadm fail both "${DISKS[5]}"
}
