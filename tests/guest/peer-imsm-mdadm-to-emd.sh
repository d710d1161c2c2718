# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Intel volumes that mdadm makes, healthy, with a member lost, and rebuilt, are what EMD assembles by itself: same bytes, same
# states. EMD writes to them, and md has them again. With spares, EMD takes one that nobody uses. (After a power cut: peer-dirty.)
# disks: 5x72M scsi, 1x64M scsi, 2x72M scsi unplugged
# cpus: 1
# emd: manual
# timeout: 300

# shellcheck source=tests/guest/lib-imsm.sh
source /emd/tests/guest/lib-imsm.sh

ASSUME=()

boot_1() {
  mapfile -t DISKS < <(disks)
  SMALL=${DISKS[5]}
  md_load

  step "RAID1 and RAID0 on two disks"
  container 2
  volume mirror 1 2M
  volume striped 0 1M -c64
  if whole; then given_and_taken_back again; else given_and_taken_back; fi

  if whole; then
    step "RAID0 on three"
    container 3
    volume striped 0 1M -c64
    given_and_taken_back again
    lives 2 mirror:1:2M
    lives 3 five:5:4M:-c16
    lives 4 ten:10:2M:-c64
  fi

  # Those above were synced by md. The disks are blank, so there is nothing to sync.
  whole || ASSUME=(--assume-clean)
  lives 4 ten:10:2M:-c64 five:5:1M:-c32

  if whole; then
    plug disk7
    plug disk8
    mapfile -t DISKS < <(disks disk{1..5} disk7 disk8)
    lives 6 ten:10:2M:-c64
  fi
}

# lives MEMBERS NAME:LEVEL:MEMBER-SIZE[:OPTION]...: one or two volumes of the first MEMBERS disks, and all that they go through.
lives() {
  local members=$1 volume name level size option names=()
  shift
  step "$* on $members"
  container "$members"
  for volume; do
    IFS=: read -r name level size option <<<"$volume"
    # shellcheck disable=SC2086 # none or one
    volume "$name" "$level" "$size" $option
    names+=("$name")
  done
  if whole; then given_and_taken_back again; else given_and_taken_back; fi
  lost_and_rebuilt "$members" "${names[@]}"
  takes_the_spare "${names[@]}"
}

# lost_and_rebuilt MEMBERS NAME...: of the first MEMBERS disks one is lost in md, and md rebuilds DISKS[MEMBERS] in its place.
lost_and_rebuilt() {
  local members=$1 name
  declare -A slots
  step "the same with a member lost in md"
  shift
  for name; do slots[$name]=$(md_slot "$name" "${DISKS[1]}"); done
  run mdadm -f "$(md_device "${@: -1}")" "${DISKS[1]}"
  # mdmon takes it out of all.
  for name; do wait_for 20 md_lost "$name" 1; done
  md_fill 3
  md_stop
  USED=("${DISKS[0]}" "${DISKS[@]:2:members-2}")
  emd_takes degraded
  for name; do
    expect_equal "$name: what is lost" "$(emd_get "$name" ".members[${slots[$name]}].state")" failed
  done
  emd_agrees "${USED[@]}"
  if whole; then
    # Once md was started without it, it is noted as away, and EMD would take it back.
    blkdiscard -f -z "${DISKS[1]}"
    there_and_back degraded 5 "${USED[@]}"
  fi

  step "and rebuilt by md to a new disk"
  emd_leaves
  md_assemble "${USED[@]}"
  md_speed 1000
  run mdadm --add "$(md_container)" "${DISKS[members]}"
  # md starts it when the array is written to.
  md_fill 4
  for name; do md_wait "$name"; done
  wait_for 20 md_recorded "${DISKS[members]}"
  md_speed
  md_stop
  USED+=("${DISKS[members]}")
  emd_takes optimal
  emd_agrees "${USED[@]}"
}

# takes_the_spare NAME...: DISKS[1], which was lost and is blank, becomes a spare. So does SMALL, a smaller one, which holds something else then.
takes_the_spare() {
  local name disk left=()
  step "a spare that mdadm made belongs to no set: EMD takes it when a member is lost"
  emd_leaves
  md_assemble "${USED[@]}"
  blkdiscard -f -z "${DISKS[1]}"
  run mdadm --add "$(md_container)" "${DISKS[1]}"
  run mdadm --add "$(md_container)" "$SMALL"
  md_stop
  # What ext4 has at a disk's start.
  printf '\x53\xef' | dd of="$SMALL" bs=1 seek=1080 conv=notrunc status=none
  sync
  emd_takes optimal
  run emdadm fail "${@: -1}" "${DISKS[2]}"
  for name; do wait_for 30 emd_has "$name" "${DISKS[1]}"; done
  wait_for 40 emd_all optimal clean
  for name; do
    expect_equal "$name has its bytes" "$(sum "${EMD_NODES[$name]}")" "${SUMS[$name]}"
  done
  expect_failure "the other one is left alone" emd_has "$1" "$SMALL"
  expect "nor is it written to" [ "$(dd if="$SMALL" bs=1 skip=1080 count=2 status=none | od -An -tx1)" = " 53 ef" ]
  blkdiscard -f -z "$SMALL"
  emdadm scan "$SMALL" >/dev/null 2>&1 || true
  # The lost one is left out by md, too.
  for disk in "${USED[@]}"; do [[ $disk == "${DISKS[2]}" ]] || left+=("$disk"); done
  md_takes "${left[@]}" "${DISKS[1]}"
  md_has "$@"
}

# container COUNT: of so many disks, which hold nothing.
container() {
  local device
  md_stop
  USED=("${DISKS[@]:0:$1}")
  SUMS=()
  for device in "${DISKS[@]}" "$SMALL"; do blkdiscard -f -z "$device" 2>/dev/null; done
  run mdadm -CR /dev/md/imsm -e imsm -n "$1" "${USED[@]}"
}

# volume NAME LEVEL MEMBER-SIZE [OPTION...]: on all disks of the container, filled.
volume() {
  local name=$1 level=$2 size=$3
  shift 3
  MD_CONTAINER=/dev/md/imsm md_create "$name" "$level" "${#USED[@]}" "$size" "$@" "${ASSUME[@]}"
  # It may have missed it: see md_gets_synced.
  pkill -USR1 mdmon || true
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
