# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Intel volumes that EMD makes, one or two on a set, healthy, with a member lost, rebuilt, and resynced after a power cut, are
# what mdadm reads and md runs: same bytes, same states, and nothing is synced again. Then back.
# disks: 5x72M scsi
# timeout: 150

# shellcheck source=tests/guest/lib-imsm.sh
source /emd/tests/guest/lib-imsm.sh

boot_1() {
  local name
  mapfile -t DISKS < <(disks)

  step "RAID1 and RAID0 on two disks"
  made 2 mirror raid1 8M
  also striped raid0 12M --chunk 64K
  there_and_back

  step "RAID5 on three"
  made 3 five raid5 12M
  there_and_back

  step "RAID10 and RAID5 on four"
  made 4 ten raid10 12M --chunk 64K
  also five raid5 12M --chunk 32K
  there_and_back

  step "the same with a member lost in EMD"
  expect "a member is failed" emdadm fail five "${DISKS[1]}"
  for name in five ten; do wait_for 10 emd_is $name degraded; done
  emd_fill 3
  for name in five ten; do wait_for 20 emd_is_clean $name; done
  md_takes "${DISKS[0]}" "${DISKS[2]}" "${DISKS[3]}"
  for name in five ten; do md_has $name 1; done
  md_stop

  step "and rebuilt by EMD to a new disk"
  # md has noted that it was away. EMD would take it back, as it takes any disk back that was left out.
  unplug disk2
  emd_load
  for name in five ten; do wait_for 20 emd_node $name; done
  expect "a new disk" emdadm add five "${DISKS[4]}"
  wait_for 40 emd_settled five
  emd_has ten "${DISKS[4]}" || expect "the other volume needs it too" emdadm add ten "${DISKS[4]}"
  wait_for 40 emd_settled ten
  md_takes "${DISKS[0]}" "${DISKS[2]}" "${DISKS[3]}" "${DISKS[4]}"
  for name in five ten; do md_has $name 0; done
  md_stop
  emd_takes optimal

  step "power cut under writes"
  for name in five ten; do
    (while :; do dd if=/dev/urandom of="/dev/$(emd_node $name)" bs=24k count=100 oflag=direct status=none; done) &
  done
  for name in five ten; do wait_for 10 emd_is_dirty $name; done
  host powercut
}

boot_2() {
  local name
  mapfile -t DISKS < <(disks disk1 disk3 disk4 disk5)
  step "dirty, so resynced by EMD, and then clean for md"
  emd_resyncs five ten
  md_takes "${DISKS[@]}"
  for name in five ten; do md_has $name 0; done
}

# made DISKS NAME LEVEL SIZE [OPTION...]: the first volume of a set, after the one before is gone.
made() {
  local count=$1 name=$2 level=$3 size=$4
  shift 4
  [[ $(emd_set) == null ]] || expect "the set is deleted" emdadm delete --force "$(emd_set)"
  USED=("${DISKS[@]:0:count}")
  SUMS=()
  expect "$level" emdadm create -e imsm -l "$level" -n "$name" --size "$size" "$@" "${USED[@]}"
}

# also NAME LEVEL SIZE [OPTION...]: the second volume.
also() {
  local name=$1 level=$2 size=$3
  shift 3
  expect "$level" emdadm create --set "$(emd_set)" -l "$level" -n "$name" --size "$size" "$@" "${USED[@]}"
}

# EMD fills the volumes, md has them and fills them, EMD has them again.
there_and_back() {
  local name
  emd_fill 1
  for name in "${!SUMS[@]}"; do wait_for 30 emd_settled "$name"; done
  md_takes "${USED[@]}"
  for name in "${!SUMS[@]}"; do md_has "$name" 0; done
  md_fill 2
  md_stop
  emd_takes optimal
}
