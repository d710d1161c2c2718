# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Disks that fail in the middle of their set's start: nothing is believed then, and nobody lost, that would not have been a moment before.
# disks: 5x18M virtio
# cpus: 1
# emd: manual
# timeout: 60

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh

SIZE=$((2 << 20))

# Sectors of a layer, and where it begins on its disk: by itself that has no metadata.
LENGTH=32768 FIRST=2048

# linear FIRST COUNT DISK ...: a line of a table: what becomes of these sectors.
linear() { echo "$1 $2 linear $(disk "disk$3") $((FIRST + $1))"; }
fails() { echo "$1 $2 error"; }

layer() { # NUMBER: a device of device-mapper over the disk, LAYER[NUMBER]
  linear 0 $LENGTH "$1" | dmsetup create "over$1"
  [[ -b /dev/mapper/over$1 ]] || dmsetup mknodes
  LAYER[$1]=$(readlink -f "/dev/mapper/over$1")
}

# becomes NUMBER: what is behind a layer from now on, from standard input.
becomes() {
  dmsetup suspend --noflush --nolockfs "over$1"
  dmsetup load "over$1"
  dmsetup resume "over$1"
}

load() { modprobe emd auto=0 clean_ms="${1:-200}"; }

unload() {
  emdadm stop --all >/dev/null || fail "cannot stop"
  rmmod emd
}

started() { [[ -b /dev/emd0 ]]; }

# written SEED: known data at its start.
written() { known "$1" $SIZE | dd of=/dev/emd0 bs=1M iflag=fullblock oflag=direct conv=notrunc status=none; }

has() {
  known "$1" $SIZE >/run/known
  holds /dev/emd0 0 /run/known
}

# not_started REGEX LAYER...: the scan says why.
not_started() {
  local regex=$1
  emdadm scan --degraded "${@:2}" >/run/scan 2>&1 || true
  started && fail "was started: $(emdadm show)"
  grep -qE -- "$regex" /run/scan || fail "the reason is not said: $(head -c 1000 /run/scan)"
  say "ok: said: $(grep -E -m 1 -- "$regex" /run/scan)"
}

boot_1() {
  local format n
  declare -ga LAYER
  modprobe dm_mod
  for n in {1..5}; do layer "$n"; done
  for format in md-1.2 $(! whole || echo md-1.0); do an_old_half "$format"; done
  a_log_that_is_not_emptied
}

# The half of a mirror that knows of the other one that it is old cannot be read when both are claimed.
an_old_half() { # FORMAT
  local before
  step "$1: the half that is old is not believed when the other one cannot be read again"
  load
  expect "a mirror" emdadm create --format "$1" --force --level raid1 --name data --size 4M --assume-clean "${LAYER[1]}" "${LAYER[2]}"
  written 1
  wait_for 10 emd_is_clean emd0
  unload
  load
  expect "it runs on one half" emdadm scan --degraded "${LAYER[1]}"
  written 2
  wait_for 10 emd_is_clean emd0
  unload
  load
  # EMD itself looks at each disk once, a moment after it is loaded. What it cannot read then is none of the set's.
  sleep 1
  wait_for 10 both_are_read
  before=$(host contents disk1 disk2)
  not_started "disk [0-9:]+ (changed while it was looked at|.*cannot be read)" "${LAYER[2]}"
  not_started "disk [0-9:]+ (changed while it was looked at|.*cannot be read)" "${LAYER[2]}"
  unchanged "nothing was written" "$before" disk1 disk2
  linear 0 $LENGTH 1 | becomes 1
  expect "scan" emdadm scan "${LAYER[@]:1:2}"
  wait_for 5 emd_runs emd0
  expect_equal "the array" "$(emd_state emd0)" degraded
  expect "what was written last" has 2
  emdadm delete --force "$(emd_get emd0 .id)" >/dev/null
  rmmod emd
}

# both_are_read: and the first one cannot be from then on.
both_are_read() {
  linear 0 $LENGTH 1 | becomes 1
  emdadm scan --dry-run "${LAYER[1]}" "${LAYER[2]}"
  fails 0 $LENGTH | becomes 1
  [[ $(emdadm show --json | jq '[.sets[].disks[] | select(.device)] | length') == 2 ]]
}

# members: the states of the members, as the disks have them.
members() { emdadm examine --json "${LAYER[@]:3:3}" | jq -r '[.sets[].volumes[]][0].members | map(.state) | join(" ")'; }

# After a crash one member's log can neither be read nor written.
a_log_that_is_not_emptied() {
  local n
  step "a member is not lost for an empty log that it does not take, where the log did not tell all"
  # What is written stays dirty.
  load 3600000
  expect "RAID 5 with a log" emdadm create --format md-1.2 --force --level raid5 --chunk 16K --size 8M --name data --assume-clean --log "${LAYER[@]:3:3}"
  written 3
  expect_equal "in the middle of writes" "$(emd_consistency emd0)" dirty
  for n in 3 4 5; do dd if="${LAYER[n]}" of="/run/crashed$n" bs=1M iflag=direct status=none; done
  unload
  for n in 3 4 5; do dd if="/run/crashed$n" of="${LAYER[n]}" bs=1M oflag=direct conv=notrunc status=none; done
  # Sectors 16 to 2063 of each are the log. (Flushes go to the rest.)
  {
    linear 0 16 5
    fails 16 2048
    linear 2064 $((LENGTH - 2064)) 5
  } | becomes 5
  load
  not_started "the log on disk [0-9:]+ cannot be emptied" "${LAYER[@]:3:3}"
  rmmod emd
  expect_equal "nobody is lost" "$(members)" "in-sync in-sync in-sync"
  linear 0 $LENGTH 5 | becomes 5
  load
  expect "scan" emdadm scan "${LAYER[@]:3:3}"
  wait_for 30 emd_settled emd0
  expect "what was written" has 3
  unload
}
