#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What tests of Intel's metadata share: lib-raid.sh, with mdadm's and EMD's view of such sets. To be sourced by a test.

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

# There is no Intel firmware to ask what it can do.
export IMSM_NO_PLATFORM=1

# mdadm_view DISK: what mdadm reads there, one line for each volume and each disk.
# The serial number of a lost disk has a mark; which disk is "Failed disk" is told by the slots, too.
mdadm_view() {
  mdadm -E "$1" | awk '
    { text = $0; sub(/^[^:]*: */, "", text); sub(/ +$/, "", text) }
    /^ *Disk.* Serial :/ { serial = text; sub(/(:0)+$/, "", serial); next }
    serial != "" && / State :/ { print "disk " serial ": " text; serial = ""; next }
    /^\[.*\]:$/ { name = substr($0, 2, length($0) - 3) }
    / RAID Level :/ { level = text; sub(/ .*/, "", level) }
    / Slots :/ { slots = text; sub(/ .*/, "", slots) }
    / Array Size :/ { size = text; sub(/ .*/, "", size) }
    / Chunk Size :/ { chunk = text }
    / Migrate State :/ { migrates = text }
    / Map State :/ { map = text; sub(/ .*/, "", map) }
    / Dirty State :/ { print "volume " name ": RAID" level " " slots " " size " sectors, " map ", " migrates ", " text }' | sort
}

# emd_view: the same of what EMD says, in mdadm's words.
emd_view() {
  emdadm show --json | jq -r '
    {optimal: "normal", degraded: "degraded", failed: "failed"} as $state
    | {member: "active", "global-spare": "spare", "dedicated-spare": "spare", unused: ""} as $role
    | {online: "", failed: " failed", stale: " failed", missing: " failed"} as $disk
    | .sets[] | select(.format == "imsm")
    | (.volumes[] | "volume \(.name): \(.level | ascii_upcase) [\([.members[] | if .state == "in-sync" then "U" else "_" end] | join(""))] \(.size_sectors) sectors, \($state[.state]), \(.task.kind // "idle"), \(.consistency)"),
      (.disks[] | select(.state != "stale" or .role == "member") | "disk \(.label | sub("(:0)+$"; "")): \($role[.role])\($disk[.state])")' | sort
}

# The set's identifier, as EMD gives it.
emd_set() { emdadm show --json | jq -r '[.sets[] | select(.format == "imsm").id][0]'; }

# The names of all volumes.
emd_names() { emdadm show --json | jq -r '.sets[].volumes[].name'; }

# --- From one to the other. SUMS is what each volume holds.

declare -A SUMS

# emd_fill SEED: all volumes.
emd_fill() {
  local name
  for name in $(emd_names); do SUMS[$name]=$(fill "/dev/$(emd_node "$name")" "$1"); done
}

# md_fill SEED: all volumes.
md_fill() {
  local name
  for name in "${!SUMS[@]}"; do SUMS[$name]=$(fill "$(md_device "$name")" "$1"); done
}

# md_takes DISK...: EMD stops everything; mdadm reads from the disks what EMD said last, and assembles it.
md_takes() {
  local view
  view=$(emd_view)
  emdadm stop --all >/dev/null
  rmmod emd
  expect_agreement "$view" "$@"
  dmesg -C
  md_assemble "$@"
}

# md runs the volume with EMD's bytes, finds its redundancy right, and has nothing to do.
md_has() { # NAME LOST
  expect "$1: md has nothing to sync" md_is_synced "$1" "$2"
  expect_equal "$1 has the bytes that EMD wrote" "$(sum "$(md_device "$1")")" "${SUMS[$1]}"
  [[ $(md_sysfs "$1" level) == raid0 || $2 != 0 ]] || expect_equal "$1: md finds no mismatch" "$(md_mismatches "$1")" 0
}

# emd_takes STATE: EMD finds the volumes again by itself, with the bytes that md wrote.
emd_takes() {
  local name
  emd_load
  for name in "${!SUMS[@]}"; do
    wait_for 20 emd_node "$name"
    wait_for 10 emd_runs "$(emd_node "$name")"
    expect_equal "$name" "$(emd_get "$name" '[.state, .consistency, .task.kind] | join(" ")')" "$1 clean "
    expect_equal "$name has the bytes that md wrote" "$(sum "/dev/$(emd_node "$name")")" "${SUMS[$name]}"
  done
}

# emd_resyncs NAME...: EMD finds the volumes dirty, and resyncs them. What they hold is remembered.
emd_resyncs() {
  local name
  for name; do wait_for 20 emd_node "$name"; done
  for name; do wait_for 40 emd_settled "$name"; done
  for name; do
    wait_for 10 emd_resynced "$name"
    say "ok: $name was resynced to its end"
    SUMS[$name]=$(sum "/dev/$(emd_node "$name")")
  done
}

# emd_resynced NAME: its events say so.
emd_resynced() {
  emdadm monitor --from 0 --once --json >/run/events
  # shellcheck disable=SC2016 # of jq
  jq -es --arg a "$(emd_node "$1")" \
    '[.[] | select((.array // "" | ltrimstr("/dev/")) == $a) | .kind + " " + (.word // "")] | any(. == "task-started resync") and any(startswith("task-done"))' /run/events
}
