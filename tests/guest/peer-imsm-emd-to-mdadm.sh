# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Intel volumes that EMD makes, one or two on a set, healthy, with a member lost, rebuilt, and with a spare, are
# what mdadm reads and md runs: same bytes, same states, and nothing is synced again. Then back; twice. (After a power cut: peer-dirty.)
# disks: 5x72M scsi
# cpus: 1
# emd: manual
# timeout: 300

# shellcheck source=tests/guest/lib-imsm.sh
source /emd/tests/guest/lib-imsm.sh

ASSUME=()

boot_1() {
  local name
  mapfile -t DISKS < <(disks)
  emd_load

  step "RAID1 and RAID0 on two disks"
  made 2 mirror raid1 2M
  also striped raid0 2M --chunk 64K
  there_and_back optimal 1 "${USED[@]}"

  step "RAID1 with a member lost in EMD"
  expect "the other volume is deleted" emdadm delete --force striped
  unset "SUMS[striped]"
  expect "a member is failed" emdadm fail mirror "${DISKS[1]}"
  wait_for 10 emd_is mirror degraded
  emd_fill 5
  md_takes "${DISKS[0]}"
  md_has mirror
  md_fill 6
  md_stop
  # md has noted that it was away: EMD would take it back.
  blkdiscard -f -z "${DISKS[1]}"
  emd_takes degraded

  if whole; then
    step "RAID5 on three"
    made 3 five raid5 4M
    there_and_back optimal 1 "${USED[@]}"
  fi

  # Those above were initialised. The disks are blank, so there is nothing to do.
  whole || ASSUME=(--assume-clean)
  step "RAID10 and RAID5 on four, twice there and back"
  made 4 ten raid10 2M --chunk 64K
  also five raid5 3M --chunk 32K
  there_and_back_twice optimal 1 "${USED[@]}"

  step "the same with a member lost in EMD"
  expect "a member is failed" emdadm fail five "${DISKS[1]}"
  for name in five ten; do wait_for 10 emd_is $name degraded; done
  emd_fill 3
  for name in five ten; do wait_for 20 emd_is_clean $name; done
  md_takes "${DISKS[0]}" "${DISKS[2]}" "${DISKS[3]}"
  md_has five ten
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
  md_has five ten
  md_stop
  emd_takes optimal

  step "a spare of EMD's: md takes it when a member is lost"
  plug disk2
  made 3 five raid5 2M --chunk 32K
  ! whole || also two raid5 3M --chunk 64K
  expect "a spare" emdadm spare five "${DISKS[3]}"
  emd_fill 1
  emd_lets_go
  # Members do not list it.
  expect_agreement "$(grep -v ': spare$' <<<"$VIEW")" "${USED[@]}"
  dmesg -C
  md_assemble "${DISKS[@]:0:4}"
  md_has "${!SUMS[@]}"
  run mdadm -f "${MD_NODES[five]}" "${DISKS[1]}"
  # md starts it when the array is written to.
  md_fill 2
  for name in "${!SUMS[@]}"; do wait_for 20 md_gives_place "$name" "${DISKS[3]}"; done
  for name in "${!SUMS[@]}"; do md_wait "$name"; done
  md_stop
  # md has noted that it was away: EMD would take it back.
  blkdiscard -f -z "${DISKS[1]}"
  emd_takes optimal
  for name in "${!SUMS[@]}"; do expect "$name: the spare is a member" emd_has "$name" "${DISKS[3]}"; done
}

# made DISKS NAME LEVEL SIZE [OPTION...]: the first volume of a set, after the one before is gone.
made() {
  local count=$1 name=$2 level=$3 size=$4 device
  shift 4
  [[ $(emd_set) == null ]] || expect "the set is deleted" emdadm delete --force "$(emd_set)"
  USED=("${DISKS[@]:0:count}")
  for device in "${USED[@]}"; do blkdiscard -f -z "$device" 2>/dev/null; done
  SUMS=([$name]="")
  expect "$level" emdadm create -e imsm -l "$level" -n "$name" --size "$size" "${ASSUME[@]}" "$@" "${USED[@]}"
}

# also NAME LEVEL SIZE [OPTION...]: the second volume.
also() {
  local name=$1 level=$2 size=$3
  shift 3
  SUMS[$name]=""
  expect "$level" emdadm create --set "$(emd_set)" -l "$level" -n "$name" --size "$size" "${ASSUME[@]}" "$@" "${USED[@]}"
}
