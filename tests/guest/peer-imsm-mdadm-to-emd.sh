# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Intel volumes that mdadm makes, healthy, with a member lost, and rebuilt, are what EMD assembles by itself: same bytes, same
# states. EMD writes to them, and md has them again. With a spare, EMD takes it. (After a power cut: peer-dirty.)
# disks: 5x72M scsi
# cpus: 1
# emd: manual
# timeout: 300

# shellcheck source=tests/guest/lib-imsm.sh
source /emd/tests/guest/lib-imsm.sh

ASSUME=()

boot_1() {
  local name
  declare -A slots
  mapfile -t DISKS < <(disks)
  md_load

  step "RAID1 and RAID0 on two disks"
  container 2
  volume mirror 1 2M
  volume striped 0 1M -c64
  given_and_taken_back

  if whole; then
    step "RAID5 on three"
    container 3
    volume five 5 4M -c16
    given_and_taken_back
  fi

  # Those above were synced by md. The disks are blank, so there is nothing to sync.
  whole || ASSUME=(--assume-clean)
  step "RAID10 and RAID5 on four"
  container 4
  volume ten 10 2M -c64
  volume five 5 1M -c32
  if whole; then given_and_taken_back again; else given_and_taken_back; fi

  step "the same with a member lost in md"
  for name in five ten; do slots[$name]=$(md_slot $name "${DISKS[1]}"); done
  run mdadm -f "$(md_device five)" "${DISKS[1]}"
  # mdmon takes it out of both.
  wait_for 20 md_lost five 1
  wait_for 20 md_lost ten 1
  md_fill 3
  md_stop
  emd_takes degraded
  for name in five ten; do
    expect_equal "$name: what is lost" "$(emd_get $name ".members[${slots[$name]}].state")" failed
  done
  emd_agrees "${DISKS[0]}" "${DISKS[2]}" "${DISKS[3]}"

  step "and rebuilt by md to a new disk"
  emd_leaves
  md_assemble "${DISKS[0]}" "${DISKS[2]}" "${DISKS[3]}"
  run mdadm --add "$(md_container)" "${DISKS[4]}"
  # md starts it when the array is written to.
  md_fill 4
  md_wait five
  md_wait ten
  md_stop
  emd_takes optimal
  emd_agrees "${DISKS[0]}" "${DISKS[2]}" "${DISKS[3]}" "${DISKS[4]}"

  step "a spare that mdadm made belongs to no set: EMD takes it when a member is lost"
  emd_leaves
  md_assemble "${DISKS[0]}" "${DISKS[2]}" "${DISKS[3]}" "${DISKS[4]}"
  blkdiscard -f -z "${DISKS[1]}"
  run mdadm --add "$(md_container)" "${DISKS[1]}"
  md_stop
  emd_takes optimal
  run emdadm fail five "${DISKS[2]}"
  for name in five ten; do wait_for 30 emd_has "$name" "${DISKS[1]}"; done
  wait_for 40 emd_all optimal clean
  for name in five ten; do
    expect_equal "$name has its bytes" "$(sum "${EMD_NODES[$name]}")" "${SUMS[$name]}"
  done
  # The lost one is left out by md, too.
  md_takes "${DISKS[0]}" "${DISKS[1]}" "${DISKS[3]}" "${DISKS[4]}"
  md_has five ten
}

# container COUNT: of so many disks, which hold nothing.
container() {
  local device
  md_stop
  USED=("${DISKS[@]:0:$1}")
  SUMS=()
  for device in "${DISKS[@]}"; do blkdiscard -f -z "$device" 2>/dev/null; done
  run mdadm -CR /dev/md/imsm -e imsm -n "$1" "${USED[@]}"
}

# volume NAME LEVEL MEMBER-SIZE [OPTION...]: on all disks of the container, filled.
volume() {
  local name=$1 level=$2 size=$3
  shift 3
  MD_CONTAINER=/dev/md/imsm md_create "$name" "$level" "${#USED[@]}" "$size" "$@" "${ASSUME[@]}"
  SUMS[$name]=$(fill "/dev/md/$name" 1)
}

# given_and_taken_back [again]: EMD has the volumes and fills them, and md has them again.
given_and_taken_back() {
  md_stop
  emd_takes optimal
  emd_agrees "${USED[@]}"
  [[ -z ${1:-} ]] || there_and_back optimal 2 "${USED[@]}"
  emd_fill 4
  md_takes "${USED[@]}"
  md_has "${!SUMS[@]}"
}

# mdadm reads the states that EMD tells.
emd_agrees() { expect_agreement "$(emd_view)" "$@"; }

# md_slot NAME DISK: mdadm puts the disks of a container into slots as it likes.
md_slot() { md_sysfs "$1" "dev-${2#/dev/}/slot"; }

md_lost() { [[ $(md_sysfs "$1" degraded) == "$2" ]]; }
