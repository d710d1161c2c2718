# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# RAID1 of two to four copies: verified writes, ext4 and xfs in every state, every loss, checks and rebuilds under load.
# disks: 4x432M virtio
# timeout: 180

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

boot_1() {
  mapfile -t DISKS < <(disks)
  LOSSES="0 1" filesystem_states files raid1 2 "${DISKS[@]}" -- --size 356M
  level two raid1 2 "${DISKS[@]}" -- --size 12M
  every_loss three ddf raid1 3 "0,1 0,2 1,2" --size 3M
  every_loss four md-1.2 raid1 4 "0 0,1,2 1,2,3 0,1,3" --size 3M
  the_last_stays
}

# Nobody takes a mirror's last copy out of use, by force either: there would be nothing left.
the_last_stays() {
  step "the last copy"
  NAME=last
  expect "created" emdadm create -e ddf -l raid1 -n last --assume-clean --force --size 3M "${DISKS[@]:0:2}"
  expect "written" pattern write "/dev/$(emd_node last)" 1
  expect "the first may fail" emdadm fail last "${DISKS[0]}"
  expect_failure "the second may not" emdadm fail last "${DISKS[1]}"
  expect_failure "by force neither" emdadm fail --force last "${DISKS[1]}"
  expect "it goes on" pattern write "/dev/$(emd_node last)" 2
  expect "the data" pattern verify "/dev/$(emd_node last)" 2
  erase_set
}
