# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Volumes that EMD makes, healthy, with a member lost, and rebuilt, are what mdadm reads and md runs: same bytes, same
# states, and nothing is synced again. Then back.
# disks: 4x96M virtio
# timeout: 120

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

declare -A SUMS

boot_1() {
  local name view
  mapfile -t DISKS < <(disks)

  # Every volume has the disk that mdadm is told of last: so it starts none before it has seen them all.
  step "several volumes on one set"
  expect "raid5" emdadm create -e ddf -l raid5 -n r5ls --size 18M --chunk 64K "${DISKS[@]:0:4}"
  SET=$(emdadm show --json | jq -r ".sets[0].id")
  add_volume r0 raid0 --size 9M --chunk 32K "${DISKS[@]:1:3}"
  add_volume r1 raid1 --size 4M "${DISKS[@]:2:2}"
  add_volume r1x3 raid1 --size 4M "${DISKS[@]:1:3}"
  add_volume r5la raid5 --layout left-asymmetric --size 8M --chunk 16K "${DISKS[@]:1:3}"
  add_volume r5ra raid5 --layout right-asymmetric --size 12M --chunk 128K "${DISKS[@]:0:4}"
  fill_all 1
  for name in "${!SUMS[@]}"; do wait_for 20 emd_settled "$name"; done
  md_takes 4
  for name in "${!SUMS[@]}"; do md_has "$name" 0; done
  md_stop

  step "two volumes with a member lost"
  make_again 2
  expect "a member is failed" emdadm fail r5 "${DISKS[1]}"
  wait_for 10 emd_is r5 degraded
  fill_all 3
  wait_for 20 emd_is_clean r5
  wait_for 20 emd_is_clean r1
  md_takes 3 1
  md_has r5 1
  md_has r1 1
  md_stop

  step "rebuilt to a new disk"
  emd_load
  for name in r5 r1; do wait_for 20 emd_node $name; done
  expect "a new disk" emdadm add r5 "${DISKS[3]}"
  fill_all 4
  wait_for 40 emd_settled r5
  emd_has r1 "${DISKS[3]}" || expect "the other volume needs it too" emdadm add r1 "${DISKS[3]}"
  wait_for 40 emd_settled r1
  md_takes 4 1
  md_has r5 0
  md_has r1 0

  step "md writes to it, and EMD has it again"
  for name in r5 r1; do SUMS[$name]=$(fill "$(md_device $name)" 5); done
  md_stop
  emd_load
  for name in r5 r1; do
    wait_for 20 emd_node $name
    expect_equal "$name" "$(emd_get $name '[.state, .consistency, .task.kind] | join(" ")')" "optimal clean "
    expect_equal "$name has the bytes that md wrote" "$(sum "/dev/$(emd_node $name)")" "${SUMS[$name]}"
  done
}

add_volume() { # NAME LEVEL OPTION|DISK...
  local name=$1 level=$2
  shift 2
  expect "$level" emdadm create --set "$SET" -l "$level" -n "$name" "$@"
}

# A fresh set with a RAID5 and a RAID1 volume of three disks. (mdmon would fill a lost place of r1 from any fourth.)
make_again() { # SEED
  emd_load
  for name in "${!SUMS[@]}"; do wait_for 20 emd_node "$name"; done
  SET=$(emdadm show --json | jq -r '.sets[0].id')
  expect "the set is deleted" emdadm delete --force "$SET"
  SUMS=()
  expect "raid5" emdadm create -e ddf -l raid5 -n r5 --size 16M --chunk 64K "${DISKS[@]:0:3}"
  SET=$(emdadm show --json | jq -r '.sets[0].id')
  add_volume r1 raid1 --size 6M "${DISKS[@]:0:3}"
  fill_all "$1"
  wait_for 30 emd_settled r5
  wait_for 30 emd_settled r1
}

fill_all() { # SEED
  local name
  for name in $(emdadm show --json | jq -r '.sets[].volumes[].name'); do
    SUMS[$name]=$(fill "/dev/$(emd_node "$name")" "$1")
  done
}

# Everything stops; mdadm reads from all disks but one what EMD said last, and assembles it.
md_takes() { # COUNT [DISK-NOT-USED]
  local view device used=()
  for device in "${!DISKS[@]}"; do
    ((device < $1)) && [[ $device != "${2:-}" ]] && used+=("${DISKS[device]}")
  done
  view=$(emd_view)
  emdadm stop --all >/dev/null
  rmmod emd
  expect_agreement "$view" "${used[@]}"
  dmesg -C
  md_assemble "${used[@]}"
}

# md runs the volume with EMD's bytes, finds its redundancy right, and has nothing to do.
md_has() { # NAME LOST
  expect "$1: md has nothing to sync" md_is_synced "$1" "$2"
  expect_equal "$1 has the bytes that EMD wrote" "$(sum "$(md_device "$1")")" "${SUMS[$1]}"
  [[ $(md_sysfs "$1" level) == raid0 || $2 != 0 ]] || expect_equal "$1: md finds no mismatch" "$(md_mismatches "$1")" 0
}
