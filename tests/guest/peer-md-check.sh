# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Checks and repairs of md's superblocks, 1.2 and 0.90: power is cut in the middle of each, and it goes on from where it was. What EMD
# leaves of that in the superblock is nothing to mdadm and md: they assemble the array, sync nothing and take a disk in; after
# that EMD finds nothing left of it.
# disks: 10x20M virtio, 1x1M virtio
# emd: manual
# cpus: 1
# timeout: 200

# shellcheck source=tests/guest/lib-md.sh
source /emd/tests/guest/lib-md.sh

# Version, level, what is under way, first disk, disks.
CASES=("1.2 raid5 check 0 3" "0.90 raid1 repair 3 2" "1.2 raid1 repair 5 2" "0.90 raid5 check 7 3")

each() { # FUNCTION: for every case, with its parts in these variables.
  local case version level kind first count array
  [[ -v DISKS ]] || mapfile -t DISKS < <(disks)
  for case in "${CASES[@]}"; do
    read -r version level kind first count <<<"$case"
    MINE=("${DISKS[@]:first:count}")
    # (While md has it there is none.)
    array=$(array_on "${MINE[0]}" 2>/dev/null) || true
    "$@"
  done
}

# (0.90 has no names.)
array_on() { emdadm show --json | jq -r --arg disk "$1" '.sets[].volumes[] | select(any(.members[]; .device == $disk)) | .device // empty' | sed 's,/dev/,,'; }

found() { array=$(array_on "${MINE[0]}") && [[ -n $array && -b /dev/$array ]]; }

slow_emd() {
  modprobe emd auto=0 checkpoint_ms=300 clean_ms=300
  expect "slow" emdadm limit --max 16K
}

# What is remembered over the power cut: lines "first disk, sectors".
note() {
  echo "$first $1" >>/run/notes
  dd if=/run/notes of="$(disk disk11)" bs=64k count=1 conv=sync oflag=direct status=none
}
noted() { dd if="$(disk disk11)" bs=64k count=1 iflag=direct status=none | tr -d '\0' | awk -v first="$first" '$1 == first { value = $2 } END { print value }'; }

made() {
  local options=(--assume-clean)
  [[ $level == raid1 ]] || options+=(--chunk 64K)
  expect "$version, $level" emdadm create -e "md-$version" -l "$level" --force "${options[@]}" "${MINE[@]}"
  array=$(array_on "${MINE[0]}")
  expect "written" fill "/dev/$array" 5
  wait_for 20 emd_is_clean "$array"
  examined_whole >"/run/before-$first"
  expect "a $kind" emdadm "$kind" "$array"
  hold
}

hold() { expect "held" emdadm pause "$array"; }

# mdadm's whole account of the first member, but for the checksum.
examined_whole() { mdadm -E "${MINE[0]}" 2>&1 | grep -v Checksum; }

# It gets further, and that is recorded; then it is held, so that none ends however slow this machine is.
moves() {
  local goal
  goal=$(emd_done "$array")
  expect "faster" emdadm limit --max 512K "$array"
  expect "let go" emdadm resume "$array"
  wait_for 60 emd_has_done "$array" $((goal + 1024))
  hold
  goal=$(emd_done "$array")
  # It is written several times a second.
  sleep 1
  note "$goal"
}

goes_on() {
  local from at
  from=$(noted)
  wait_for 20 found
  wait_for 20 emd_has_task "$array" "$kind"
  wait_for 20 emd_task_is "$array" running
  at=$(emd_done "$array")
  ((from > 0 && at >= from)) || fail "$version, $level: $kind starts anew: $at sectors are done, $from were"
  say "ok: $version, $level: $kind goes on at $at, noted were $from"
  hold
}

# The event count stays, and so does all else.
is_nothing_to_mdadm() { expect_equal "$version, $level: mdadm -E with the mark" "$(examined_whole)" "$(<"/run/before-$first")"; }

details() { DETAILS[$first]=$(emd_detail "$array"); }

md_has_it() {
  step "$version, $level: md takes it in the middle of a $kind"
  DETAIL=${DETAILS[$first]}
  md0_runs 0 "${SUMS[$first]}" "${MINE[@]}"
  expect_equal "mdadm has nothing to say" "$(</run/mdadm.out)" "mdadm: /dev/md0 has been started with $count drives."
  run mdadm -f /dev/md0 "${MINE[1]}"
  wait_for 40 md0_is_synced 1
  wait_for 20 mdadm -r /dev/md0 "${MINE[1]}"
  run mdadm --zero-superblock "${MINE[1]}"
  run mdadm --add /dev/md0 "${MINE[1]}"
  wait_for 60 md0_is_synced
  expect "all data" /emd/bin/pattern verify /dev/md0 5
  md0_stop
}

sums() { SUMS[$first]=$(sum "/dev/$array"); }

has_no_task() {
  wait_for 20 found
  wait_for 20 emd_settled "$array"
  expect "$version, $level: all data" /emd/bin/pattern verify "/dev/$array" 5
}

boot_1() {
  step "checks and repairs, power is cut"
  slow_emd
  each made
  each moves
  each is_nothing_to_mdadm
  host powercut
}

boot_2() {
  declare -A DETAILS=() SUMS=()
  step "they go on from where they were"
  dd if="$(disk disk11)" bs=64k count=1 iflag=direct status=none | tr -d '\0' >/run/notes
  slow_emd
  expect "scanned" emdadm scan
  each goes_on
  each moves
  each sums
  each details
  expect "stopped" emdadm stop --all
  rmmod emd
  each md_has_it
  step "EMD finds nothing of it any more"
  modprobe emd auto=0
  expect "scanned" emdadm scan
  each has_no_task
  expect_no_emd_task
}
