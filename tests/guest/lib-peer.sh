#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What tests share in which a set of several volumes (DDF, Intel) goes from mdadm's md to EMD and back, again and again: each time
# with the same bytes, the same states, and nothing synced that need not be. To be sourced by a test.

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

# Of each volume: what it holds; what it is (as emd_detail says it) and how many members it lacks, when EMD let go of it.
declare -A SUMS DETAILS LOST

# The names of all volumes.
emd_names() { emdadm show --json | jq -r '.sets[].volumes[].name'; }

# emd_fill SEED: all volumes.
emd_fill() {
  local name device
  while read -r name device; do
    SUMS[$name]=$(fill "$device" "$1")
  done < <(emdadm show --json | jq -r '.sets[].volumes[] | .name + " " + .device')
}

# md_fill SEED: all volumes that there are in SUMS.
md_fill() {
  local name
  for name in "${!SUMS[@]}"; do SUMS[$name]=$(fill "$(md_device "$name")" "$1"); done
}

# emd_all STATE CONSISTENCY: for wait_for: all volumes of SUMS are started, and are so ("-": whatever).
emd_all() {
  local names
  names=$(printf '%s\n' "${!SUMS[@]}" | jq -R . | jq -cs .)
  # shellcheck disable=SC2016 # of jq
  emdadm show --json | jq -e --argjson names "$names" --arg state "$1" --arg consistency "$2" '
    ([.sets[].volumes[] | select((.device // "") != "" and .state != "inactive")
      | select(($state == "-" or .state == $state) and ($consistency == "-" or .consistency == $consistency) and .task.kind == null).name] | sort)
    | . as $there | $names | all(. as $name | $there | index($name))'
}

emd_leaves() {
  emdadm stop --all >/dev/null
  rmmod emd
}

# emd_lets_go: EMD stops everything when it is clean. What it said last is in VIEW, DETAILS and LOST.
emd_lets_go() {
  local name text
  wait_for 30 emd_all - clean
  VIEW=$(emd_view)
  while IFS=$'\t' read -r name text; do
    LOST[$name]=${text%%,*}
    DETAILS[$name]=${text#*, }
  done < <(emdadm show --json | jq -r ".sets[].volumes[] | . as \$volume | .name + \"\\t\" +
    ([.members[] | select(.state != \"in-sync\")] | length | tostring) + \", \" + ($EMD_DETAIL)")
  emd_leaves
}

# md_takes DISK...: EMD lets go; mdadm reads from the disks what EMD said last, and assembles it.
md_takes() {
  emd_lets_go
  expect_agreement "$VIEW" "$@"
  dmesg -C
  md_assemble "$@"
}

# md_has NAME...: md runs the volumes with EMD's bytes, finds their redundancy right, has nothing to do and has done nothing; and
# mdadm describes them as EMD did.
md_has() {
  local name folder checked=()
  for name; do
    md_is_synced "$name" "${LOST[$name]}" || fail "$name: md has something to sync, or has lost other than ${LOST[$name]}: $(</proc/mdstat)"
    [[ $(md_detail "$(md_device "$name")") == "${DETAILS[$name]}" ]] ||
      fail "$name: mdadm --detail: '$(md_detail "$(md_device "$name")")', EMD: '${DETAILS[$name]}'"
    [[ $(sum "$(md_device "$name")") == "${SUMS[$name]}" ]] || fail "$name: md has other bytes than EMD wrote"
    say "ok: $name: bytes, mdadm --detail (${DETAILS[$name]})"
  done
  expect_no_md_sync
  for name; do
    folder=/sys/block/$(basename "$(md_device "$name")")/md
    [[ $(<"$folder/level") =~ ^(raid0|linear)$ || ${LOST[$name]} != 0 ]] && continue
    echo check >"$folder/sync_action"
    checked+=("$folder")
  done
  for folder in "${checked[@]}"; do
    wait_for 60 md_has_checked "$folder"
    [[ $(<"$folder/mismatch_cnt") == 0 ]] || fail "md finds mismatches: $folder"
  done
  say "ok: md finds no mismatch"
}

# emd_takes STATE|-: EMD finds the volumes again by itself, with the bytes that md wrote, and has started nothing on them.
emd_takes() {
  emd_finds "$1"
  expect_no_emd_task
}

# emd_finds STATE|-: the same; whatever it has started on them.
emd_finds() {
  local name
  emd_load
  for name in "${!SUMS[@]}"; do wait_for 20 emd_node "$name"; done
  wait_for 20 emd_all "$1" clean
  for name in "${!SUMS[@]}"; do
    [[ $(sum "/dev/$(emd_node "$name")") == "${SUMS[$name]}" ]] || fail "$name: EMD has other bytes than md wrote"
    say "ok: $name has the bytes that md wrote"
  done
}

# there_and_back STATE SEED DISK...: EMD writes to the volumes that it has; md takes them from the disks and writes to them, and EMD
# has them again.
there_and_back() {
  emd_fill "$2"
  md_takes "${@:3}"
  md_has "${!SUMS[@]}"
  md_fill $(($2 + 1))
  md_stop
  emd_takes "$1"
}

# The same, twice.
there_and_back_twice() {
  there_and_back "$@"
  there_and_back "$1" $(($2 + 2)) "${@:3}"
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
