# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The write hole: power goes between data and parity of a degraded RAID 5. Without a log a place that nobody was writing is damaged; with it nothing is.
# disks: 6x80M virtio
# emd: manual
# timeout: 90

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh

size=$((8 << 20))

layer() { # NUMBER: a device of device-mapper over the disk
  local device
  device=$(disk "disk$1")
  dmsetup create "m$1" --table "0 $(blockdev --getsz "$device") linear $device 0"
  [[ -b /dev/mapper/m$1 ]] || dmsetup mknodes
}

# From now on writes to the data of this disk take half an hour. Flushes, and writes to its end, where the metadata is, do not.
is_slow() {
  local device sectors data=65536
  device=$(disk "disk$1")
  sectors=$(blockdev --getsz "$device")
  dmsetup suspend --noflush --nolockfs "m$1"
  dmsetup load "m$1" <<TABLE
0 $data delay $device 0 0 $device 0 1800000 $device 0 0
$data $((sectors - data)) linear $device $data
TABLE
  dmsetup resume "m$1"
}

same_start() { cmp -s -n 4096 "$1" /run/new; }

torn() { # ARRAY FIRST: of the array on disks FIRST to FIRST+2 the second member is lost, and a write to the first is cut in the middle
  local array=$1 first=$2 m
  expect "the second member fails" emdadm fail --force "$array" "$(readlink -f "/dev/mapper/m$((first + 1))")"
  wait_for 20 emd_is "$array" degraded
  is_slow $((first + 2))
  m=$(disk "disk$first")
  dd if=/run/new of="/dev/$array" bs=4096 count=1 oflag=direct status=none &
  # What is on the disk itself: around the cache.
  # shellcheck disable=SC2317 # called by name
  arrived() { range "$m" 0 8 | cmp -s - /run/new; }
  wait_for 30 arrived
  say "ok: the new data is on its member, its parity is not"
}

boot_1() {
  local m
  modprobe dm_mod
  modprobe dm_delay
  for m in 1 2 3 4 5 6; do layer "$m"; done
  modprobe emd clean_ms=200
  known 5 4096 >/run/new
  step "two arrays of three members, one with a log"
  emdadm create --format ddf --level raid5 --layout left-symmetric --name logged --log --chunk 64K --size 8M --assume-clean \
    "$(readlink -f /dev/mapper/m1)" "$(readlink -f /dev/mapper/m2)" "$(readlink -f /dev/mapper/m3)"
  emdadm create --format ddf --level raid5 --layout left-symmetric --name bare --chunk 64K --size 8M --assume-clean \
    "$(readlink -f /dev/mapper/m4)" "$(readlink -f /dev/mapper/m5)" "$(readlink -f /dev/mapper/m6)"
  expect_equal "policy of the first" "$(emd_get emd0 .crash_policy)" log
  expect_equal "policy of the second" "$(emd_get emd1 .crash_policy)" resync
  expect_failure "it is not changed while the array runs" emdadm policy emd1 log
  expect "fio over the log" fio_verified /dev/emd0
  fill /dev/emd0 1 >/dev/null
  fill /dev/emd1 2 >/dev/null
  wait_for 20 emd_is_clean emd0
  wait_for 20 emd_is_clean emd1
  step "power goes between data and parity"
  torn emd0 1
  torn emd1 4
  host powercut
}

# What was left alone holds what it should.
others() { # ARRAY SEED
  # What cannot be read ends the test: it is no other data.
  dd if="/dev/$1" of=/run/held bs=1M iflag=direct status=none || fail "/dev/$1 cannot be read"
  [[ $(stat -c %s /run/held) == "$size" ]] || fail "/dev/$1 has other than $size bytes"
  known "$2" "$size" | cmp -s -i 4096 - /run/held
}

boot_2() {
  known 5 4096 >/run/new
  modprobe emd auto=0
  step "after the power cut"
  emdadm scan --degraded || true
  wait_for 20 emd_runs emd0
  expect_equal "the one with a log starts by itself, degraded" "$(emdadm list --json | jq -r '[.. | objects | select(.name? == "logged") | .state] | first')" degraded
  logged=$(emdadm show --json | jq -r '.. | objects | select(.name? == "logged") | .device // empty')
  logged=${logged#/dev/}
  expect "all that was left alone is there" others "$logged" 1
  dd if="/dev/$logged" bs=4096 count=1 iflag=direct status=none >/run/got
  cmp -s /run/got /run/new || known 1 4096 | cmp -s - /run/got || fail "what was written is neither old nor new"
  say "ok: what was being written is old or new"
  emdadm scan --degraded --force || true
  bare=$(emdadm show --json | jq -r '.. | objects | select(.name? == "bare") | .device // empty')
  bare=${bare#/dev/}
  [[ -n $bare ]] || fail "the other one is not started by force"
  expect_failure "without a log, something else is damaged: else this test proves nothing" others "$bare" 2
  step "a policy is changed while the array is stopped"
  emdadm stop "$bare" >/dev/null
  expect "policy log" emdadm policy bare log
  expect "it starts" emdadm scan --degraded --force
  wait_for 20 emd_runs "$bare"
  expect_equal "policy" "$(emd_get "$bare" .crash_policy)" log
  expect "fio, degraded, over the log" fio_verified "/dev/$bare"
}
