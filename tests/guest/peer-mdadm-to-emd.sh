# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# DDF volumes that mdadm makes, of every level it can, healthy, with a member lost, rebuilt, and with a spare, are what EMD assembles: same
# bytes, same states. EMD writes to them, and md has them again. (After a power cut: peer-dirty.)
# disks: 5x72M virtio
# cpus: 1
# emd: manual
# timeout: 300

# shellcheck source=tests/guest/lib-peer.sh
source /emd/tests/guest/lib-peer.sh

ASSUME=()

# Sizes in sectors are not multiples of each other's stripes; several volumes share the disks.
boot_1() {
  mapfile -t DISKS < <(disks)
  md_load

  # mdadm 4.4 makes no other layouts in DDF, no mirrors of more than three, and no concatenations. RAID 10 with far copies it
  # writes down as what DDF calls something else: EMD refuses that (docs/formats/ddf.md).
  step "all levels on one set"
  container 4
  volume r0 0 3 1M -c32
  volume r1 1 2 1M
  ! whole || volume r1x3 1 3 1M
  volume r4 4 3 1M -c16
  volume r5ls 5 4 1M -c64 -p ls
  ! whole || volume r5la 5 3 1M -c16 -p la
  volume r5ra 5 4 1M -c128 -p ra
  ! whole || volume r6c 6 4 1M -c64 -p ddf-N-continue
  volume r6n 6 4 1M -c32 -p ddf-N-restart
  ! whole || volume r6z 6 4 1M -c16 -p ddf-zero-restart
  volume r10 10 4 1M -c64 -p n2
  volume r1e 10 3 1M -c32 -p n2
  md_fill 1
  md_stop
  emd_takes optimal
  emd_agrees
  # mdadm makes RAID 1E of odd disks only, says in DDF that it has the size of whole members (1 MiB here), as it first has, and runs it
  # with 1.5 MiB once it is assembled again. EMD goes by what DDF says.
  expect "the RAID 1E is deleted" emdadm delete --force r1e
  unset "SUMS[r1e]"
  ! whole || there_and_back optimal 3 "${DISKS[@]:0:4}"
  emd_fill 2
  md_takes "${DISKS[@]:0:4}"
  md_has "${!SUMS[@]}"

  # Those above were synced by md. The disks are blank, so there is nothing to sync.
  whole || ASSUME=(--assume-clean)
  step "RAID 6 and 10 with a member lost in md, and rebuilt by md to a new disk"
  container 4
  volume r6 6 4 1M -c64
  volume r10 10 4 1M -c64
  lost_and_rebuilt 4 r6 r10
  emd_leaves

  step "RAID 1, 4, 5 of three with a member lost in md, and rebuilt by md to a new disk"
  container 3
  volume r1 1 3 1M
  volume r4 4 3 1M -c32
  volume r5 5 3 2M -c64
  lost_and_rebuilt 3 r1 r4 r5
  emd_leaves

  step "a spare of mdadm's: EMD takes it when a member is lost"
  container 4
  volume r5 5 3 1M -c64
  takes_the_spare r5
  if whole; then
    emd_leaves
    container 5
    volume r6 6 4 1M -c32
    takes_the_spare r6
    emd_leaves
    container 4
    volume r4 4 3 1M -c32
    takes_the_spare r4
    emd_leaves
    container 4
    volume r1 1 3 1M
    takes_the_spare r1
    emd_leaves
    container 5
    volume r10 10 4 1M -c64 -p n2
    volume r5 5 4 1M -c16
    takes_the_spare r10 r5
    emd_leaves
    only_to_emd
  fi
}

# only_to_emd: RAID 1E of three, which has another size once mdadm assembles it again. (mdmon 4.4 gives no disk the place of one that such a volume lost.)
only_to_emd() {
  step "RAID 1E with a member lost in md, rebuilt by EMD"
  container 3
  volume r1e 10 3 1M -c32 -p n2
  run mdadm -f "$(md_device r1e)" "${DISKS[1]}"
  wait_for 10 md_lost r1e 1
  md_fill 3
  md_stop
  emd_takes -
  emd_agrees
  expect_equal "it has lost one member" "$(emd_members r1e | grep -o -E 'failed|missing' | wc -l)" 1
  expect "a new disk" emdadm add r1e "${DISKS[3]}"
  is_whole_again
  emd_leaves

  step "and with a spare of mdadm's, which EMD takes"
  container 4
  volume r1e 10 3 1M -c32 -p n2
  spare_takes_over r1e
  is_whole_again
}

is_whole_again() {
  wait_for 40 emd_all optimal clean
  expect_equal "it has its bytes" "$(sum "${EMD_NODES[r1e]}")" "${SUMS[r1e]}"
  expect "EMD checks it" emdadm check --wait r1e
  expect_equal "what does not agree" "$(emd_get r1e '.mismatches | length')" 0
}

# container COUNT: of so many disks, which hold nothing.
container() {
  local device
  md_stop
  SUMS=()
  for device in "${DISKS[@]}"; do blkdiscard -f -z "$device"; done
  USED=("${DISKS[@]:0:$1}")
  run mdadm -CR /dev/md/ddf -e ddf -n "$1" "${USED[@]}"
}

# volume NAME LEVEL MEMBERS MEMBER-SIZE [OPTION...]
volume() {
  SUMS[$1]=""
  md_create "$@" "${ASSUME[@]}"
}

# lost_and_rebuilt MEMBERS NAME...: of the first MEMBERS disks one is lost in md, and DISKS[MEMBERS] takes its place.
lost_and_rebuilt() {
  local members=$1 name
  shift
  md_fill 2
  # mdmon takes it out of all volumes.
  run mdadm -f "$(md_device "$1")" "${DISKS[1]}"
  for name; do wait_for 10 md_lost "$name" 1; done
  # Written without the member, so what it holds is old.
  md_fill 3
  md_stop
  emd_takes -
  emd_agrees
  for name; do
    expect_equal "$name has lost one member" "$(emd_members "$name" | grep -o -E 'failed|missing' | wc -l)" 1
  done
  USED=("${DISKS[0]}" "${DISKS[@]:2:members-2}")
  emd_fill 4
  md_takes "${USED[@]}"
  md_has "$@"

  run mdadm --add "$(md_container)" "${DISKS[members]}"
  USED+=("${DISKS[members]}")
  # md starts it when the array is written to.
  md_fill 5
  for name; do md_wait "$name"; done
  md_stop
  # It would be the older half of a set of two histories.
  blkdiscard -f -z "${DISKS[1]}"
  emd_takes_rebuilt "${USED[@]}"
  [[ ! $DEGRADED ]] || emd_agrees
}

# takes_the_spare NAME...: the disk of the container that is in none of these takes the place of one that is lost in EMD. Then md has them.
takes_the_spare() {
  local lost disk left=()
  spare_takes_over "$@"
  emd_fill 2
  for disk in "${USED[@]}"; do [[ $disk == "$lost" ]] || left+=("$disk"); done
  md_takes "${left[@]}"
  md_has "$@"
  md_fill 3
  md_stop
  blkdiscard -f -z "$lost"
  emd_takes optimal
}

# spare_takes_over NAME...: the same, without md. The one that was lost is in `lost`.
spare_takes_over() {
  local name spare
  md_fill 1
  md_stop
  emd_takes optimal
  emd_agrees
  spare=$(emdadm show --json | jq -r '[.sets[].disks[] | select(.role == "global-spare").device] | join(" ")')
  [[ $spare =~ ^/dev/[a-z]+$ ]] || fail "EMD does not see one spare, but: $spare"
  lost=$(emd_member_device "$1" 1)
  expect "a member is failed" emdadm fail "$1" "$lost"
  for name; do wait_for 20 emd_has "$name" "$spare"; done
  wait_for 40 emd_all optimal clean
  for name; do
    expect_equal "$name has its bytes" "$(sum "${EMD_NODES[$name]}")" "${SUMS[$name]}"
  done
}

# mdadm reads from the disk that mdmon wrote last the states that EMD tells.
emd_agrees() {
  local devices
  mapfile -t devices < <(emdadm show --json | jq -r '.sets[].disks[] | select(.state == "online" and .role == "member").device')
  expect_agreement "$(emd_view)" "$(ddf_newest "${devices[@]}")"
}
