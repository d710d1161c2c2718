#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What tests share in which a set of several volumes (DDF, Intel) goes from mdadm's md to EMD and back, again and again: each time
# with the same bytes, the same states, and nothing synced that need not be. To be sourced by a test.

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

# Of each volume: what it holds; what it is (as emd_detail says it) and how many members it lacks, when EMD let go of it.
declare -A SUMS DETAILS LOST

# Of each volume, once it is started by EMD (emd_all) or by md (md_finds): its device.
declare -A EMD_NODES MD_NODES

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
  md_finds
  for name in "${!SUMS[@]}"; do SUMS[$name]=$(fill "${MD_NODES[$name]}" "$1"); done
}

# md_finds: where md has the volumes of SUMS. (mdmon may have missed one: see md_gets_synced. Who writes to it would wait for ever.)
md_finds() {
  local name
  MD_NODES=()
  for name in "${!SUMS[@]}"; do MD_NODES[$name]=$(md_device "$name") || fail "md has no $name: $(</proc/mdstat)"; done
  pkill -USR1 mdmon || true
}

# emd_all STATE CONSISTENCY: for wait_for: all volumes of SUMS are started, nothing runs on them, and they are so ("-": whatever).
emd_all() {
  local name device found names
  printf -v names '"%s",' "${!SUMS[@]}"
  # shellcheck disable=SC2016 # of jq
  found=$(emdadm show --json | jq -er --argjson names "[${names%,}]" --arg state "$1" --arg consistency "$2" '
    [.sets[].volumes[] | select((.device // "") != "" and .state != "inactive")
      | select(($state == "-" or .state == $state) and ($consistency == "-" or .consistency == $consistency) and .task.kind == null)]
    | if ($names - map(.name)) == [] then .[] | "\(.name) \(.device)" else false end') || return
  EMD_NODES=()
  while read -r name device; do
    [[ -b $device ]] || return
    EMD_NODES[$name]=$device
  done <<<"$found"
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
  local name folder level detail mismatches checked=()
  md_finds
  for name; do
    # It looks whether there is something to sync after the array is there; whether there was, the kernel's log tells below.
    wait_for 5 md_is_synced "$name" "${LOST[$name]}"
    detail=$(md_detail "${MD_NODES[$name]}")
    [[ $detail == "${DETAILS[$name]}" ]] || fail "$name: mdadm --detail: '$detail', EMD: '${DETAILS[$name]}'"
    [[ $(sum "${MD_NODES[$name]}") == "${SUMS[$name]}" ]] || fail "$name: md has other bytes than EMD wrote"
    say "ok: $name: bytes, mdadm --detail (${DETAILS[$name]})"
  done
  expect_no_md_sync
  for name; do
    folder=/sys/block/${MD_NODES[$name]#/dev/}/md
    read -r level <"$folder/level"
    [[ $level =~ ^(raid0|linear)$ || ${LOST[$name]} != 0 ]] && continue
    echo check >"$folder/sync_action"
    checked+=("$folder")
  done
  for folder in "${checked[@]}"; do
    wait_for 60 md_has_checked "$folder"
    read -r mismatches <"$folder/mismatch_cnt"
    [[ $mismatches == 0 ]] || fail "md finds mismatches: $folder"
  done
  say "ok: md finds no mismatch"
}

# As in lib-raid.sh, with fewer programs: they are asked for often.

md_load() { [[ -d /sys/module/raid456 && -d /sys/module/raid10 && -d /sys/module/raid1 && -d /sys/module/raid0 ]] || modprobe -a raid456 raid10 raid1 raid0; }

md_device() {
  local path device
  for path in "/dev/md/$1" "/dev/md/$1"_[0-9]*; do
    [[ -e $path ]] || continue
    for device in /dev/md[0-9]*; do
      if [[ $device -ef $path ]]; then
        echo "$device"
        return
      fi
    done
  done
  return 1
}

# md_sysfs NAME FILE
md_sysfs() {
  local text
  read -r text <"$(md_folder "$1")/$2" || true
  echo "$text"
}

md_folder() {
  local device
  device=$(md_device "$1") && echo "/sys/block/${device#/dev/}/md"
}

# md_has_place NAME DISK: the disk has a place in the volume.
md_has_place() {
  local slot
  read -r slot 2>/dev/null <"$(md_folder "$1")/dev-${2#/dev/}/slot" && [[ $slot != none ]]
}

# md_lost NAME COUNT: for wait_for: it lacks so many members, also of those that mdmon has to take out of it. (It may have missed that: see md_gets_synced.)
md_lost() { [[ $(md_sysfs "$1" degraded) == "$2" ]] || { ((SECONDS % 5)) || pkill -USR1 mdmon; false; }; }

# md_speed [KIB]: how fast md syncs and rebuilds, of each member in a second; without: as it does by itself. Of all arrays: an array's own limits are gone when mdmon starts it again.
md_speed() {
  echo "${1:-1000}" >/proc/sys/dev/raid/speed_limit_min
  echo "${1:-200000}" >/proc/sys/dev/raid/speed_limit_max
}

# md_gives_place NAME DISK: for wait_for: it gets one. (The same.)
md_gives_place() { md_has_place "$@" || { ((SECONDS % 5)) || pkill -USR1 mdmon; false; }; }

md_is_synced() { # NAME [LOST]
  local folder level action start degraded
  folder=$(md_folder "$1") || return
  read -r level <"$folder/level"
  [[ $level =~ ^(raid0|linear)$ ]] && return
  read -r action <"$folder/sync_action"
  read -r start <"$folder/resync_start"
  read -r degraded <"$folder/degraded"
  [[ $action == idle && $start == none && $degraded == "${2:-0}" ]]
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
  wait_for 30 emd_all "$1" clean
  for name in "${!SUMS[@]}"; do
    [[ $(sum "${EMD_NODES[$name]}") == "${SUMS[$name]}" ]] || fail "$name: EMD has other bytes than md wrote"
    say "ok: $name has the bytes that md wrote"
  done
}

# The volumes that EMD has begun to rebuild, as all_events has them.
emd_rebuilt() {
  local array
  jq -r 'select(.kind == "task-started" and .word == "rebuild").array' /run/all-events | while read -r array; do
    emdadm show --json | jq -r --arg array "$array" '.sets[].volumes[] | select(.device == $array).name'
  done | sort -u
}

# ddf_newest DISK...: the one that mdmon wrote last. (It may end without having written all of them.)
ddf_newest() {
  local device seq newest=-1 chosen
  for device; do
    seq=$((16#$(mdadm -E "$device" | sed -n 's/^ *Seq : //p')))
    ((seq <= newest)) || { newest=$seq && chosen=$device; }
  done
  echo "$chosen"
}

# emd_takes_rebuilt DISK...: EMD finds the DDF volumes that md has rebuilt, on these disks. mdmon 4.4 may have recorded it otherwise (what it did is in DEGRADED): it lists a disk that replaces one in several volumes
# twice, the second time as rebuilding for good, and may go on to call one of the volumes degraded; or it ends before it has recorded that a rebuild is over (seen on a busy machine). EMD cannot know better, and rebuilds that.
emd_takes_rebuilt() {
  DEGRADED=$(mdadm_view "$(ddf_newest "$@")" | sed -n 's/^volume \(.*\): \(Degraded\|Partially Optimal\),.*/\1/p')
  emd_finds optimal
  all_events /run/all-events
  expect_equal "EMD has rebuilt what mdadm calls degraded" "$(emd_rebuilt)" "$DEGRADED"
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
