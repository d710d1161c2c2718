# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Intel volumes that EMD makes, one or two on a set, healthy, with a member lost, rebuilt, and with a spare, are
# what mdadm reads and md runs: same bytes, same states, and nothing is synced again. Then back; twice. (After a power cut: peer-dirty.)
# disks: 5x72M scsi, 2x72M scsi unplugged
# cpus: 1
# emd: manual
# timeout: 300

# shellcheck source=tests/guest/lib-imsm.sh
source /emd/tests/guest/lib-imsm.sh

ASSUME=()

boot_1() {
  mapfile -t DISKS < <(disks)
  emd_load

  step "RAID1 and RAID0 on two disks"
  made 2 mirror raid1 2M
  also striped raid0 2M --chunk 64K
  if whole; then there_and_back_twice optimal 1 "${USED[@]}"; else there_and_back optimal 1 "${USED[@]}"; fi
  expect "the other volume is deleted" emdadm delete --force striped
  unset "SUMS[striped]"
  lost 2 mirror
  if whole; then
    rebuilt 2 mirror
  else
    # md has noted that it was away: EMD would take it back.
    blkdiscard -f -z "${DISKS[1]}"
    emd_takes degraded
  fi

  if whole; then
    step "RAID0 on three"
    made 3 striped raid0 3M --chunk 64K
    there_and_back_twice optimal 1 "${USED[@]}"
    step "RAID5 on three"
    made 3 five raid5 4M
    there_and_back_twice optimal 1 "${USED[@]}"
    lost 3 five
    rebuilt 3 five
    step "RAID10 on four"
    made 4 ten raid10 4M --chunk 32K
    there_and_back_twice optimal 1 "${USED[@]}"
    lost 4 ten
    rebuilt 4 ten
  fi

  # Those above were initialised. The disks are blank, so there is nothing to do.
  whole || ASSUME=(--assume-clean)
  step "RAID10 and RAID5 on four, twice there and back"
  made 4 ten raid10 2M --chunk 64K
  also five raid5 3M --chunk 32K
  there_and_back_twice optimal 1 "${USED[@]}"
  lost 4 five ten
  rebuilt 4 five ten

  made 3 five raid5 2M --chunk 32K
  ! whole || also two raid5 3M --chunk 64K
  md_takes_the_spare 3 five
  if whole; then
    made 3 five raid5 2M --chunk 64K
    md_takes_the_spare 3 five
    made 2 mirror raid1 2M
    md_takes_the_spare 2 mirror
    made 4 ten raid10 2M --chunk 64K
    md_takes_the_spare 4 ten
    made 4 ten raid10 2M --chunk 64K
    also five raid5 3M --chunk 32K
    md_takes_the_spare 4 ten

    step "RAID10 on six"
    plug disk6
    plug disk7
    mapfile -t DISKS < <(disks disk{1..7})
    made 6 ten raid10 6M --chunk 64K
    there_and_back_twice optimal 1 "${USED[@]}"
    lost 6 ten
    rebuilt 6 ten
    made 6 ten raid10 6M --chunk 64K
    md_takes_the_spare 6 ten
  fi
}

# lost MEMBERS NAME...: of the first MEMBERS disks one is lost in EMD, and md has the rest.
lost() {
  local members=$1 name
  shift
  step "RAID with a member lost in EMD: $*"
  expect "a member is failed" emdadm fail "$1" "${DISKS[1]}"
  for name; do wait_for 10 emd_is "$name" degraded; done
  emd_fill 5
  for name; do wait_for 20 emd_is_clean "$name"; done
  USED=("${DISKS[0]}" "${DISKS[@]:2:members-2}")
  md_takes "${USED[@]}"
  md_has "$@"
  md_fill 6
  md_stop
}

# rebuilt MEMBERS NAME...: DISKS[MEMBERS] takes its place.
rebuilt() {
  local members=$1 name
  shift
  step "and rebuilt by EMD to a new disk: $*"
  # md has noted that it was away. EMD would take it back, as it takes any disk back that was left out.
  blkdiscard -f -z "${DISKS[1]}"
  emd_load
  for name; do wait_for 20 emd_node "$name"; done
  expect "a new disk" emdadm add "$1" "${DISKS[members]}"
  wait_for 40 emd_settled "$1"
  for name; do
    emd_has "$name" "${DISKS[members]}" || expect "$name needs it too" emdadm add "$name" "${DISKS[members]}"
    wait_for 40 emd_settled "$name"
  done
  USED+=("${DISKS[members]}")
  md_takes "${USED[@]}"
  md_has "$@"
  ! whole || md_fill 7
  md_stop
  emd_takes optimal
}

# md_takes_the_spare MEMBERS NAME: of the set that was made, DISKS[MEMBERS] is a spare, and takes the place of one that is lost in md.
md_takes_the_spare() {
  local members=$1 lost=$2 spare=${DISKS[$1]} name
  step "a spare of EMD's: md takes it when a member is lost: ${!SUMS[*]}"
  expect "a spare" emdadm spare "$lost" "$spare"
  emd_fill 1
  emd_lets_go
  # Members do not list it.
  expect_agreement "$(grep -v ': spare$' <<<"$VIEW")" "${USED[@]}"
  dmesg -C
  md_assemble "${USED[@]}" "$spare"
  md_has "${!SUMS[@]}"
  md_speed 1000
  run mdadm -f "${MD_NODES[$lost]}" "${DISKS[1]}"
  # md starts it when the array is written to.
  md_fill 2
  for name in "${!SUMS[@]}"; do wait_for 20 md_gives_place "$name" "$spare"; done
  for name in "${!SUMS[@]}"; do md_wait "$name"; done
  wait_for 20 md_recorded "$spare"
  md_speed
  md_stop
  # md has noted that it was away: EMD would take it back.
  blkdiscard -f -z "${DISKS[1]}"
  emd_takes optimal
  for name in "${!SUMS[@]}"; do expect "$name: the spare is a member" emd_has "$name" "$spare"; done
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
