#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What a power cut under EMD leaves to md, and one under md to EMD: the three boots of a round. To be sourced by a test.

# shellcheck source=tests/guest/lib-imsm.sh
source /emd/tests/guest/lib-imsm.sh

# What a cut leaves behind when it comes between two writes, put in its place by hand: 4 KiB of other data in the redundancy (of a row whose redundancy is there, or of a mirror).
# Who resyncs that place makes it right; who does not leaves it as it is. So it tells which places were resynced. Writes are in flight too when power goes.

# A round is several volumes, a line for each: name, format, maker, first disk, disks, level (10f, 10o: 10 with far, offset copies; 1e: EMD makes it), kind. A name that ends in l is of a further volume on the disks of the one before. Kinds:
#   written     when power goes
#   left        left alone
#   regions     written, and there is a bitmap. It comes last: its regions are clean again when nobody wrote for some seconds
#   lost        written, and a member is lost
#   lost-left   left alone, and a member is lost
#   rebuilding  written, and what replaces a lost member is being rebuilt. It has two more disks, the first for EMD to rebuild to, the other for md
ROUNDS=()
CASES=() # of the round that runs

# Of each volume, by name: its disks. Those that are lost and hold nothing are not among them (those_left).
declare -A DISKS_OF LOST_DISK
# What says of its device how many writes it has seen, and how many it had before.
declare -A STAT_OF WRITES_OF

# What EMD makes of md's has a bitmap without being asked for it on members over 100 GiB only: these are plugged in for who needs them.
LARGE=(disk19 disk20)

# three_boots_each COUNT: of the first rounds. (A boot is found by the name of its function.)
three_boots_each() {
  local round
  for ((round = 0; round < $1; round++)); do
    eval "
      boot_$((3 * round + 1))() { emd_leaves_dirt $round; }
      boot_$((3 * round + 2))() { md_resyncs_and_leaves_dirt $round; }
      boot_$((3 * round + 3))() { emd_resyncs_what_it_must $round; }"
  done
}

emd_leaves_dirt() { # ROUND
  local device
  begins "$1"
  step "made by mdadm or by EMD, and filled"
  for device in $(disks); do blkdiscard -f -z "$device" 2>/dev/null; done
  md_load
  each md_makes
  md_stop
  emd_load
  each emd_makes
  each filled
  step "power is cut when EMD has just written to some, and writes to them"
  each wait_for 20 is_clean
  each loses_a_member
  emd_leaves
  each lost_is_blanked
  # What was written stays dirty.
  modprobe emd clean_ms=3600000 start_timeout_ms=500 checkpoint_ms=300
  each emd_rebuilds
  each emd_writes
  each in_flight
  each wait_for 20 is_in_flight
  host powercut
}

md_resyncs_and_leaves_dirt() { # ROUND
  begins "$1"
  step "mdadm reads what is dirty, md resyncs that"
  md_load
  each those_left
  each is_recorded
  each damaged
  dmesg -C
  each md_assembles
  each md_goes_on
  each wait_for 60 md_settled
  each resynced md 2
  expect_equal "md has begun as many resyncs as there are dirty volumes with something to resync" \
    "$(dmesg | sed -n 's/.*resync of RAID array \(md[0-9]*\).*/\1/p' | { grep -vxF "$(each lost_node)" || true; } | wc -l)" "$(each has_to_agree md | wc -l)"
  each md_begins_check
  each md_finds_all_right
  step "power is cut when md has just written to some, and writes to them"
  each md_rebuilds
  each md_writes
  each in_flight
  each wait_for 20 is_in_flight
  host powercut
}

emd_resyncs_what_it_must() { # ROUND
  begins "$1"
  step "EMD resyncs what md left dirty"
  each those_left
  each is_recorded
  each damaged
  emd_load start_timeout_ms=500 take_back=2
  each emd_refuses
  each emd_is_forced
  each wait_for 60 emd_is_done
  each emd_has_resynced
  each resynced emd 3
  each emd_finds_all_right
  emd_leaves
}

begins() {
  local name
  mapfile -t CASES <<<"${ROUNDS[$1]}"
  [[ ${CASES[*]} != *" ${LARGE[0]#disk} "* ]] || for name in "${LARGE[@]}"; do plug "$name"; done
}

# each FUNCTION [ARGUMENT...]: for every volume, with its parts in these variables; COPIES: where those of RAID 10 and 1E are; MINE: its disks.
each() {
  local line name format maker first count level kind COPIES MINE
  for line in "${CASES[@]}"; do
    read -r name format maker first count level kind <<<"$line"
    COPIES=
    case $level in
    10f) COPIES=far level=10 ;;
    10o) COPIES=offset level=10 ;;
    1e) COPIES=near ;;
    esac
    [[ -n ${DISKS_OF[$name]-} ]] || DISKS_OF[$name]=$(its_disks "$count" | tr '\n' ' ')
    read -ra MINE <<<"${DISKS_OF[$name]}"
    "$@"
  done
}

# its_disks COUNT [SKIPPED]: so many from its first one on.
its_disks() { disks $(seq -f "disk%g" $((first + ${2-0})) $((first + ${2-0} + $1 - 1))); }

# What is left of a mirror of two, or of one parity, has nothing to agree with. What mdadm starts by force it calls clean.
# has_to_agree md|emd: prints the name of a volume that has.
has_to_agree() { case $kind,$level,$1 in *left,* | rebuilding,* | lost,[145],* | lost,6,md) ;; *) echo "$name" ;; esac }

# md begins a resync for what is left of a mirror, and it ends at once. After a rebuild it may begin one.
lost_node() {
  local device
  [[ $kind =~ ^(lost|rebuilding)$ && -z $(has_to_agree md) ]] || return 0
  device=$(md_device "$name") && echo "${device#/dev/}"
}

# Parity may be wrong where it was written, and a lost member's data follows from it: so nobody starts that by himself. (Neither looks at whether a second parity is left.)
by_force() { [[ $kind =~ ^(lost|rebuilding)$ && $level == [456] ]]; }

is_written() { [[ $kind != *left ]]; }

own_set() { [[ $format == ddf || $format == imsm ]]; }

# It shares its disks with the one before.
another() { [[ $name == ?l ]]; }

# Who finds the lost disk again takes it back: md's 0.90 has no word for failed, and of the others md says that it was away. There it is emptied, but for some of md's.
is_blank() { [[ $kind == lost* && $format =~ ^(ddf|imsm|0.90)$ ]]; }

# chunk OPTION [UNIT]: nothing for mirrors. (Linux 7.3's md skips 64 KiB where a pair of a RAID 10 has one member left, raid10_sync_request: so of smaller chunks it leaves those of the next pair out too.)
chunk() {
  local kib=16
  [[ $level != 10 || $kind != lost* ]] || kib=64
  [[ $level == 1 ]] || echo "$1$kib${2-}"
}

# layout OPTION: of copies that are elsewhere than usual.
layout() { [[ -z $COPIES ]] || if [[ $1 == -p ]]; then echo "-p ${COPIES:0:1}2"; else echo "--layout $COPIES=2"; fi; }

# --- Made, filled, written

md_makes() {
  [[ $maker == mdadm ]] || return 0
  if own_set; then
    another || { CONTAINER=/dev/md/of-$name && expect "mdadm: a container" mdadm -CR "$CONTAINER" -e "$format" -n "$count" "${MINE[@]}"; }
    # shellcheck disable=SC2046 # options
    expect "$name: mdadm: $format, level $level" mdadm -CR "/dev/md/$name" -l "$level" -n "$count" -z 2M --assume-clean $(chunk -c) "$CONTAINER"
  else
    local bitmap=(--bitmap=none)
    [[ $kind != regions ]] || bitmap=(--bitmap=internal --bitmap-chunk=512K)
    # shellcheck disable=SC2046 # options
    expect "$name: mdadm: $format, level $level" mdadm -CR "/dev/md/$name" -e "$format" -l "$level" -n "$count" -z 2M --assume-clean $(chunk -c) $(layout -p) "${bitmap[@]}" "${MINE[@]}"
  fi
}

emd_makes() {
  [[ $maker == emd ]] || return 0
  local where=(-e "$format") size data=$((count - 1))
  case $level in
  6) data=$((count - 2)) ;;
  10 | 1e) data=$((count / 2)) ;;
  1) data=1 ;;
  esac
  size=(--size "$((2 * data))M")
  own_set || where=(-e "md-$format")
  another && where=(--set "$(emdadm show --json | jq -r --arg disk "${MINE[0]}" '.sets[] | select(any(.disks[]; .device == $disk)).id')")
  if [[ $kind == regions ]]; then
    # The whole disks, so that there are several regions. Large members have them unasked.
    size=(--regions yes)
    ((first < ${LARGE[0]#disk})) || size=()
  fi
  # 0.90 has no names.
  [[ $format == 0.90 ]] || where+=(-n "$name")
  # shellcheck disable=SC2046 # options
  expect "$name: EMD: $format, level $level" emdadm create "${where[@]}" -l "raid$level" "${size[@]}" --assume-clean $(chunk --chunk= K) $(layout --layout) "${MINE[@]}"
}

# The first 4 MiB, if there are as many.
filled() {
  local node
  wait_for 20 its_array
  node=$(its_array)
  expect "$name: written" /emd/bin/pattern write "$node" 1 0 "$(kib "$node")"
}

kib() {
  local kib=$(($(blockdev --getsz "$1") / 2))
  echo $((kib < 4096 ? kib : 4096))
}

loses_a_member() {
  [[ $kind == lost* || $kind == rebuilding ]] || return 0
  # It is one of all volumes of its set.
  if ! another; then
    LOST_DISK[$name]=$(its '.members[1].device')
    expect "$name loses a member" emdadm fail "$(its_array)" "${LOST_DISK[$name]}"
  fi
  wait_for 20 emd_is_done "$(lacking)"
}

lost_is_blanked() {
  local lost
  is_blank || [[ $kind == rebuilding ]] || return 0
  lost=${LOST_DISK[${name/%l/w}]-${LOST_DISK[$name]}}
  another || blkdiscard -f -z "$lost" 2>/dev/null
  DISKS_OF[$name]=${DISKS_OF[$name]/"$lost "/}
}

# In a later boot: which ones these are.
those_left() {
  if [[ $kind == rebuilding ]]; then
    mapfile -t MINE < <(its_disks $((count + 2)))
  else
    is_blank || return 0
  fi
  DISKS_OF[$name]=$({ emdadm examine --json "${MINE[@]}" || true; } | jq -r '[.sets[].disks[].device // empty] | unique | join(" ")')
}

is_clean() { [[ $(its .consistency) == clean ]]; }

# To a new disk, so slowly that power goes in the middle.
emd_rebuilds() {
  [[ $kind == rebuilding ]] || return 0
  local new
  new=$(its_disks 1 "$count")
  wait_for 20 its_array
  expect "$name: slow" emdadm limit --max 64K "$(its_array)"
  expect "$name: a new disk" emdadm add "$(its_array)" "$new"
  DISKS_OF[$name]+=" $new"
  wait_for 20 emd_rebuilds_more_than 0
}

emd_rebuilds_more_than() { its '.task | select(.kind == "rebuild").done_sectors' | grep -q '[1-9]'; }

md_goes_on() { [[ $kind != rebuilding ]] || mdadm --readwrite "$(md_device "$name")" 2>/dev/null || true; }

md_rebuilds() {
  [[ $kind == rebuilding ]] || return 0
  local folder node lost new
  folder=$(md_folder "$name")
  node=$(md_device "$name")
  new=$(its_disks 1 $((count + 1)))
  lost=$(grep -lx 1 "$folder"/dev-*/slot)
  lost=${lost%/slot}
  lost=/dev/${lost##*/dev-}
  expect "$name loses a member" mdadm -f "$node" "$lost"
  wait_for 20 md_is_synced "$name" 1
  echo 32 >"$folder/sync_speed_min"
  echo 64 >"$folder/sync_speed_max"
  if own_set; then node=/dev/$(container_of); fi
  expect "$name: a new disk" mdadm --add "$node" "$new"
  # md starts it when the array is written to.
  /emd/bin/pattern write "$(md_device "$name")" 1 64 4
  wait_for 20 md_is_at_it
  # (While it is in the container mdadm reads it.)
  blkdiscard -f -z "$lost" 2>/dev/null
}

md_is_at_it() { [[ $(md_sysfs "$name" sync_action) == recover && $(md_sysfs "$name" sync_completed) =~ ^[1-9] ]]; }

container_of() {
  local container
  container=$(md_sysfs "$name" metadata_version)
  container=${container#external:/}
  echo "${container%%/*}"
}

emd_writes() {
  wait_for 20 its_array
  is_written || return 0
  expect "$name: written" /emd/bin/pattern write "$(its_array)" 2 0 64
  expect_equal "$name: is" "$(its .consistency)" dirty
}

md_writes() {
  is_written || return 0
  local folder
  folder=/sys/block/$(basename "$(md_device "$name")")/md
  # What is written stays dirty.
  echo 3600 >"$folder/safe_mode_delay"
  [[ $kind != regions ]] || echo 3600 >"$folder/bitmap/time_base"
  expect "$name: written" /emd/bin/pattern write "$(md_device "$name")" 3 0 64
}

# in_flight: something writes to it until power goes, to places that share no stripe with what is looked at later. It gives way to the shell.
in_flight() {
  local node
  is_written || return 0
  node=$(its_node)
  STAT_OF[$name]=/sys/block/${node#/dev/}/stat
  WRITES_OF[$name]=$(writes)
  nice -n 19 /emd/bin/pattern load "$node" /run/never 192 128 &
}

is_in_flight() { ! is_written || (($(writes) > WRITES_OF[$name])); }

# writes: how many it has seen.
writes() {
  local stat
  read -ra stat <"${STAT_OF[$name]}"
  echo "${stat[4]}"
}

# its_node: its device, md's or EMD's.
its_node() { md_device "$name" || its_array; }

# --- EMD's view

# What is ours of `show` or `examine`. (Names of md's own arrays have the machine in front, or there is none.)
# shellcheck disable=SC2016 # of jq
ITS='($mine | split(" ")) as $disks | [.sets[].volumes[] | select((.name == $name or $md) and any(.members[]; .device | IN($disks[])))][0]'

picked() { jq -r --arg name "$name" --arg mine "${MINE[*]}" --argjson md "$(own_set && echo false || echo true)" "$ITS | $1"; }

# its FILTER: a field of the volume, as EMD has it.
its() { emdadm show --json | picked "$1"; }

# its_array: its device. Fails if it is not started.
its_array() {
  local device
  device=$(its '.device // empty')
  [[ -b $device ]] && echo "$device"
}

# its_record FILTER: a field, as it is on disks that nobody has started.
its_record() { emdadm examine --json "${MINE[@]}" | picked "$1"; }

emd_refuses() {
  by_force || return 0
  wait_for 20 is_refused
  say "ok: $name: $(its .reason)"
}

is_refused() { [[ $(its .reason) == "degraded, and writes were in flight"* ]]; }

# It is for all volumes of a set.
emd_is_forced() { ! by_force || its_array >/dev/null || expect "$name: started by force" emdadm scan --force "${MINE[@]}"; }

# What a volume is that lacks a member.
lacking() { [[ $level == 6 ]] && echo partially-optimal || echo degraded; }

# emd_is_done [STATE]
emd_is_done() {
  local state=${1:-optimal}
  [[ $# != 0 ]] || ! is_blank || state=$(lacking)
  [[ $(its '[.state, .consistency, .task.kind // "-"] | join(" ")') == "$state clean -" ]]
}

emd_has_resynced() {
  local array resync="task-started resync, task-done" wanted='' did
  array=$(its_array)
  all_events /run/all-events
  if [[ $kind == rebuilding ]]; then
    # One rebuild, and at most one resync, before or behind it.
    did=$(emd_has_done_of "$array")
    say "$name: EMD: $did"
    did=${did/"$resync"/}
    did=${did#, }
    expect_equal "$name: what EMD did, but for a resync" "${did%, }" "task-started rebuild, task-done"
    return
  fi
  if is_blank; then
    [[ -z $(has_to_agree emd) ]] || wanted=$resync
  else
    # Of those that lack a member md says that it was removed, not that it failed: so the disk is taken back.
    case $kind in
    lost) wanted="task-started rebuild, task-done, $resync" ;;
    written | regions) wanted=$resync ;;
    esac
  fi
  expect_equal "$name: what EMD did" "$(emd_has_done_of "$array")" "$wanted"
}

# emd_has_done_of DEVICE: its tasks that began and ended, as all_events has them.
# shellcheck disable=SC2016 # of jq
emd_has_done_of() {
  jq -rs --arg a "$1" '[.[] | select((.array // "") == $a and (.kind | startswith("task-started") or startswith("task-done"))) | .kind + if .word then " " + .word else "" end] | join(", ")' /run/all-events
}

emd_finds_all_right() {
  [[ $kind == written || $kind == rebuilding ]] || return 0
  expect "$name: EMD checks it" emdadm check --wait "$(its_array)"
  expect_equal "$name: what does not agree" "$(its '.mismatches | length')" 0
}

# --- On disk

# is_recorded: EMD's reader and mdadm call just those dirty that were written.
is_recorded() {
  local wanted=dirty
  is_written || wanted=clean
  expect_equal "$name: emdadm examine, mdadm -E" "$(its_record .consistency) $(mdadm_word)" "$wanted $wanted"
  [[ $kind != regions ]] || expect_equal "$name: mdadm -X: dirty regions" "$(mdadm -X "${MINE[0]}" | sed -n 's/.*chunks), \([0-9]*\) dirty.*/\1/p')" 1
}

mdadm_word() {
  mdadm -E "${MINE[0]}" | awk -v name="$name" -v format="$format" '
    { text = $0; sub(/^[^:]*: */, "", text); sub(/ +$/, "", text) }
    format == "imsm" && /^\[.*\]:$/ { mine = $0 == "[" name "]:" }
    format == "imsm" && mine && / Dirty State :/ { print text }
    format == "ddf" && / state\[/ && !/ init state\[/ { state = text }
    format == "ddf" && / Name\[/ && text == name { print state ~ /Not Consistent/ ? "dirty" : "clean" }
    format ~ /^[01]/ && /^ *State :/ { print text == "active" ? "dirty" : text }'
}

# spots_of ROWS CHUNK: first sector on the member of redundancy near the start, and near the end. Of far copies the second ones are in the members' second half, of offset ones in each second row.
spots_of() {
  local rows=$1 chunk=$2
  case $COPIES in
  far)
    ((rows -= rows % 2)) || true
    echo "$((rows * chunk / 2)) $(((rows - 1) * chunk))"
    ;;
  offset) echo "$chunk $(((rows - 1 - rows % 2) * chunk))" ;;
  *) echo "0 $(((rows - 1 - (rows - 1) % count) * chunk))" ;;
  esac
}

# What has redundancy and no data in row 0 and each count-th one after it: in each level and layout here the last member. Data that is lost follows from the first of two parities, so then it is the second
# one: before the first in DDF's layout, behind it in md's. What is left of a pair that lost a member is data: then it is another pair.
# shellcheck disable=SC2016 # of jq
SPOT='([.members[].state == "in-sync"] | index(false)) as $lost | (.members | length - 1) as $last
  | if $lost == null then $last elif .level == "raid6" then (if .layout == "left-symmetric" then 0 else $last - 1 end) as $q | if $lost == $q then $last else $q end elif $lost > 1 then 1 else $last end'

# damaged: other data is put into the redundancy, near the start (where it was written) and near the end. Where that is, is in /run/spots.NAME.
damaged() {
  local device offset rows chunk near far
  read -r device offset chunk rows < <(its_record "($SPOT) as \$at | \"\(.members[\$at] | \"\(.device) \(.offset_sectors)\") \(if .level == \"raid1\" then 8 else .chunk_sectors end) \(.member_sectors)\"")
  read -r near far < <(spots_of $((rows / chunk)) "$chunk")
  echo "$device $((offset + near)) $((offset + far))" >"/run/spots.$name"
  known 9 4096 >/run/other
  # What is left of these has no redundancy.
  [[ $kind != rebuilding ]] || return 0
  [[ $kind != lost* || $level == 6 || $level == 10 ]] || return 0
  ! is_written || put 0
  put 1
}

# spot NUMBER: where that is, in DEVICE and SECTOR.
spot() {
  local near far at
  read -r DEVICE near far <"/run/spots.$name"
  at=("$near" "$far")
  SECTOR=${at[$1]}
}

# put NUMBER: writes it.
put() {
  spot "$1"
  dd if=/run/other of="$DEVICE" bs=512 seek="$SECTOR" oflag=direct conv=notrunc status=none
}

# untouched NUMBER: nobody has made it right.
untouched() { spot "$1" && holds "$DEVICE" "$SECTOR" /run/other; }

# resynced md|emd SEED: what must be was resynced, and nothing else; all that was written is there.
resynced() {
  local node
  case $kind,$level in
  left,* | lost-left,6 | lost-left,10) expect "$name: it was not resynced" untouched 1 ;;
  regions,*)
    expect_failure "$name: the region that was written was resynced" untouched 0
    expect "$name: no other region was" untouched 1
    ;;
  *)
    if [[ -n $(has_to_agree "$1") ]]; then
      expect_failure "$name: it was resynced at its start" untouched 0
      expect_failure "$name: and to its end" untouched 1
    fi
    ;;
  esac
  node=$(its_node)
  ! is_written || expect "$name: what was written last" /emd/bin/pattern verify "$node" "$2" 0 64
  # Not what was being written, and not the end, where there was other data.
  expect "$name: the rest" /emd/bin/pattern verify "$node" 1 64 64
  expect "$name: and behind what was being written" /emd/bin/pattern verify "$node" 1 384 $(($(kib "$node") * 7 / 8 - 384))
}

# --- md

md_assembles() {
  local force=()
  if own_set; then
    another || md_tells "${MINE[@]}"
    # Of a volume that is being rebuilt mdadm does not look at Intel's mark.
    ! by_force || [[ $format == imsm && $kind == rebuilding ]] || md_is_forced
    return
  fi
  if by_force; then
    expect_failure "$name: md does not start it" mdadm -A --run "/dev/md/$name" "${MINE[@]}"
    md_lets_go_of "${MINE[0]}"
    force=(--force)
  fi
  mdadm -A --run "${force[@]}" "/dev/md/$name" "${MINE[@]}" >/run/mdadm.out 2>&1 || fail "mdadm -A: $(</run/mdadm.out)"
}

# md_lets_go_of DISK: of an array that could not be started.
md_lets_go_of() {
  local holder
  for holder in "/sys/block/${1#/dev/}/holders"/md*; do
    [[ ! -e $holder ]] || mdadm -S "/dev/${holder##*/}" 2>/dev/null
  done
}

# A volume of a container that mdadm has put together but does not start. (`mdadm -I` knows no force; `mdadm -A` takes the first volume that is not put together yet.)
md_is_forced() {
  local container
  expect_equal "$name: md does not start it" "$(md_sysfs "$name" array_state)" inactive
  container=$(container_of)
  mdadm -S "$(md_device "$name")" 2>/dev/null
  mdadm -A --run --force "/dev/md/$name" "/dev/$container" >/run/mdadm.out 2>&1 || fail "mdadm -A --force: $(</run/mdadm.out)"
}

# md_tells DISK...: as md_assemble does, beside others.
md_tells() {
  local device
  for device; do mdadm -I "$device" || true; done >/run/mdadm.out 2>&1
  for device in $(md_nodes inactive); do mdadm -IR "/dev/$device" >>/run/mdadm.out 2>&1 || true; done
}

md_settled() { md_gets_synced "$name" "$([[ $kind == lost* ]] && echo 1 || echo 0)"; }

md_begins_check() { [[ $kind != written ]] || echo check >"$(md_folder "$name")/sync_action"; }

md_finds_all_right() {
  [[ $kind == written ]] || return 0
  wait_for 60 md_has_checked "$(md_folder "$name")"
  expect_equal "$name: md finds no mismatch" "$(md_sysfs "$name" mismatch_cnt)" 0
}
