# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# An array of which EMD does not understand everything is read and not written, by nobody: not by users, not to mend a sector that cannot be read, not by a task, and
# not when it stops. Told is why. And one that mdadm was reshaping, in Intel metadata, is read right on both sides of how far that got, and from the copy of what was being moved.
# disks: 4x64M virtio
# cpus: 1
# emd: manual
# timeout: 60

# shellcheck source=tests/guest/lib-md.sh
source /emd/tests/guest/lib-md.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh

contents() { cat /run/nbd*/data | sha256sum; }

# Its bitmap has a version that nobody knows yet.
spoil() {
  local folder at
  for folder in /run/nbd*; do
    at=$(grep -abo -m 1 bitm "$folder/data" | head -n 1 | cut -d: -f1)
    [[ -n $at ]] || fail "no bitmap in $folder"
    printf '\x63' | dd of="$folder/data" bs=1 seek=$((at + 4)) conv=notrunc status=none
  done
}

# reshaped CASE DISKS [copied]: a sample (programs/reshaped.c), on the first DISKS disks.
reshaped() {
  local case=$1 disks=$2 n before
  shift 2
  step "Intel metadata, $case${1:+, in the first unit}: read as what it was before"
  for ((n = 0; n < disks; n++)); do
    xzcat "/emd/tests/host/samples/imsm/gen/$case/d$n.sparse.xz" | /emd/bin/reshaped put "$(disk disk$((n + 1)))" "$@"
  done
  before=$(host contents disk1 disk2 disk3 disk4)
  emd_load
  wait_for 10 test -b /dev/emd0
  run emdadm show emd0
  expect_equal "what may be done with it" "$(emdadm show --json | jq -r '.sets[0].volumes[0] | .access')" read-only
  expect_equal "its size is that of before" "$(blockdev --getsz /dev/emd0)" 237568
  expect "all data" /emd/bin/reshaped check /dev/emd0 237568
  expect_failure "a write" dd if=/dev/zero of=/dev/emd0 bs=64k count=1 oflag=direct conv=notrunc status=none
  expect "stopped" emdadm stop --all
  rmmod emd
  expect_equal "the disks are as they were" "$(host contents disk1 disk2 disk3 disk4)" "$before"
}

boot_1() {
  local sum before member offset folder
  make_disks 16384 3
  md_load
  md_make 1.2 5 -n3 --chunk=16 --size=4M --bitmap=internal --assume-clean "${DISKS[@]}"
  sum=$(fill /dev/md0 1)
  md0_stop
  spoil
  before=$(contents)

  step "it is there, to be read"
  emd_load
  wait_for 10 emd_runs emd0
  run emdadm show emd0
  expect_equal "what may be done with it" "$(emdadm show --json | jq -r '.sets[0].volumes[0] | .access')" read-only
  emdadm show --json | jq -r '.sets[0].volumes[0].reason' | grep -q "version 99" || fail "it is not told why"
  expect "it is told" grep -q "version 99" <<<"$(events read-only | jq -r .text)"
  expect_equal "how many volumes were found" "$(events set-found | jq -r .value)" 1
  expect_equal "the block device is read-only" "$(blockdev --getro /dev/emd0)" 1
  expect_equal "the data" "$(sum /dev/emd0)" "$sum"

  step "a sector cannot be read: it is worked out, and left as it is"
  member=$(emd_member_device emd0 1)
  offset=$(emd_get emd0 '.members[1].offset_sectors')
  printf 'x' | dd of="/run/${member#/dev/}/bad" bs=1 seek=$((offset + 8)) conv=notrunc status=none
  expect_equal "the data" "$(sum /dev/emd0)" "$sum"
  (($(emdadm show --json | jq ".sets[0].disks[] | select(.device == \"$member\") | .read_errors") > 0)) || fail "it was not read"
  expect_equal "it was not written" "$(dd if="/run/${member#/dev/}/bad" bs=1 skip=$((offset + 8)) count=1 status=none)" x
  expect_equal "nobody is failed for it" "$(emd_members emd0)" "in-sync in-sync in-sync"

  step "nothing is written"
  expect_failure "a write" dd if=/dev/zero of=/dev/emd0 bs=64k count=1 oflag=direct conv=notrunc status=none
  refused EROFS "cannot be written" "a check" check emd0
  expect "a member is not to be used any more" emdadm fail emd0 "$member"
  wait_for 10 emd_is emd0 degraded
  expect_equal "the data" "$(sum /dev/emd0)" "$sum"
  expect "stopped" emdadm stop --all
  rmmod emd
  expect_equal "the disks are as they were" "$(contents)" "$before"
  # It is not to be found again.
  for folder in /run/nbd*; do dd if=/dev/zero of="$folder/data" bs=16k count=1 conv=notrunc status=none; done

  reshaped grow-r5 4
  reshaped grow-r0 3 copied
  whole || return 0
  reshaped grow-r0 3
  reshaped grow-r5 4 copied
}
