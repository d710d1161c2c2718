#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A RAID5 with known data on disks 1 to 3 (64 MiB each), and what brings its disks into odd states. To be sourced by a test, after
# lib-faults.sh. Disks 4 to 6 are for the tests.

MEMBERS=(disk1 disk2 disk3)
ALL=(disk1 disk2 disk3 disk4 disk5 disk6)
DATA=$((8 << 20))

# The sectors where the metadata is: the disks' last 33 MiB. The rest never changes here.
TAIL_MIB=33

save() { # WHICH [DISK...]: of these, or of all members
  local which=$1 name
  shift
  (($#)) || set -- "${MEMBERS[@]}"
  for name; do
    dd if="$(disk "$name")" of="/run/$which.$name" bs=1M skip=$((64 - TAIL_MIB)) iflag=direct status=none
  done
}

restore() { # WHICH DISK...
  local which=$1 name
  shift
  for name; do dd if="/run/$which.$name" of="$(disk "$name")" bs=1M seek=$((64 - TAIL_MIB)) oflag=direct conv=notrunc status=none; done
}

wipe() { # DISK...: no metadata any more
  local name
  for name; do dd if=/dev/zero of="$(disk "$name")" bs=1M seek=$(($(blockdev --getsz "$(disk "$name")") / 2048 - TAIL_MIB)) count=$TAIL_MIB oflag=direct conv=notrunc status=none; done
}

# smash DISK SECTOR [COUNT]: noise over sectors of a disk
smash() { dd if=/dev/urandom of="$(disk "$1")" bs=512 seek="$2" count="${3:-1}" oflag=direct conv=notrunc status=none; }

# shellcheck disable=SC2120 # some tests give it options
load() { modprobe emd clean_ms=200 start_timeout_ms=1000 "$@"; }

unload() {
  emdadm stop --all >/dev/null || fail "cannot stop"
  rmmod emd
}

started() { [[ -b /dev/emd0 ]]; }

data_is_right() { expect "the data" /emd/bin/pattern verify /dev/emd0 3 0 $((DATA / 1024)); }

# The reasons and notes that EMD gives of volumes, sets and disks, one a line: nothing else that it prints.
remarks() {
  local each='.sets[].notes[], (.sets[].volumes[].reason // empty)'
  emdadm scan --dry-run --json "$@" | jq -r ".notes[].text, $each"
  emdadm show --json | jq -r "$each"
}

says() { # TEXT REGEX [DEVICE...]: of these disks, or of all
  local text=$1 regex=$2
  shift 2
  remarks "$@" >/run/remarks
  grep -qE -- "$regex" /run/remarks || fail "$text: not said: $(head -c 1500 /run/remarks)"
  say "ok: said: $(grep -E -m 1 -- "$regex" /run/remarks)"
}

# not_started TEXT REGEX CONTENTS: neither by itself nor asked, with a reason, and nothing is written.
not_started() {
  # The time-out is over, and some more.
  sleep 1.6
  started && fail "$1: was started: $(emdadm show)"
  emdadm scan >/run/scan 2>&1 || true
  started && fail "$1: was started when asked"
  says "$1" "$2"
  unchanged "nothing was written" "$3" "${ALL[@]}"
}

# refused_scan REGEX [DEVICE...]: a scan that finds disks which cannot be claimed starts nothing, and says why.
refused_scan() {
  local regex=$1
  shift
  emdadm scan "$@" >/run/scan 2>&1 || true
  started && fail "was started with a disk that cannot be claimed: $(emdadm show)"
  grep -qiE -- "$regex" /run/scan || fail "the reason is not said: $(head -c 1000 /run/scan)"
  say "ok: said: $(grep -iE -m 1 -- "$regex" /run/scan)"
}

# waits_in_call PID: it is in an ioctl, which waits.
waits_in_call() {
  local state syscall
  read -r _ _ state _ <"/proc/$1/stat"
  read -r syscall _ <"/proc/$1/syscall"
  [[ $state == D && $syscall == 16 ]]
}

# discovery_waits, discovery_goes_on: in between EMD looks at no disk that comes: it looks at one after the other, and the one that it is about to read does not answer.
discovery_waits() {
  modprobe -a dm_mod dm_zero
  [[ -b /dev/mapper/stuck ]] || dmsetup create stuck --table "0 131072 zero"
  [[ -b /dev/mapper/stuck ]] || dmsetup mknodes
  dmsetup suspend --noflush --nolockfs stuck
  emdadm scan /dev/mapper/stuck >/run/scan.stuck 2>&1 &
  STUCK=$!
  wait_for 10 waits_in_call "$STUCK"
}

discovery_goes_on() {
  dmsetup resume stuck
  # There is nothing on it.
  wait "$STUCK" || true
}

# be64 DISK SECTOR OFFSET: a big-endian number in a sector
be64() { echo $((16#$(range "$(disk "$1")" "$2" 1 | od -An -v -tx1 -j "$3" -N 8 | tr -d ' \n'))); }

# make_set: the set as it should be, saved as "good"; nothing is loaded afterwards.
make_set() {
  load
  emdadm create --format ddf --level raid5 --name data --chunk 64K --size 16M --assume-clean "$(disk disk1)" "$(disk disk2)" "$(disk disk3)"
  expect "known data" /emd/bin/pattern write /dev/emd0 3 0 $((DATA / 1024))
  wait_for 10 emd_settled emd0
  unload
  save good
}
