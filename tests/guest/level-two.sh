# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Two levels: RAID50: verified writes, filesystems, a lost member, a rebuild under load, another lost member, one of each span.
# disks: 7x72M virtio
# timeout: 300

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

boot_1() {
  local data sums
  mapfile -t DISKS < <(disks)
  level fifty raid50 6 "${DISKS[@]}" -- --chunk 64K --size 32M --spans 2

  step "a member of each span"
  expect "created" emdadm create -e ddf -l raid50 -n both --chunk 16K --size 16M --assume-clean --force "${DISKS[@]:0:6}"
  wait_for 10 emd_node both
  data=/dev/$(emd_node both)
  sums=$(fill "$data" 3)
  expect "one of the first" emdadm fail both "${DISKS[0]}"
  expect "one of the second" emdadm fail both "${DISKS[5]}"
  wait_for 10 emd_has_lost both
  expect_equal "the data" "$(sum "$data")" "$sums"
  expect "fio" verify_fio "${data#/dev/}"
  expect_failure "a second one of the first is refused" emdadm fail both "${DISKS[1]}"
}
