# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# md's levels, RAID 5, 6 and 10 in each of their layouts, RAID 10 also with three copies: what mdadm makes EMD runs, and what EMD makes md runs;
# healthy, with a member lost in either, and rebuilt by either: same bytes (in the whole run fio verifies what it writes through EMD), same states, nothing
# synced that need not be, P and Q right. And EMD's linear arrays, which mdadm reads: this kernel's md does not have that level.
# disks: 1x4M virtio
# cpus: 1
# emd: manual
# timeout: 400

# shellcheck source=tests/guest/lib-md.sh
source /emd/tests/guest/lib-md.sh

# All arrays of a round run at once, /dev/md0 and so on in this order, each on RAM disks of its own: DISKS_OF, and OTHER, which is free.
NAMES=(r1 r4 r5 r6 near far offset)
declare -A LEVEL=([r1]=1 [r4]=4 [r5]=5 [r6]=6 [near]=10 [far]=10 [offset]=10)
declare -A COUNT=([r1]=2 [r4]=3 [r5]=3 [r6]=4 [near]=3 [far]=4 [offset]=3)
declare -A CHUNK=([r4]=16 [r5]=64 [r6]=32 [near]=64 [far]=16 [offset]=32)
declare -A LAYOUT DISKS_OF OTHER SUMS DETAILS
# What EMD has of each: its device, and what it is as mdadm --detail would say it (emd_look).
declare -A ARRAYS EMD_DETAILS
EXAMINED=

# Every day each level and each layout of RAID 10 once, with two of the superblocks; another layout of RAID 6 for each.
DAILY="1.2:r4,r6,far:left-symmetric:mdadm:md:emd 0.90:r5,r6,near,offset:parity-first-6,r5=right-symmetric:emd:emd:md"
# A round each: version, arrays, layout of RAID 6 and others that are not the usual ones (laid_out), who makes them, under whom a member is lost, who rebuilds it.
WHOLE="1.2:*:left-symmetric:mdadm:md:emd
  1.1:*:right-asymmetric,r5=right-symmetric,near=3:mdadm:md:emd
  1.0:*:left-asymmetric-6,r5=parity-first:mdadm:md:emd
  0.90:*:ddf-N-restart,r5=parity-last:mdadm:md:emd
  0.90:*:parity-first-6,r5=right-symmetric:emd:emd:md
  1.0:*:left-asymmetric,r5=parity-first,near=3:emd:emd:md
  1.1:*:right-symmetric-6,r5=parity-last:emd:emd:md
  1.2:*:ddf-zero-restart,r5=left-asymmetric,far=3,offset=3:emd:emd:md
  1.2:*:right-symmetric,r5=right-asymmetric:emd:emd:emd
  1.1:*:left-symmetric-6,r5=parity-first:emd:emd:emd
  1.0:*:ddf-N-continue,r5=right-symmetric:emd:emd:emd
  0.90:*:right-asymmetric-6,r5=parity-last:emd:emd:emd
  1.2:*:parity-first,r5=left-asymmetric,far=3,offset=3:mdadm:md:md
  1.1:r1,r5,r6,far:left-symmetric:mdadm:md:md 1.0:r1,r4,near,offset:left-symmetric:mdadm:md:md
  0.90:*:parity-last,r5=right-asymmetric:mdadm:emd:md"

boot_1() {
  local round rounds=$DAILY ram=24 version names layouts maker loser rebuilder all=("${NAMES[@]}")
  ! whole || { rounds=$WHOLE && ram=32; }
  modprobe brd rd_nr=$ram rd_size=3072
  md_load
  set -f
  for round in $rounds; do
    set +f
    IFS=: read -r version names layouts maker loser rebuilder <<<"$round"
    NAMES=("${all[@]}")
    [[ $names == "*" ]] || IFS=, read -ra NAMES <<<"$names"
    laid_out "$layouts"
    "made_by_$maker" "$version"
    "lost_under_$loser" "$version"
    "rebuilt_by_$rebuilder" "$version"
  done
}

# laid_out LAYOUTS: those of a round, with commas between: RAID 6's, r5=RAID 5's, RAID 10's.
laid_out() {
  local layout
  LAYOUT=([r4]=parity-last [r5]=left-symmetric [near]=near=2 [far]=far=2 [offset]=offset=2)
  for layout in ${1//,/ }; do
    case $layout in
    r5=*) LAYOUT[r5]=${layout#r5=} ;;
    *=*) LAYOUT[${layout%=*}]=$layout ;;
    *) LAYOUT[r6]=$layout ;;
    esac
  done
  # Copies go round.
  COUNT[near]=3
  [[ ${LAYOUT[near]} != near=3 ]] || COUNT[near]=4
  SHAPES=$1
}

# --- Steps. But for the last of a round, each ends with all arrays run by md; SUMS is what they hold.

made_by_mdadm() { # VERSION
  step "$1, made by mdadm: ${NAMES[*]} ($SHAPES); written to by EMD, and by md again"
  local name
  blank_disks
  for name in "${NAMES[@]}"; do
    # shellcheck disable=SC2046,SC2086 # lists
    mdadm -CR "$(md_of "$name")" -e "$1" -l "${LEVEL[$name]}" ${CHUNK[$name]:+-c ${CHUNK[$name]}} $(md_layout "$name") -n "${COUNT[$name]}" \
      ${DISKS_OF[$name]} >/run/mdadm.out 2>&1 || fail "mdadm: $name: $(</run/mdadm.out)"
  done
  md_all_synced 0
  md_writes 1
  md_lets_go
  emd_has optimal
  emd_writes_all 2 fio
  emd_lets_go
  md_has 0
  ! whole || there_and_back 3
}

made_by_emd() { # VERSION
  step "$1, made by EMD: linear, ${NAMES[*]} ($SHAPES); written to by md, and by EMD again"
  local name linear
  blank_disks
  emd_load
  for name in "${NAMES[@]}"; do
    # shellcheck disable=SC2086 # lists
    expect "$name" emdadm create -e "md-$1" -l "raid${LEVEL[$name]}" ${LAYOUT[$name]:+--layout ${LAYOUT[$name]}} ${CHUNK[$name]:+--chunk ${CHUNK[$name]}K} ${DISKS_OF[$name]}
  done
  expect "linear" emdadm create -e "md-$1" -l concat --chunk 64K "${LINEAR[@]}"
  linear=$(emd_of "${LINEAR[0]}")
  ! whole || expect "linear: fio verifies" fio_verified "/dev/$linear"
  SUMS[linear]=$(fill "/dev/$linear" 4)
  wait_for 40 emd_all_are optimal
  emd_writes_all 1 fio
  emd_lets_go
  expect_equal "mdadm reads the linear array" "$(mdadm -E "${LINEAR[1]}" | sed -n 's/^ *Raid Level : \|^ *Raid Devices : \|^ *State : //p' | xargs)" "linear 2 clean"
  md_has 0
  md_writes 2
  md_lets_go
  emd_has optimal
  wait_for 20 emd_runs_with "${LINEAR[0]}"
  linear=$(emd_of "${LINEAR[0]}")
  expect_equal "linear: the bytes" "$(sum "/dev/$linear")" "${SUMS[linear]}"
  emd_writes_all 3
  emd_lets_go
  md_has 0
  ! whole || there_and_back 4
}

# there_and_back SEED: md writes, EMD has it and writes, md has it.
there_and_back() {
  md_writes "$1"
  md_lets_go
  emd_has optimal
  emd_writes_all $(($1 + 1))
  emd_lets_go
  md_has 0
}

lost_under_md() { # VERSION
  step "$1: a member of each is lost in md"
  local name
  for name in "${NAMES[@]}"; do mdadm -f "$(md_of "$name")" "$(nth "$name" 1)" 2>/dev/null; done
  md_all_synced 1
  md_writes 5
  md_lets_go
  lost_is_taken_away
  emd_has degraded start_timeout_ms=500
  emd_writes_all 6 fio
  emd_lets_go
  md_has 1
}

lost_under_emd() { # VERSION
  step "$1: a member of each is lost in EMD"
  local name
  md_lets_go
  emd_has optimal
  for name in "${NAMES[@]}"; do expect "$name: a member is failed" emdadm fail "${ARRAYS[$name]}" "$(nth "$name" 1)"; done
  wait_for 20 emd_all_are degraded
  emd_writes_all 5
  emd_lets_go
  lost_is_taken_away
  md_has 1
}

rebuilt_by_emd() { # VERSION
  step "$1: and rebuilt by EMD"
  local name
  md_writes 7
  md_lets_go
  emd_has degraded start_timeout_ms=500
  for name in "${NAMES[@]}"; do expect "$name: a new disk" emdadm add "${ARRAYS[$name]}" "${OTHER[$name]}"; done
  wait_for 60 emd_all_are optimal
  new_is_member
  emd_writes_all 8
  emd_lets_go
  md_has 0
  md_writes 9
  md_lets_go
  emd_has optimal
  emd_lets_go
}

rebuilt_by_md() { # VERSION
  step "$1: and rebuilt by md"
  local name
  for name in "${NAMES[@]}"; do mdadm --add "$(md_of "$name")" "${OTHER[$name]}" 2>/dev/null; done
  md_all_synced 0
  new_is_member
  md_writes 6
  md_lets_go
  emd_has optimal
  emd_lets_go
}

# --- Disks

blank_disks() {
  local name first=0 last node
  md_stop
  for node in /dev/ram*; do blkdiscard -f -z "$node" 2>/dev/null; done
  for name in "${NAMES[@]}"; do
    last=$((first + COUNT[$name] - 1))
    DISKS_OF[$name]=$(printf '/dev/ram%d ' $(seq "$first" "$last"))
    OTHER[$name]=/dev/ram$((last + 1))
    first=$((last + 2))
  done
  LINEAR=("/dev/ram$first" "/dev/ram$((first + 1))")
}

# nth NAME SLOT: a disk of it.
nth() {
  local disks
  read -ra disks <<<"${DISKS_OF[$1]}"
  echo "${disks[$2]}"
}

# The second disk of each, which is lost, must not come back: EMD would take it.
lost_is_taken_away() {
  local name lost
  for name in "${NAMES[@]}"; do
    lost=$(nth "$name" 1)
    blkdiscard -f -z "$lost"
    DISKS_OF[$name]=${DISKS_OF[$name]/"$lost "/}
  done
}

new_is_member() {
  local name
  for name in "${NAMES[@]}"; do DISKS_OF[$name]+="${OTHER[$name]} "; done
}

# --- md

md_of() {
  local number
  for number in "${!NAMES[@]}"; do [[ ${NAMES[number]} != "$1" ]] || echo "/dev/md$number"; done
}

md_layout() {
  case $1 in
  r5 | r6) echo "-p ${LAYOUT[$1]}" ;;
  near | far | offset) echo "-p ${LAYOUT[$1]:0:1}${LAYOUT[$1]#*=}" ;;
  esac
}

# md_all_synced LOST: once md has synced what it has to.
md_all_synced() {
  local name
  for name in "${NAMES[@]}"; do wait_for 60 md_one_is_synced "$(md_of "$name")" "$1"; done
}

md_one_is_synced() {
  local folder=/sys/block/${1#/dev/}/md action start degraded
  read -r action <"$folder/sync_action"
  read -r start <"$folder/resync_start"
  read -r degraded <"$folder/degraded"
  [[ $action == idle && $start == none && $degraded == "$2" ]]
}

md_writes() { # SEED
  local name
  for name in "${NAMES[@]}"; do SUMS[$name]=$(fill "$(md_of "$name")" "$1"); done
}

md_lets_go() {
  local name here=() more
  mdadm --wait-clean --scan >/dev/null 2>&1 || true
  for name in "${NAMES[@]}"; do
    DETAILS[$name]=$(md_detail "$(md_of "$name")")
    mapfile -t more < <(md_disks "$(basename "$(md_of "$name")")")
    here+=("${more[@]}")
    mdadm -S "$(md_of "$name")" 2>/dev/null
  done
  EXAMINED=$(md_examined "${here[@]}")
}

# md_has LOST: md runs them all from the start, with EMD's bytes, and describes them as EMD did.
md_has() {
  local name folder
  dmesg -C
  for name in "${NAMES[@]}"; do
    # shellcheck disable=SC2086 # a list
    mdadm -A --run "$(md_of "$name")" ${DISKS_OF[$name]} >/run/mdadm.out 2>&1 || fail "mdadm -A: $name: $(</run/mdadm.out)"
    # It looks whether there is something to sync after the array is there; whether there was, the kernel's log tells below.
    wait_for 5 md_one_is_synced "$(md_of "$name")" "$1"
    expect_equal "$name: mdadm --detail is ${DETAILS[$name]}" "$(md_detail "$(md_of "$name")")" "${DETAILS[$name]}"
    expect_equal "$name: the bytes" "$(sum "$(md_of "$name")")" "${SUMS[$name]}"
  done
  expect_no_md_sync
  [[ $1 == 0 ]] || return 0
  for name in "${NAMES[@]}"; do echo check >"/sys/block/$(basename "$(md_of "$name")")/md/sync_action"; done
  for name in "${NAMES[@]}"; do
    folder=/sys/block/$(basename "$(md_of "$name")")/md
    wait_for 60 md_has_checked "$folder"
    expect_equal "$name: md finds no mismatch" "$(<"$folder/mismatch_cnt")" 0
  done
}

# --- EMD

# emd_of DISK: the array of which it is a member.
emd_of() {
  emdadm show --json | jq -re --arg disk "$1" '.sets[].volumes[] | select(any(.members[]; .device == $disk)).device | ltrimstr("/dev/")'
}

# emd_runs_with DISK: for wait_for: that is started.
emd_runs_with() {
  local array
  array=$(emd_of "$1") && [[ -b /dev/$array ]]
}

# emd_look: fills ARRAYS and EMD_DETAILS.
emd_look() {
  local name device members detail
  ARRAYS=() EMD_DETAILS=()
  while IFS=$'\t' read -r device members detail; do
    for name in "${NAMES[@]}"; do
      [[ " $members " != *" ${DISKS_OF[$name]%% *} "* ]] || { ARRAYS[$name]=$device && EMD_DETAILS[$name]=$detail; }
    done
  done < <(emdadm show --json | jq -r ".sets[].volumes[] | . as \$volume | [.device, ([.members[].device // \"-\"] | join(\" \")), ($EMD_DETAIL)] | @tsv")
}

# emd_all_are STATE: all arrays are started, so and clean, and nothing runs on them. (A RAID 6 that lacks one is not "degraded" yet.)
emd_all_are() {
  emdadm show --json | jq -e --arg state "$1" --argjson count "${#NAMES[@]}" '
    [.sets[].volumes[] | select(.level != "concat")] | length == $count
    and all((.device // "") != "" and (if .state == "partially-optimal" then "degraded" else .state end) == $state and .consistency == "clean" and .task.kind == null)'
}

# emd_has STATE [PARAMETER]: EMD finds them all by itself, with the bytes that md wrote and as mdadm described them, and has nothing to do.
emd_has() {
  local name
  emd_load "${@:2}"
  wait_for 30 emd_all_are "$1"
  emd_look
  for name in "${NAMES[@]}"; do
    expect_equal "$name: EMD says ${DETAILS[$name]}" "${EMD_DETAILS[$name]}" "${DETAILS[$name]}"
    expect_equal "$name: the bytes" "$(sum "${ARRAYS[$name]}")" "${SUMS[$name]}"
  done
  expect_equal "EMD has the states that mdadm --examine read" "$(emd_examined)" "$EXAMINED"
  expect_no_emd_task
}

emd_writes_all() { # SEED [fio]
  local name array
  emd_look
  for name in "${NAMES[@]}"; do
    array=${ARRAYS[$name]}
    # Every day without fio, which takes most of the time to start.
    [[ -z ${2:-} ]] || ! whole || expect "$name: fio writes and verifies" fio_verified "$array"
    SUMS[$name]=$(fill "$array" "$1")
    expect "$name: what was written is there" /emd/bin/pattern verify "$array" "$1"
  done
}

emd_lets_go() {
  local name examined
  wait_for 30 emd_all_clean
  emd_look
  for name in "${NAMES[@]}"; do DETAILS[$name]=${EMD_DETAILS[$name]}; done
  examined=$(emd_examined)
  emdadm stop --all >/dev/null
  rmmod emd
  expect_examined "$examined"
}

emd_all_clean() { emdadm show --json | jq -e '[.sets[].volumes[].consistency] | all(. == "clean")'; }
