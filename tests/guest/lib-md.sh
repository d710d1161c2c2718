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

# md0_stop: what it was is in DETAIL, and what its disks say in EXAMINED.
md0_stop() {
  local here
  wait_for 20 md0_is_clean
  DETAIL=$(md_detail /dev/md0)
  mapfile -t here < <(md_disks md0)
  mdadm -S /dev/md0 2>/dev/null
  EXAMINED=$(md_examined "${here[@]}")
}

# md_disks NAME: those of an array of md's that it has not called failed.
md_disks() {
  local folder
  for folder in "/sys/block/$1/md/dev-"*; do
    grep -q faulty "$folder/state" || echo "/dev/${folder##*/dev-}"
  done
}

# md_examined DISK...: what mdadm --examine reads on each, a line for a disk: the array's state and which member it is, or that it is a spare; of all
# members which are there (0.90: in sync), as mdadm has it; 0.90's counts.
md_examined() {
  mdadm -E "$@" | awk '
    function tell() {
      if (disk) print disk ": " (role == "spare" ? role : state ", " role) ", " array counts
    }
    # The state that ends a line of the table of 0.90 of disks.
    function said(  i, text) {
      for (i = 6; i <= NF && $i !~ /^\/dev/; i++) text = text (text ? " " : "") $i
      return text
    }
    /^\/dev\/.*:$/ {
      tell()
      disk = substr($0, 1, length($0) - 1)
      state = role = array = counts = ""
      next
    }
    { text = $0; sub(/^[^:]*: */, "", text); sub(/ +$/, "", text) }
    / Raid Devices : / { members = text }
    / State : / && !/ Array State/ { state = text }
    / Device Role : / { role = text; sub(/^Active device/, "member", role) }
    / Recovery Offset : / { role = role ", being rebuilt" }
    / Array State : / { array = text; sub(/ .*/, "", array) }
    /^ *(Active|Working|Failed|Spare) Devices : / { counts = counts ", " text " " tolower($1) }
    $1 == "this" { role = said(); if (role == "active sync") role = "member " $5 }
    $1 ~ /^[0-9]+$/ && NF > 5 && $1 + 0 < members + 0 {
      text = said()
      array = array (text == "active sync" ? "A" : text == "faulty removed" ? "." : "(" text ")")
    }
    END { tell() }' | sort
}

# emd_examined: the same of what EMD says of all its arrays that md runs too, while nothing runs on them.
emd_examined() {
  emdadm show --json | jq -r '
    .sets[] | . as $set | .volumes[] | select(.level != "concat") | . as $volume
    | [.members[] | select(.state == "in-sync")] as $active
    | ([.members[] | if .state == "in-sync" then "A" else "." end] | add) as $array
    | [.members[].device] as $devices
    | [$set.disks[] | select(.state == "online" and (.role | endswith("spare")))] as $spares
    | (if $set.format != "md-0.90" then "" else
         ($active | length) as $in | ($spares | length) as $more
         | ", \($in) active, \($in + $more) working, \(($devices | length) - $in) failed, \($more) spare"
       end) as $counts
    | ($active[] | "\(.device): \($volume.consistency), member \(.slot), \($array)\($counts)"),
      ($spares[] | "\(.device): spare, \($array)\($counts)")' | sort
}

# expect_examined EXPECTED: mdadm --examine reads just that on the disks that it is about, from emd_examined.
expect_examined() {
  local here
  mapfile -t here < <(cut -d : -f 1 <<<"$1")
  [[ ${here[0]} == /dev/* ]] || fail "there is nothing to compare: '$1'"
  expect_equal "mdadm --examine has the states of array and disks" "$(md_examined "${here[@]}")" "$1"
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
  expect_equal "and its disks as --examine did" "$(emd_examined)" "$EXAMINED"
  expect_equal "EMD has the bytes that md wrote" "$(sum /dev/emd0)" "$2"
  expect_no_emd_task
}

# emd0_leaves: what it was is in DETAIL; mdadm --examine reads the same.
emd0_leaves() {
  local examined
  wait_for 20 emd0_is - clean
  DETAIL=$(emd_detail emd0)
  examined=$(emd_examined)
  emdadm stop --all >/dev/null
  rmmod emd
  expect_examined "$examined"
}

blank_all() {
  local device
  for device in "${DISKS[@]}"; do blkdiscard -f -z "$device" 2>/dev/null; done
}

# states DISK...: what mdadm reads there: state, and what it is.
examined() { mdadm -E "$1" | sed -n -e 's/^ *State : //p' | tr -d ' '; }
