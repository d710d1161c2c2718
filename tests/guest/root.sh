# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The machine boots from a set, as README.md says: the module, loaded before there is a root filesystem, is all that finds it. Then a member is lost and replaced while all
# programs come from there, power is cut, and the machine boots from it again. After an orderly reboot nothing is resynced, and it boots with a member missing, too: what
# was written last is recorded as done before the machine stops.
# disks: 4x128M virtio
# cmdline: emdtest.root=/dev/emd0
# boot: plain
# run: whole
# timeout: 240

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

# What came to the new root, but for what has changed since.
sums() { (cd / && find usr emd init -xdev -type f -print0 | sort -z | xargs -0 sha256sum); }

root_is_on() {
  expect_equal "/ is on" "$(findmnt -no SOURCE,FSTYPE /)" "/dev/emd0 ext4"
  [[ $(stat -fc %T /) != tmpfs ]] || fail "/ is in memory"
}

is_whole() { emd_is emd0 optimal && emd_has_task emd0 null; }

boot_1() {
  step "a filesystem with all that this machine needs, on a RAID 5"
  expect "created" emdadm create --format ddf --level raid5 --name root --assume-clean "$(disk disk1)" "$(disk disk2)" "$(disk disk3)" --spare "$(disk disk4)"
  wait_for 10 emd_runs emd0
  mkfs.ext4 -q -m 0 /dev/emd0
  mkdir -p /newroot
  mount /dev/emd0 /newroot
  cp -ax / /newroot
  mkdir -p /newroot/{proc,sys,dev,run,tmp}
  sums >/newroot/sums
  umount /newroot
}

boot_2() {
  step "booted from it"
  root_is_on
  # It was written to until the very end.
  expect_no_emd_task
  expect "all files are right" cmp <(sums) /sums
  step "a member is lost"
  unplug disk2
  wait_for 20 emd_has emd0 "$(disk disk4)"
  wait_for 60 is_whole
  echo 3 >/proc/sys/vm/drop_caches
  expect "all files are right" cmp <(sums) /sums
  known 3 $((8 << 20)) >/known
  sync /known
  host powercut
}

boot_3() {
  step "booted from it after a power cut"
  root_is_on
  wait_for 60 is_whole
  expect "what was synced is there" cmp <(known 3 $((8 << 20))) /known
  expect "all files are right" cmp <(sums) /sums
  step "a member is lost for good"
  # The disk that was lost first is here again, and may take its place; but it is not through when the machine stops.
  expect "slow" emdadm limit --max 16K
  unplug disk3
  wait_for 20 emd_is emd0 degraded
  # Else it would be here again.
  host blank disk3
}

boot_4() {
  step "booted from it without a member"
  root_is_on
  dmesg >/run/dmesg
  grep -q "emd0 is started, degraded" /run/dmesg || fail "it was not started without a member"
  expect "what was synced is there" cmp <(known 3 $((8 << 20))) /known
  expect "all files are right" cmp <(sums) /sums
}
