# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The write hole: power goes between data and parity of a degraded RAID 5 and RAID 6, and of a RAID 4 that loses a member at the same moment. Without a log a place
# that nobody was writing is damaged; with it nothing is. A member that does not take what the log says is lost where that is borne, else the array waits for it.
# disks: 16x80M virtio
# emd: manual
# timeout: 110

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh

size=$((8 << 20))

# Of these the layer ends before the disk does: without it nothing is seen of the member.
SHORT=" 3 14 15 16 "

layer() { # NUMBER: a device of device-mapper over the disk
  local device sectors
  device=$(disk "disk$1")
  sectors=$(blockdev --getsz "$device")
  [[ $SHORT != *" $1 "* ]] || ((sectors -= 2048))
  dmsetup create "m$1" --table "0 $sectors linear $device 0"
  [[ -b /dev/mapper/m$1 ]] || dmsetup mknodes
}

# does NUMBER TARGET...: what becomes of reads and writes of the disk's data from now on. Flushes, and what goes to its end, where the metadata and the log are, are as ever.
does() {
  local sectors data=65536
  sectors=$(blockdev --getsz "/dev/mapper/m$1")
  dmsetup suspend --noflush --nolockfs "m$1"
  dmsetup load "m$1" <<TABLE
0 $data ${*:2}
$data $((sectors - data)) linear $(disk "disk$1") $data
TABLE
  dmsetup resume "m$1"
}

# Writes take half an hour.
is_slow() {
  local device
  device=$(disk "disk$1")
  does "$1" delay "$device" 0 0 "$device" 0 1800000 "$device" 0 0
}

# Writes fail.
refuses() { does "$1" flakey "$(disk "disk$1")" 0 0 3600 1 error_writes; }

# fails ARRAY DISK: that member is lost before.
fails() {
  expect "$1: a member fails" emdadm fail --force "$1" "$(readlink -f "/dev/mapper/m$2")"
  wait_for 20 emd_has_lost "$1"
}

emd_has_lost() { ask "$1" state && [[ $REPLY =~ ^(degraded|partially-optimal)$ ]]; }

# torn ARRAY DISK PARITY...: a write to the first member with data, on that disk, is cut in the middle: parity, on these, does not get it.
torn() {
  local array=$1 m parity
  m=$(disk "disk$2")
  shift 2
  for parity; do
    is_slow "$parity"
    range "$(disk "disk$parity")" 0 8 >"/run/parity$parity"
  done
  dd if=/run/new of="/dev/$array" bs=4096 count=1 oflag=direct status=none &
  # What is on the disk itself: around the cache.
  # shellcheck disable=SC2317 # called by name
  arrived() { range "$m" 0 8 | cmp -s - /run/new; }
  wait_for 30 arrived
  for parity; do expect "parity on disk$parity is the old one" holds "$(disk "disk$parity")" 0 "/run/parity$parity"; done
  say "ok: the new data is on its member, its parity is not"
}

# mapped NUMBER...: these devices of device-mapper.
mapped() {
  local number
  for number; do readlink -f "/dev/mapper/m$number"; done
}

boot_1() {
  local m
  modprobe dm_mod
  modprobe dm_delay
  for m in {1..16}; do layer "$m"; done
  modprobe emd clean_ms=200
  known 9 4096 >/run/new
  step "RAID 5 of three members, with a log and without; RAID 6 and two of RAID 4 with one"
  make logged 1 3 --level raid5 --layout left-symmetric --log
  make bare 4 3 --level raid5 --layout left-symmetric
  # Stripe 0 has P and Q on the first two, and data on the others.
  make six 7 4 --level raid6 --layout ddf-zero-restart --log
  make four 11 3 --level raid4 --layout parity-last --log
  make sick 14 3 --level raid4 --layout parity-last --log
  expect_equal "policy of the first" "$(emd_get emd0 .crash_policy)" log
  expect_equal "policy of the second" "$(emd_get emd1 .crash_policy)" resync
  expect_failure "it is not changed while the array runs" emdadm policy emd1 log
  expect "fio over the log" fio_verified /dev/emd0
  for m in 0 1 2 3 4; do fill "/dev/emd$m" $((m + 1)) >/dev/null; done
  for m in 0 1 2 3 4; do wait_for 20 emd_is_clean "emd$m"; done
  step "power goes between data and parity"
  fails emd0 2
  fails emd1 5
  fails emd2 10
  torn emd0 1 3
  torn emd1 4 6
  torn emd2 9 7 8
  # Nothing is lost of these yet.
  torn emd3 11 13
  torn emd4 14 16
  host powercut
}

make() { # NAME FIRST COUNT OPTION...
  local name=$1 first=$2 count=$3 devices
  shift 3
  mapfile -t devices < <(mapped $(seq "$first" $((first + count - 1))))
  expect "$name" emdadm create --format ddf --name "$name" --chunk 64K --size 8M --assume-clean "$@" "${devices[@]}"
}

# What was left alone holds what it should.
others() { # ARRAY SEED
  # What cannot be read ends the test: it is no other data.
  dd if="/dev/$1" of=/run/held bs=1M iflag=direct status=none || fail "/dev/$1 cannot be read"
  [[ $(stat -c %s /run/held) == "$size" ]] || fail "/dev/$1 has other than $size bytes"
  known "$2" "$size" | cmp -s -i 4096 - /run/held
}

# emd_started NAME: for wait_for: that is started.
emd_started() { emd_node "$1" && emd_runs "$(emd_node "$1")"; }

# is_whole NAME SEED: it starts by itself, degraded, and has all that was left alone.
is_whole() {
  local node
  wait_for 20 emd_started "$1"
  node=$(emd_node "$1")
  expect "$1 has a log: it starts by itself, degraded" emd_has_lost "$node"
  old_or_new "$node" "$2"
}

# old_or_new ARRAY SEED
old_or_new() {
  expect "$1: all that was left alone is there" others "$1" "$2"
  dd if="/dev/$1" bs=4096 count=1 iflag=direct status=none >/run/got
  cmp -s /run/got /run/new || known "$2" 4096 | cmp -s - /run/got || fail "what was written is neither old nor new"
  say "ok: what was being written is old or new"
}

boot_2() {
  local m
  known 9 4096 >/run/new
  # The data that the write to RAID 4 left alone goes with the power.
  unplug disk12
  modprobe -a dm_mod dm_flakey
  for m in $SHORT; do layer "$m"; done
  refuses 3
  refuses 16
  modprobe emd auto=0
  step "after the power cut: members do not take what the log says"
  emdadm scan --degraded >/run/scan || true
  is_whole sick 5
  expect_equal "the one that does not take it is lost" "$(emd_members "$(emd_node sick)")" "in-sync in-sync failed"
  expect "it is said" grep -q "is lost: disk .* does not take what the log says" <(dmesg)
  expect_failure "another array needs it as it is, and is not started" emd_node logged
  expect "it is said" grep -q "does not take what the log says: it is needed as it is" /run/scan
  step "they take it by now"
  does 3 linear "$(disk disk3)" 0
  emdadm scan --degraded || true
  is_whole logged 1
  is_whole six 3
  expect "the member with P fails too: Q alone tells what is missing" emdadm fail "$(emd_node six)" "$(disk disk7)"
  old_or_new "$(emd_node six)" 3
  is_whole four 4
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
