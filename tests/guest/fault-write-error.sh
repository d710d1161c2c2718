# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A member that cannot write is failed, on the other disks before the write is acknowledged. Spares take over, nothing is lost: of a
# mirror, also when a member is pulled out, and of a RAID5.
# disks: 5x64M virtio
# emd: manual
# timeout: 90

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh

# Disks 1, 2 and 3 are below device-mapper, so that they can be made to fail.
layer() {
  local device
  device=$(disk "disk$1")
  dmsetup create "m$1" --table "0 $(blockdev --getsz "$device") linear $device 0"
  [[ -b /dev/mapper/m$1 ]] || dmsetup mknodes
}

# From now on it can be written again.
can_write() {
  local device
  device=$(disk "disk$1")
  dmsetup load "m$1" --table "0 $(blockdev --getsz "$device") linear $device 0"
  dmsetup resume "m$1"
}

# From now on it can read and not write, as a disk whose spare sectors are used up. (Tables: reads as before, writes fail.)
cannot_write() {
  local device sectors
  device=$(disk "disk$1")
  sectors=$(blockdev --getsz "$device")
  dmsetup suspend --noflush --nolockfs "m$1"
  dmsetup load "m$1" --table "0 $sectors flakey $device 0 0 3600 1 error_writes"
  dmsetup resume "m$1"
}

member_of() { emd_get emd0 ".members[] | select(.state == \"$1\") | .device"; }

takes_over() { # NUMBER SPARE: the disk fails under load, the spare takes its place
  # Some writes are done, so it is marked as dirty: it is a data write that fails, not one of metadata.
  load_begins "$1"
  cannot_write "$1"
  wait_for 20 emd_has emd0 "$2"
  load_ends
  say "ok: fio has not noticed"
  fio_pass "$1" verify || fail "fio: $(tail -n 20 "/run/fio.$1")"
  wait_for 30 emd_settled emd0
  expect "the spare is a member" emd_has emd0 "$2"
  expect_equal "the failed disk is recorded" \
    "$(emdadm show --json | jq -r ".sets[].disks[] | select(.state == \"failed\") | .index" | wc -l)" "$1"
  (($(emd_get emd0 .write_errors) > 0)) || fail "no write error was counted"
  expect "all data" fio_pass "$1" verify
}

boot_1() {
  modprobe dm_mod
  modprobe dm_flakey
  layer 1
  layer 2
  layer 3
  # Not clean again between two passes of fio: else the first write that fails may be the one of metadata that marks it as dirty.
  modprobe emd clean_ms=2000
  local m1 m2 m3 d4 d5 m
  for m in 1 2 3; do declare "m$m=$(readlink -f "/dev/mapper/m$m")"; done
  d4=$(disk disk4) d5=$(disk disk5)
  mirror
  d4=$(disk disk4)
  emdadm create --format ddf --level raid5 --name data --chunk 64K --size 16M --assume-clean --spare "$d4" "$m1" "$m2" "$m3"
  expect "a dedicated spare" emdadm spare --dedicated emd0 "$d5"

  step "a member fails, the dedicated spare goes first"
  takes_over 1 "$d5"
  step "another one fails, the global spare takes over"
  takes_over 2 "$d4"
  expect_equal "mdadm sees two failed disks" "$(mdadm -E "$d4" | grep -c 'Offline, Failed')" 2

  step "a third one fails, no spare is left; the power goes right after the write"
  wait_for 10 emd_is_clean emd0
  known 9 $((4 << 20)) >/run/new
  cannot_write 3
  dd if=/run/new of=/dev/emd0 bs=1M seek=2 oflag=direct conv=notrunc status=none
  # The same again and again, so that it is not marked as clean before the power goes.
  (spread && while :; do dd if=/run/new of=/dev/emd0 bs=1M seek=2 oflag=direct conv=notrunc status=none; done) &
  host powercut
}

# A mirror of disks 1 and 2, with spares. Afterwards nothing of it is on any disk.
mirror() {
  step "a mirror's member fails under load, the hot spare takes over"
  emdadm create --format ddf --level raid1 --name one --size 16M --assume-clean --spare "$d4" "$m1" "$m2"
  takes_over 1 "$d4"

  step "the spare that took over is pulled out under load, the next one takes over"
  expect "another spare" emdadm spare emd0 "$d5"
  load_begins 4
  unplug disk4
  wait_for 20 emd_has emd0 "$d5"
  load_goes_on || fail "the load ended: $(tail -n 20 /run/fio.4)"
  load_ends
  say "ok: fio has not noticed"
  wait_for 30 emd_settled emd0
  expect "the member that was there all the time is failed" emdadm fail emd0 "$m2"
  expect_equal "the array" "$(emd_state emd0)" degraded
  expect "all data, from the spare alone" fio_pass 4 verify

  expect "deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')"
  can_write 1
  for m in "$m1" "$m2"; do dd if=/dev/zero of="$m" bs=1M seek=30 oflag=direct status=none || true; done
  host blank disk4
  plug disk4
}

boot_2() {
  step "the disk is back, and not trusted"
  # It is disk3, as it was before its writes failed.
  modprobe emd start_timeout_ms=1500
  sleep 3
  [[ ! -b /dev/emd0 ]] || fail "dirty and degraded, and was started without being forced"
  expect "scan --force" emdadm scan --degraded --force
  wait_for 10 test -b /dev/emd0
  wait_for 10 emd_runs emd0
  expect_equal "degraded" "$(emd_state emd0)" degraded
  expect_equal "without disk3" "$(emd_get emd0 '.members[] | select(.state == "failed" or .state == "missing") | .slot')" 2
  expect_equal "its disk counts as failed" "$(emdadm show --json | jq -r '[.sets[].disks[] | select(.state == "failed")] | length')" 3
  known 9 $((4 << 20)) >/run/new
  expect "what was acknowledged is there" cmp /run/new <(dd if=/dev/emd0 bs=1M skip=2 count=4 iflag=direct status=none)
  expect_equal "mdadm sees it too" "$(mdadm -E "$(disk disk4)" | grep -c 'Offline, Failed')" 3

  step "and comes back when it is told to"
  expect "add" emdadm add emd0 "$(disk disk3)"
  wait_for 30 emd_settled emd0
  expect "the data" cmp /run/new <(dd if=/dev/emd0 bs=1M skip=2 count=4 iflag=direct status=none)
}
