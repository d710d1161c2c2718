# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A rebuild that md began goes on under EMD from where it was, and md ends what EMD did not: what is done is not done again. In the whole run the first sync of
# an array too, whoever made it: it goes on under the other one, and is ended by the one that began it.
# disks: 4x36M scsi
# cpus: 1
# emd: manual
# timeout: 240

# shellcheck source=tests/guest/lib-imsm.sh
source /emd/tests/guest/lib-imsm.sh

# What is done again is told by other data that is put into the new member where it is done already (of a sync: into redundancy): it stays, or it is gone.

boot_1() {
  local cell cells="imsm:5 1.2:5"
  mapfile -t DISKS < <(disks)
  md_load
  ! whole || cells="imsm:5 imsm:1 1.2:5 1.2:4 1.1:10 1.0:1"
  known 9 4096 >/run/other
  for cell in $cells; do handed_over "${cell%:*}" "${cell#*:}"; done
  ! whole || syncs_handed_over
}

syncs_handed_over() {
  local cell format level maker
  for cell in imsm:5:md imsm:1:md imsm:10:md 1.2:5:md 1.2:1:md 1.2:10:md imsm:5:emd imsm:1:emd imsm:10:emd 1.2:5:emd 1.2:1:emd 1.2:10:emd; do
    IFS=: read -r format level maker <<<"$cell"
    sync_handed_over
  done
}

# sync_handed_over: of FORMAT and LEVEL, made by MAKER, which begins to sync it. The disks hold what does not agree anywhere, so that it shows how far a sync was.
sync_handed_over() {
  local other=emd count=3 chunk=128 size=40M mark before disk
  [[ $maker == md ]] || other=md
  step "$format, RAID $level: its first sync, begun by $maker"
  case $level in
  1) count=2 size=20M ;;
  10) count=4 ;;
  esac
  USED=("${DISKS[@]:0:count}")
  for disk in "${DISKS[@]}"; do blkdiscard -f -z "$disk" 2>/dev/null; done
  for disk in "${!USED[@]}"; do /emd/bin/pattern fill "${USED[disk]}" $((disk + 20)) 22528 >/dev/null; done
  "sync_begun_by_$maker"
  mark_is_right_of "$maker"
  ((mark > 3200 && mark < 26000)) || fail "$maker has not left off in the middle: $mark"

  step "gone on with by $other"
  before=$mark
  put_around "$before"
  "sync_gone_on_with_by_$other"
  stays_and_goes "$before"
  mark_is_right_of "$other"
  ((mark >= before + 4096 && mark < 36000)) || fail "$other has not left off in the middle: $mark"

  step "and ended by $maker"
  put_around "$mark"
  "sync_ended_by_$maker"
  stays_and_goes "$mark"
  expect "nor what was done first" holds "$LAST" "$(below "$before")" /run/other
}

# How much of each member a mark of so many sectors stands for: that of RAID 10 counts those of the volume.
of_member() { echo $(($1 / (level == 10 ? 2 : 1))); }

# mark_is_right_of md|emd: who stopped was there: MARK, as the disks have it, in sectors of each member; what is below it is synced. Sets LAST, a member with redundancy in the first of each count of
# chunks (RAID 5: parity; of mirrors the other copy, in all of them), SEED, what it held, and FIRST, where it starts.
mark_is_right_of() {
  local recorded
  recorded=$(emdadm examine --json "${USED[@]}" | jq -r '[.sets[].volumes[]][0] | "\(.consistent_sectors) \(.members[-1] | "\(.device) \(.offset_sectors)")"')
  read -r mark LAST FIRST <<<"$recorded"
  [[ $mark =~ ^[0-9]+$ ]] || fail "nothing is recorded of how far it is: $recorded"
  expect_equal "which is what mdadm or the superblock says" "$(theirs)" "$mark"
  mark=$(of_member "$mark")
  for SEED in "${!USED[@]}"; do [[ ${USED[SEED]} != "$LAST" ]] || break; done
  ((SEED += 20))
  say "$1's mark: $mark sectors of each member"
  expect_failure "what is below it was synced" is_as_before "$(below "$mark")"
  # (The end of the volume was written.)
  (($(above "$mark") + 6144 > 36000)) || expect "$1 is not much further" is_as_before $(($(above "$mark") + 6144))
}

# theirs: the mark in sectors: Intel's as mdadm has it, in units, and in brackets how large one is; resync_offset of the superblock, of which mdadm -E says nothing.
theirs() {
  if [[ $format == imsm ]]; then
    mdadm -E "${USED[0]}" | awk '/ Checkpoint :/ { gsub(/[()]/, ""); print $3 * $4 }'
  else
    od -An -tu8 -j $((4096 + 208)) -N 8 "${USED[0]}" | tr -d ' '
  fi
}

# below SECTOR, above SECTOR: the nearest place, on the disk, of redundancy that is below it as a whole, or above it.
below() { echo $((FIRST + $1 - chunk - ($1 - chunk) % (count * chunk))); }
above() { echo $((FIRST + $1 + (count * chunk - $1 % (count * chunk)) % (count * chunk))); }

is_as_before() {
  dd if="$LAST" of=/dev/null bs=512 skip="$1" count=8 iflag=direct status=none || fail "$LAST cannot be read"
  /emd/bin/pattern verify "$LAST" "$SEED" $(($1 / 2)) 4 2>/dev/null
}

put_around() {
  local new=$LAST
  put "$(below "$1")"
  put "$(above "$1")"
}

stays_and_goes() {
  expect "what was done was not done again" holds "$LAST" "$(below "$1")" /run/other
  expect_failure "what was left to do is done" holds "$LAST" "$(above "$1")" /run/other
}

sync_begun_by_md() {
  local options=(-c64)
  [[ $level != 1 ]] || options=()
  [[ $level != 10 ]] || options+=(-p n2)
  md_speed 2000
  if [[ $format == imsm ]]; then
    expect "a container" mdadm -CR /dev/md/imsm -e imsm -n "$count" "${USED[@]}"
    expect "a volume" mdadm -CR /dev/md/v -l "$level" -n "$count" -z 20M "${options[@]}" /dev/md/imsm
  else
    # Without --force it would rebuild the last member of a RAID 5.
    expect "an array" mdadm -CR /dev/md/v -e "$format" -l "$level" -n "$count" -z 20M --force --bitmap=none "${options[@]}" "${USED[@]}"
  fi
  expect "written at both ends" written "$(md_device v)" "$(volume_kib "$(md_device v)")" 1
  md_syncs_to 8192
}

# md_syncs_to SECTORS: of each member; there it is stopped.
md_syncs_to() {
  wait_for 60 md_has_done $(($1 * (level == 10 ? 2 : 1)))
  # It gets no further until it is stopped, nor when mdmon starts it again meanwhile.
  md_speed 1
  md_stop
}

sync_begun_by_emd() {
  local options=(--chunk 64K)
  [[ $level != 1 ]] || options=()
  [[ $level != 10 ]] || options+=(--layout near=2)
  modprobe emd auto=0 checkpoint_ms=300 clean_ms=300
  expect "slow" emdadm limit --max 1M
  expect "a volume" emdadm create -e "$([[ $format == imsm ]] || echo md-)$format" -l "raid$level" -n v --force --size "$size" "${options[@]}" "${USED[@]}"
  wait_for 20 emd_syncs_at 0
  expect "written at both ends" written "$(its_device)" "$(volume_kib "$(its_device)")" 1
  wait_for 60 emd_syncs_at 8192
  emd_leaves
}

sync_gone_on_with_by_emd() {
  modprobe emd auto=0 checkpoint_ms=300 clean_ms=300
  expect "slow" emdadm limit --max 1M
  expect "scanned" emdadm scan
  wait_for 20 emd_syncs_at "$before"
  wait_for 60 emd_syncs_at $((before + 6144))
  emd_leaves
}

sync_gone_on_with_by_md() {
  md_speed 2000
  md_has_it
  md_syncs_to $((before + 6144))
}

sync_ended_by_md() {
  local device
  md_speed
  md_has_it
  device=$(md_device v)
  written "$device" "$(volume_kib "$device")" 3
  wait_for 60 md_gets_synced v
  verified "$device" "$(volume_kib "$device")" 3
  md_stop
}

sync_ended_by_emd() {
  local device
  modprobe emd auto=0 clean_ms=300
  expect "scanned" emdadm scan
  wait_for 60 emd_has_synced
  device=$(its_device)
  verified "$device" "$(volume_kib "$device")" 1
  emd_leaves
}

# md_has_it: and has begun to sync what is left: it does when the array is written to.
md_has_it() {
  if [[ $format == imsm ]]; then
    md_assemble "${USED[@]}"
  else
    expect "assembled" mdadm -A --run /dev/md/v "${USED[@]}"
  fi
  written "$(md_device v)" "$(volume_kib "$(md_device v)")" 1
}

volume_kib() { echo $(($(blockdev --getsz "$1") / 2)); }

its_device() { emdadm show --json | jq -r '[.sets[].volumes[].device][0]'; }

# emd_syncs_at LEAST: sectors of each member, at least.
emd_syncs_at() {
  emdadm show --json | jq -e --argjson least $(($1 * (level == 10 ? 2 : 1))) '.sets[].volumes[].task | select(.kind == "initialise" and .done_sectors >= $least)'
}

emd_has_synced() { emdadm show --json | jq -e '[.sets[].volumes[]] | length == 1 and all(.state == "optimal" and .consistency == "clean" and .task.kind == null)'; }

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
