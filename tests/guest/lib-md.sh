#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the tests of md's own superblocks share. One array at a time: md0 of md, emd0 of EMD.
#   source /emd/tests/guest/lib-md.sh

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

# md_make VERSION LEVEL OPTION|DISK...: an array of mdadm's, synced.
md_make() {
  local version=$1 level=$2
  shift 2
  mdadm -CR /dev/md0 -e "$version" -l "$level" "$@" >/run/mdadm.out 2>&1 || fail "mdadm: $(</run/mdadm.out)"
  wait_for 40 md0_is_synced
}

md0_sysfs() {
  local text
  read -r text <"/sys/block/md0/md/$1" || true
  echo "$text"
}

# md0_is_synced [LOST]: md finds nothing to do, but for so many lost members.
md0_is_synced() {
  local folder=/sys/block/md0/md level action start degraded
  read -r level <$folder/level
  [[ $level == raid0 || $level == linear ]] && return
  read -r action <$folder/sync_action
  read -r start <$folder/resync_start
  read -r degraded <$folder/degraded
  [[ $action == idle && $start == none && $degraded == "${1:-0}" ]]
}

# md0_stop: what it was is in DETAIL.
md0_stop() {
  wait_for 20 md0_is_clean
  DETAIL=$(md_detail /dev/md0)
  mdadm -S /dev/md0 2>/dev/null
}

md0_is_clean() {
  local state
  read -r state </sys/block/md0/md/array_state
  [[ $state =~ ^(clean|active-idle|readonly|read-auto|active)$ ]]
}

# md0_runs LOST SUM DISK...: md runs what EMD left, with EMD's bytes, finds its redundancy right and has nothing to sync; and mdadm
# describes it as EMD did.
md0_runs() {
  local lost=$1 sum=$2
  shift 2
  md_load
  dmesg -C
  mdadm -A --run /dev/md0 "$@" >/run/mdadm.out 2>&1 || fail "mdadm -A: $(</run/mdadm.out)"
  # It looks whether there is something after the array is there; whether there was, the kernel's log tells below.
  expect "md has nothing to sync" wait_for 5 md0_is_synced "$lost"
  expect_equal "mdadm --detail" "$(md_detail /dev/md0)" "$DETAIL"
  expect_equal "md has the bytes that EMD wrote" "$(sum /dev/md0)" "$sum"
  expect_no_md_sync
  case $(md0_sysfs level) in
    raid0 | linear) ;;
    *)
      if [[ $lost == 0 ]]; then
        echo check >/sys/block/md0/md/sync_action
        wait_for 60 md_has_checked /sys/block/md0/md
        expect_equal "md finds no mismatch" "$(md0_sysfs mismatch_cnt)" 0
      fi
      ;;
  esac
}

# emd0_is STATE CONSISTENCY: of the only array ("-": whatever), and nothing runs on it. For wait_for; without a program that takes the JSON apart, since it is asked for often.
emd0_is() {
  local json words='"state": "([a-z-]+)",[[:space:]]+"consistency": "([a-z]+)"'
  json=$(emdadm show --json)
  [[ $json =~ $words && ($1 == - || ${BASH_REMATCH[1]} == "$1") && ($2 == - || ${BASH_REMATCH[2]} == "$2") && $json == *'"task": null'* ]]
}

# emd0_runs STATE SUM: EMD finds the array by itself, with these bytes, and nothing to do; and describes it as mdadm did.
emd0_runs() {
  emd_load
  wait_for 20 emd_runs emd0
  expect "EMD: $1, clean, no task" emd0_is "$1" clean
  expect_equal "EMD describes it as mdadm --detail did" "$(emd_detail emd0)" "$DETAIL"
  expect_equal "EMD has the bytes that md wrote" "$(sum /dev/emd0)" "$2"
  expect_no_emd_task
}

# emd0_leaves: what it was is in DETAIL.
emd0_leaves() {
  wait_for 20 emd0_is - clean
  DETAIL=$(emd_detail emd0)
  emdadm stop --all >/dev/null
  rmmod emd
}

blank_all() {
  local device
  for device in "${DISKS[@]}"; do blkdiscard -f -z "$device" 2>/dev/null; done
}

# states DISK...: what mdadm reads there: state, and what it is.
examined() { mdadm -E "$1" | sed -n -e 's/^ *State : //p' | tr -d ' '; }
