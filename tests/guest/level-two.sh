# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Two levels, RAID50 and RAID60: verified writes, ext4 and xfs in every state, checks and rebuilds under load, lost members of one
# span and of all at once, and one more than a span bears. In the whole run each loss of two, and many of three and four.
# disks: 9x128M virtio
# timeout: 300

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

# What RAID 50 of twice three bears: one of each span. (A daily run takes the first two of a list and the last one.)
# shellcheck disable=SC2054 # slots, with commas between
FIFTY=(0 4 0,{3..5} 1,{3..5} 2,{3..5})
# Of what RAID 60 of twice four bears: all pairs, and each pair of a span with one or two of the other one.
# shellcheck disable=SC2054 # the same
SIXTY=(0 0,{1..7} 1,{2..7} 2,{3..7} 3,{4..7} 4,{5..7} 5,{6,7} 6,7
  0,1,4 0,2,5 0,3,6 1,2,7 1,3,4 2,3,6 0,4,5 1,4,6 2,4,7 3,5,6 0,5,7 1,6,7
  0,1,4,5 0,2,4,6 0,3,4,7 1,2,5,6 1,3,5,7 2,3,6,7 1,2,6,7)

boot_1() {
  mapfile -t DISKS < <(disks)
  LOSSES="0 1 2 3 4 5 ${FIFTY[*]:2}" filesystem_states files raid50 6 "${DISKS[@]}" -- --chunk 64K --size 356M --spans 2
  ! whole || LOSSES="0,1 0,4 2,3 5,6 0,2,6 1,5,7 0,1,4,5 2,3,6,7" filesystem_states files raid60 8 "${DISKS[@]}" -- --chunk 64K --size 356M --spans 2
  every_loss fifty ddf raid50 6 "${FIFTY[*]}" --chunk 16K --size 4M --spans 2
  ! whole || every_loss three ddf raid50 9 "0,3,6 2,4,8" --chunk 16K --size 4608K --spans 3
  every_loss sixty ddf raid60 8 "${SIXTY[*]}" --chunk 16K --size 4M --spans 2

  step "more than a span bears"
  expect "created" emdadm create -e ddf -l raid50 -n both --chunk 16K --size 8M --assume-clean --force --spans 2 "${DISKS[@]:0:6}"
  wait_for 10 emd_node both
  expect "one of the first" emdadm fail both "${DISKS[0]}"
  expect_failure "a second one of the first is refused" emdadm fail both "${DISKS[1]}"
  expect "one of the second" emdadm fail both "${DISKS[5]}"
}
