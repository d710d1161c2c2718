# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# An array of md's in which a member is being replaced (mdadm --replace): EMD gives the replacement up, which is a spare then, and md agrees. Where the member is away,
# its replacement is it, as far as it was filled.
# disks: 4x16M virtio
# cpus: 1
# emd: manual
# timeout: 90

# shellcheck source=tests/guest/lib-md.sh
source /emd/tests/guest/lib-md.sh

is_replacing() { [[ $(md0_sysfs sync_action) == recover && $(md0_sysfs sync_completed) != none ]]; }

# begun: md is in the middle of replacing the second member with the fourth disk, and stopped there. SUM is what the array holds.
begun() {
  blank_all
  md_load
  md_make 1.2 5 -n3 --chunk=16 --size=8M --bitmap=none "${DISKS[@]:0:3}"
  SUM=$(fill /dev/md0 "$1")
  run mdadm /dev/md0 --add "${DISKS[3]}"
  # As its least, too: no other limit counts below that.
  echo 100 >/sys/block/md0/md/sync_speed_min
  echo 100 >/sys/block/md0/md/sync_speed_max
  run mdadm /dev/md0 --replace "${DISKS[1]}" --with "${DISKS[3]}"
  wait_for 20 is_replacing
  run mdadm -S /dev/md0
  mdadm -E "${DISKS[3]}" | grep -q "Device Role : Replacement device 1\|replacement" || run mdadm -E "${DISKS[3]}"
}

has_spare() { emdadm show --json | jq -e ".sets[0].disks[] | select(.device == \"$1\") | .role == \"global-spare\"" >/dev/null; }

boot_1() {
  mapfile -t DISKS < <(disks)
  step "a replacement under way is given up"
  begun 1
  emd_load
  wait_for 20 emd_runs emd0
  expect_equal "state" "$(emd_state emd0): $(emd_members emd0)" "optimal: in-sync in-sync in-sync"
  expect_equal "it can be written" "$(blockdev --getro /dev/emd0)" 0
  expect_equal "the member is the one that was to go" "$(emd_member_device emd0 1)" "${DISKS[1]}"
  expect_equal "the data" "$(sum /dev/emd0)" "$SUM"
  SUM=$(fill /dev/emd0 2)
  wait_for 10 has_spare "${DISKS[3]}"
  emd0_leaves
  md0_runs 0 "$SUM" "${DISKS[@]}"
  expect_equal "md has it as a spare" "$(cat /sys/block/md0/md/dev-"${DISKS[3]##*/}"/state)" spare
  run mdadm -S /dev/md0

  step "the member is away: its replacement is filled to its end"
  begun 3
  blkdiscard -f -z "${DISKS[1]}" 2>/dev/null
  emd_load
  wait_for 20 emd_runs emd0
  expect "rebuilt" emdadm wait emd0
  wait_for 20 emd_is emd0 optimal
  expect_equal "the member" "$(emd_member_device emd0 1)" "${DISKS[3]}"
  expect_equal "the data" "$(sum /dev/emd0)" "$SUM"
  expect "a check" emdadm check --wait emd0
  expect_equal "places that do not agree" "$(emd_get emd0 '.mismatches | length')" 0
  SUM=$(fill /dev/emd0 4)
  emd0_leaves
  md0_runs 0 "$SUM" "${DISKS[0]}" "${DISKS[2]}" "${DISKS[3]}"
}
