# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Volumes that mdadm makes, healthy, with a member lost, and rebuilt, are what EMD assembles: same bytes, same states.
# disks: 5x96M virtio
# emd: manual
# timeout: 120

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

# Sizes in sectors are not multiples of each other's stripes; two sets of volumes share the disks.
boot_1() {
  mapfile -t DISKS < <(disks)
  md_load

  step "several volumes on one set: RAID0, RAID1 of two and three, RAID5 in three rotations"
  run mdadm -CR /dev/md/ddf -e ddf -n4 "${DISKS[@]:0:4}"
  md_create r0 0 3 4M -c32
  md_create r1 1 2 3M
  md_create r1x3 1 3 5M
  md_create r5ls 5 4 6M -c64 -p ls
  md_create r5la 5 3 4M -c16 -p la
  md_create r5ra 5 4 4M -c128 -p ra
  fill_all 1
  md_stop
  emd_takes optimal r0 r1 r1x3 r5ls r5la r5ra
  emd_leaves

  step "RAID1 and RAID5 with a member lost"
  blank_all
  run mdadm -CR /dev/md/ddf -e ddf -n3 "${DISKS[@]:0:3}"
  md_create r1 1 3 4M
  md_create r5 5 3 8M -c64
  fill_all 2
  # A disk of both volumes; mdmon takes it out of both.
  run mdadm -f /dev/md/r5 "$(md_member r1)"
  wait_for 10 md_lost r5 1
  wait_for 10 md_lost r1 1
  # Written without the member, so what it holds is old.
  fill_all 3
  md_stop
  emd_takes - r1 r5
  expect_equal "r5 is degraded" "$(emd_state r5)" degraded
  expect_equal "r1, of three copies, has some left" "$(emd_state r1)" partially-optimal
  expect_equal "r5 has lost one member" "$(emd_members r5 | grep -o -E 'failed|missing' | wc -l)" 1
  emd_leaves

  step "the same, rebuilt by md to a new disk"
  md_assemble "${DISKS[@]:0:3}"
  run mdadm --add "$(md_container)" "${DISKS[4]}"
  # md starts it when the array is written to.
  fill_all 4
  md_wait r5
  md_wait r1
  md_stop
  emd_takes optimal r1 r5
  emd_leaves
}

# A disk of the volume.
md_member() { basename -a /sys/block/"$(basename "$(md_device "$1")")"/md/dev-* | sed -n '1s,dev-,/dev/,p'; }

md_lost() { [[ $(md_sysfs "$1" degraded) == "$2" ]]; }

# Fills all volumes with data that belongs to the seed, and remembers what.
declare -A SUMS
fill_all() { # SEED
  local path
  for path in /dev/md/*; do
    [[ ${path##*/} == ddf* ]] || SUMS[${path##*/}]=$(fill "$path" "$1")
  done
}

blank_all() {
  local device
  for device in "${DISKS[@]}"; do blkdiscard -f -z "$device"; done
}

# EMD finds the volumes by itself, with the data that md wrote and the states that mdadm tells.
emd_takes() { # STATE|- NAME...
  local state=$1 name view
  shift
  emd_load
  for name; do
    wait_for 20 emd_node "$name"
    wait_for 10 emd_runs "$(emd_node "$name")"
    [[ $state == - ]] || expect_equal "$name" "$(emd_state "$name")" "$state"
    expect_equal "$name is clean, nothing is resynced" "$(emd_consistency "$name") $(emd_task "$name")" "clean "
    expect_equal "$name has the bytes that md wrote" "$(sum "/dev/$(emd_node "$name")")" "${SUMS[$name]}"
  done
  view=$(emd_view)
  expect_agreement "$view" "$(emdadm show --json | jq -r '[.sets[].disks[] | select(.state == "online" and .role == "member").device][0]')"
}

emd_leaves() {
  emdadm stop --all >/dev/null
  rmmod emd
}
