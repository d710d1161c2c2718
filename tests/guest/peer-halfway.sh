# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A rebuild that md began goes on under EMD from where it was, and md ends what EMD did not: what is done is not done again.
# disks: 4x36M scsi
# cpus: 1
# emd: manual
# timeout: 120

# shellcheck source=tests/guest/lib-imsm.sh
source /emd/tests/guest/lib-imsm.sh

# What is done again is told by other data that is put into the new member where it is done already: it stays, or it is gone.

boot_1() {
  local cell cells="imsm:5 1.2:5"
  mapfile -t DISKS < <(disks)
  md_load
  ! whole || cells="imsm:5 imsm:1 1.2:5 1.2:4 1.1:10 1.0:1"
  known 9 4096 >/run/other
  for cell in $cells; do handed_over "${cell%:*}" "${cell#*:}"; done
}

handed_over() { # FORMAT LEVEL
  local format=$1 level=$2 count=3 options=(-c64) device lost new new_first size mark first second
  step "$format, RAID $level: a rebuild, begun by md"
  [[ $level != 1 ]] || { count=2 && options=(); }
  [[ $level != 10 ]] || options+=(-p n2)
  USED=("${DISKS[@]:0:count}")
  lost=${DISKS[1]}
  new=${DISKS[3]}
  for device in "${DISKS[@]}"; do blkdiscard -f -z "$device" 2>/dev/null; done
  if [[ $format == imsm ]]; then
    expect "a container" mdadm -CR /dev/md/imsm -e imsm -n "$count" "${USED[@]}"
    expect "a volume" mdadm -CR /dev/md/v -l "$level" -n "$count" -z 20M --assume-clean "${options[@]}" /dev/md/imsm
  else
    expect "an array" mdadm -CR /dev/md/v -e "$format" -l "$level" -n "$count" -z 20M --assume-clean --bitmap=none "${options[@]}" "${USED[@]}"
  fi
  device=$(md_device v)
  size=$(($(blockdev --getsz "$device") / 2))
  expect "written at both ends" written "$device" "$size" 1
  expect "a member is lost" mdadm -f "$device" "$lost"
  wait_for 20 md_lacks 1
  md_speed 2000
  if [[ $format == imsm ]]; then
    expect "another" mdadm --add "$(md_container)" "$new"
    # md starts it when the array is written to.
    written "$device" "$size" 1
  else
    expect "another" mdadm --add "$device" "$new"
  fi
  USED[1]=$new
  wait_for 60 md_has_done 8192
  # It gets no further until it is stopped, nor when mdmon starts it again meanwhile.
  md_speed 1
  md_stop
  blkdiscard -f -z "$lost" 2>/dev/null

  step "gone on with by EMD"
  mark=$(recorded)
  say "md's mark: $mark sectors"
  ((mark > 3200 && mark < 26000)) || fail "md has not left off in the middle: $mark"
  new_first=$(recorded_field offset_sectors)
  first=$((new_first + mark - 1024))
  put "$first"
  modprobe emd auto=0 checkpoint_ms=300 clean_ms=300
  expect "slow" emdadm limit --max 1M
  expect "scanned" emdadm scan
  wait_for 20 emd_rebuilds_at "$mark"
  wait_for 60 emd_rebuilds_at $((mark + 6144))
  emd_leaves
  expect "what md had done was not done again" there "$first"

  step "and ended by md"
  md_speed
  second=$(recorded)
  ((second >= mark + 4096 && second < 34000)) || fail "EMD has not left off in the middle: $second"
  say "EMD's mark: $second sectors"
  second=$((new_first + second - 1024))
  put "$second"
  put $((new_first + 36864))
  if [[ $format == imsm ]]; then
    md_assemble "${USED[@]}"
  else
    expect "assembled" mdadm -A --run /dev/md/v "${USED[@]}"
  fi
  written "$(md_device v)" "$size" 3
  wait_for 60 md_gets_synced v
  expect "what EMD had done was not done again" there "$second"
  expect "nor what md had" there "$first"
  expect_failure "what was left to do is done" there $((new_first + 36864))
  verified "$(md_device v)" "$size" 3
  md_stop
}

# A MiB each. (In between is the other data.)
written() { /emd/bin/pattern write "$1" "$3" 0 1024 && /emd/bin/pattern write "$1" "$3" $(($2 - 1024)) 1024; }

verified() {
  expect "the start" /emd/bin/pattern verify "$1" "$3" 0 1024
  expect "and the end are right" /emd/bin/pattern verify "$1" "$3" $(($2 - 1024)) 1024
}

put() { dd if=/run/other of="$new" bs=512 seek="$1" oflag=direct conv=notrunc status=none; }

there() { holds "$new" "$1" /run/other; }

md_lacks() { [[ $(md_sysfs v degraded) == "$1" ]]; }

# md_has_done SECTORS: for wait_for. (mdmon, which starts it, may have missed the new disk: see md_gets_synced.)
md_has_done() {
  local completed
  completed=$(md_sysfs v sync_completed)
  if [[ ${completed%% *} == none ]]; then
    ((SECONDS % 5)) || pkill -USR1 mdmon
    return 1
  fi
  ((${completed%% *} >= $1))
}

# recorded: how far it is, as the disks say, in sectors of the new member.
recorded() { recorded_field done_sectors; }

recorded_field() { emdadm examine --json "${USED[@]}" | jq -r --arg new "$new" --arg field "$1" '[.sets[].volumes[].members[] | select(.device == $new)][0] | select(.state == "rebuilding")[$field]'; }

emd_rebuilds_at() {
  emdadm show --json | jq -e --argjson least "$1" '.sets[].volumes[].task | select(.kind == "rebuild" and .done_sectors >= $least)'
}
