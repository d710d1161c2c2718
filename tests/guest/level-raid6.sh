# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# RAID6 in all of DDF's rotations: verified writes, filesystems, one and two lost members, rebuilds of one and of two at once under load.
# disks: 7x72M virtio
# timeout: 400

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

# both_lost NAME LAYOUT: two members at once are lost, written over, and rebuilt together.
both_lost() {
  local data sums half slots slot back
  NAME=$1
  step "$NAME: two members are lost, $2"
  expect "created" emdadm create -e ddf -l raid6 -n "$NAME" --layout "$2" --chunk 16K --size 16M --assume-clean --force "${DISKS[@]:0:5}"
  wait_for 10 emd_node "$NAME"
  data=/dev/$(emd_node "$NAME")
  for slots in "0 1" "1 4" "2 3"; do
    sums=$(fill "$data" 5)
    for slot in $slots; do
      expect "slot $slot is failed" emdadm fail "$NAME" "$(emd_member_device "$NAME" "$slot")"
    done
    wait_for 10 emd_is "$NAME" degraded
    expect_equal "the data" "$(sum "$data")" "$sums"
    expect "fio writes and verifies" verify_fio "${data#/dev/}"
    sums=$(fill "$data" 6)
    half=$(half_sum "$data")
    fio_while "${data#/dev/}"
    mapfile -t back < <(lost_disks)
    expect "the disks come back" emdadm add "$NAME" "${back[@]:0:2}"
    wait_for 60 emd_is "$NAME" optimal
    fio_done
    expect_equal "the half that was left alone" "$(half_sum "$data")" "$half"
  done
  expect "a check" emdadm check --wait "$NAME"
  expect_equal "places that do not agree" "$(emd_get "$NAME" '.mismatches | length')" 0
  expect "deleted" emdadm delete --force "$NAME"
}

# The disks that are of no use to the array just now: failed ones, and those never used.
lost_disks() {
  local disk used
  used=$(emd_get "$NAME" '.members[] | select(.state == "in-sync" or .state == "rebuilding") | .device')
  for disk in "${DISKS[@]}"; do
    grep -qxF "$disk" <<<"$used" || echo "$disk"
  done
}

boot_1() {
  mapfile -t DISKS < <(disks)
  both_lost zero ddf-zero-restart
  level continue raid6 5 "${DISKS[@]}" -- --chunk 64K --size 24M
  level restart raid6 4 "${DISKS[@]}" -- --layout ddf-N-restart --chunk 16K --size 12M
  both_lost again ddf-N-continue
}
