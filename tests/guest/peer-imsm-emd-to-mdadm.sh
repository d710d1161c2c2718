# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Intel volumes that EMD makes, one or two on a set, are what mdadm reads and md runs: same bytes, same states, and nothing is
# synced again. Then back.
# disks: 5x72M scsi
# timeout: 120

# shellcheck source=tests/guest/lib-imsm.sh
source /emd/tests/guest/lib-imsm.sh

boot_1() {
  mapfile -t DISKS < <(disks)

  step "RAID1 and RAID0 on two disks"
  made 2 mirror raid1 12M
  also striped raid0 16M --chunk 64K
  there_and_back 2

  step "RAID10 and RAID5 on four"
  made 4 ten raid10 16M --chunk 64K
  also five raid5 18M --chunk 32K
  there_and_back 4

  step "RAID5 on three"
  made 3 five raid5 20M
  there_and_back 3
}

# made DISKS NAME LEVEL SIZE [OPTION...]: the first volume of a set.
made() {
  local count=$1 name=$2 level=$3 size=$4
  shift 4
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

# EMD fills the volumes, md has them and fills them, EMD has them again; then the set goes.
there_and_back() {
  local name
  for name in $(emd_names); do
    SUMS[$name]=$(fill "/dev/$(emd_node "$name")" 1)
    wait_for 30 emd_settled "$name"
  done
  md_takes "${USED[@]}"
  for name in "${!SUMS[@]}"; do
    md_has "$name" 0
    SUMS[$name]=$(fill "$(md_device "$name")" 2)
  done
  md_stop
  emd_takes optimal
  expect "the set is deleted" emdadm delete --force "$(emd_set)"
}
