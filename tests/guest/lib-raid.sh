#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What tests of arrays share: EMD's and mdadm's view of a set, and known data. To be sourced by a test:
#   source /emd/tests/guest/lib-raid.sh

export MDADM_NO_UDEV=1
mkdir -p /dev/md /run/mdadm

# --- EMD's view. ARRAY is emd0 ...; a volume may also be named by its name.

# Answers what is asked often, without starting a program each time (programs/arrays.c). A test may come by here twice, from two libraries.
if [[ ! -v ARRAYS_ASK ]]; then
  coproc ARRAYS { exec /emd/bin/arrays; }
  # These are open in subshells too.
  exec {ARRAYS_ASK}>&"${ARRAYS[1]}" {ARRAYS_ANSWER}<&"${ARRAYS[0]}"
fi

# ask ARRAY WORD [SLOT]: the answer is in REPLY ("null": there is none). Fails without the module.
# Not for what runs in the background: two that read the answers at once get half of one each (`make shellcheck` looks for it).
ask() {
  printf '%s\n' "$*" >&"$ARRAYS_ASK"
  read -r REPLY <&"$ARRAYS_ANSWER" || fail "nothing answers"
  [[ $REPLY == =* ]] || return 1
  REPLY=${REPLY#=}
}

# What `ask` knows, of what is asked of emd_get: the word, and what stands for "null".
declare -A ASKED=(
  [.state]="state null" [.consistency]="consistency null" [.device]="device null" [".device // empty"]="device"
  [".mismatches | length"]="mismatches null" [".task.kind // \"\""]="task" [".task.state // \"none\""]="task-state none" [".task.state // \"-\""]="task-state -"
  [.task.done_sectors]="task-done null" [".task.done_sectors // 0"]="task-done 0" ['[.members[].state] | join(" ")']="members null"
)

# emd_get ARRAY FILTER: a field of an array's volume, as `jq` finds it (.state, .members[0].state).
emd_get() {
  local word none
  if [[ -n ${ASKED[$2]-} ]]; then
    read -r word none <<<"${ASKED[$2]}"
    ask "$1" "$word" || return
    [[ $REPLY != null ]] || REPLY=$none
    [[ -z $REPLY && $2 == *empty ]] || printf '%s\n' "$REPLY"
  elif [[ $2 =~ ^\.members\[([0-9]+)\]\.(state|device|offset)(_sectors)?$ ]]; then
    ask "$1" "member-${BASH_REMATCH[2]}" "${BASH_REMATCH[1]}" && printf '%s\n' "$REPLY"
  else
    emdadm show --json | jq -r --arg a "$1" \
      "[.sets[].volumes[] | select(.device == \"/dev/\" + \$a or .name == \$a)][0] | $2"
  fi
}

emd_state() { ask "$1" state && echo "$REPLY"; }

# The states of members in order of slots, in one line.
emd_members() { ask "$1" members && echo "$REPLY"; }

# The device of the member in a slot.
emd_member_device() { ask "$1" member-device "$2" && echo "$REPLY"; }

# emd_is ARRAY STATE: for wait_for.
emd_is() { ask "$1" state && [[ $REPLY == "$2" ]]; }

# emd_runs ARRAY: it is there, and what `emd_state` says of it is no longer that it is about to start.
emd_runs() { [[ -b /dev/$1 ]] && ask "$1" state && [[ $REPLY =~ ^(optimal|partially-optimal|degraded|failed)$ ]]; }

# emd_has ARRAY DEVICE: the disk is a member.
emd_has() {
  local slot states
  ask "$1" members
  read -ra states <<<"$REPLY"
  for slot in "${!states[@]}"; do
    ask "$1" member-device "$slot" || return
    [[ $REPLY != "$2" ]] || return 0
  done
  return 1
}

# emd_writes ARRAY: users' writes that are done.
emd_writes() {
  local stat
  read -ra stat <"/sys/block/$1/stat" && echo "${stat[4]}"
}

# emd_wrote ARRAY COUNT: as many.
emd_wrote() {
  local stat
  read -ra stat <"/sys/block/$1/stat" && ((stat[4] >= $2))
}

emd_consistency() { ask "$1" consistency && echo "$REPLY"; }

emd_is_clean() { ask "$1" consistency && [[ $REPLY == clean ]]; }

emd_is_dirty() { ask "$1" consistency && [[ $REPLY == dirty ]]; }

# emd_task ARRAY: what runs on it (rebuild, resync), or nothing.
emd_task() { ask "$1" task && echo "${REPLY/#null/}"; }

emd_has_task() { ask "$1" task && [[ $REPLY == "$2" ]]; }

# emd_task_is ARRAY STATE: running, paused, waiting, null (there is none).
emd_task_is() { ask "$1" task-state && [[ $REPLY == "$2" ]]; }

# emd_done ARRAY: the sectors that its task has done.
emd_done() { ask "$1" task-done && echo "${REPLY/#null/0}"; }

# emd_has_done ARRAY SECTORS: as many at least.
emd_has_done() { ask "$1" task-done && ((${REPLY/#null/0} >= $2)); }

# emd_settled ARRAY: optimal, clean, nothing running.
emd_settled() { emd_is "$1" optimal && emd_is_clean "$1" && emd_has_task "$1" null; }

# all_events FILE: all events since the module was loaded, one JSON object a line. Ends the test if the kernel keeps the first ones no more: what is not told then may have happened all the same.
all_events() {
  local first
  emdadm monitor --from 0 --once --json >"$1" || fail "no events"
  read -r first <"$1" || fail "no events"
  [[ $first =~ \"seq\":\ ?1, ]] || fail "the first events are kept no more: $first"
}

expect_no_emd_task() {
  all_events /run/all-events
  expect_equal "EMD has started no task since it was loaded" \
    "$(jq -rs '[.[] | select(.kind == "task-started") | "\(.array) \(.word)"] | join(", ")' /run/all-events)" ""
}

# What a $volume is, of `emdadm show`, in the words of md_detail.
# shellcheck disable=SC2016 # of jq
EMD_DETAIL='
  ({raid1e: "raid10", concat: "linear"}[$volume.level] // $volume.level) as $level
  | [$level, ($volume.members | length | tostring) + " members",
     (if $level | IN("raid5", "raid6", "raid10") then $volume.layout else empty end),
     (if $level == "raid1" then empty else "\($volume.chunk_sectors / 2)K" end),
     "\($volume.size_sectors / 2 | floor) KiB",
     (if any($volume.members[]; .state != "in-sync") then "clean, degraded" else "clean" end)] | join(", ")'

emd_detail() { emd_get "$1" ". as \$volume | $EMD_DETAIL"; }

# emd_node NAME: the array of the volume of that name, as emdN. Fails if it is not started.
emd_node() { ask "$1" device && [[ -b $REPLY ]] && echo "${REPLY#/dev/}"; }

# emd_load [PARAMETERS]: loads the module and waits until it has found what is there to be found. Arrays are clean sooner than by default.
emd_load() { modprobe emd clean_ms=300 "$@"; }

# Unloads and loads the module: everything is read from the disks again.
emd_reload() {
  emdadm stop --all >/dev/null || fail "arrays cannot be stopped"
  rmmod emd || fail "emd cannot be unloaded"
  emd_load "$@"
}

# --- Data that is known

# fill DEVICE [SEED]: the whole device, with bytes that follow from the seed; prints the checksum that it should have. (`pattern write`
# does it in pieces of all sizes.)
fill() { /emd/bin/pattern fill "$1" "${2:-1}"; }

# known SEED COUNT: so many bytes. No two places have the same, nor have two seeds anything in common.
known() { /emd/bin/pattern known "$1" "$2"; }

# sum DEVICE [FIRST_KIB KIB]: the checksum of what it holds, read from the disks.
sum() { /emd/bin/pattern sum "$@"; }

# fio_verified DEVICE: fio writes all of it in random order, in pieces of 4 to 64 KiB, and finds it again.
fio_verified() {
  fio --name=w --filename="$1" --cpus_allowed="$CPUS" --allow_file_create=0 --direct=1 --rw=randwrite --bsrange=4k-64k --bs_unaligned=0 --blockalign=4k --ioengine=libaio --iodepth=8 --size=100% \
    --verify=crc32c --verify_fatal=1 --do_verify=1
}

# holds DEVICE SECTOR FILE: it has there just what the file has, read from the disk. What cannot be read ends the test: else it would pass for other data.
holds() {
  local bytes
  bytes=$(stat -c %s "$3")
  ((bytes > 0)) || fail "there is nothing in $3"
  dd if="$1" of=/run/held bs=512 skip="$2" count=$((bytes / 512)) iflag=direct status=none || fail "$1 cannot be read at sector $2"
  [[ $(stat -c %s /run/held) == "$bytes" ]] || fail "$1 ends before sector $2 and $bytes bytes"
  cmp -s /run/held "$3"
}

# --- mdadm's view

# md_load: what mdadm needs of the kernel.
md_load() { modprobe -a raid456 raid10 raid1 raid0; }

# md_create NAME LEVEL MEMBERS SIZE [OPTION...]: a volume in the container $MD_CONTAINER (/dev/md/ddf), synced.
md_create() {
  local name=$1 level=$2 members=$3 size=$4
  shift 4
  mdadm -CR "/dev/md/$name" -l "$level" -n "$members" -z "$size" "$@" "${MD_CONTAINER:-/dev/md/ddf}" >/run/mdadm.out 2>&1 ||
    fail "mdadm cannot make $name: $(</run/mdadm.out)"
  wait_for 10 test -b "/dev/md/$name"
  md_wait "$name"
}

# md_device NAME: the device of a volume. A name may get a suffix: mdadm takes EMD's sets for another machine's.
md_device() { md_find "$1" && echo "/dev/$REPLY"; }

# md_find NAME: the same, in REPLY, as mdN.
md_find() {
  local path node
  for path in "/dev/md/$1" "/dev/md/$1"_[0-9]*; do
    for node in /dev/md[0-9]*; do
      [[ ! $node -ef $path ]] || { REPLY=${node#/dev/} && return; }
    done
  done
  return 1
}

# md_container: the device of the container.
md_container() { echo "/dev/$(md_nodes inactive | head -n 1)"; }

# md_sysfs NAME FILE
md_sysfs() { md_read "$1" "$2" && echo "$REPLY"; }

# md_read NAME FILE: the same, in REPLY.
md_read() {
  md_find "$1" || return
  read -r REPLY <"/sys/block/$REPLY/md/$2"
}

# md_wait NAME [LOST]: until nothing is left to sync and just so many members are lost. (A sync that has not begun yet is left.)
md_wait() {
  md_find "$1"
  [[ -e /sys/block/$REPLY/md/sync_action ]] || return 0
  wait_for 40 md_gets_synced "$@"
}

# md_gets_synced NAME [LOST]: is it? mdmon, which starts it, may have missed that the array is there (seen with 4.4 on a busy machine).
md_gets_synced() { md_is_synced "$@" || { ((SECONDS % 5)) || pkill -USR1 mdmon; false; }; }

# md_stop: all of md, when it has recorded everything as clean.
md_stop() {
  local node
  mdadm --wait-clean --scan >/dev/null 2>&1 || true
  for node in $(md_nodes active) $(md_nodes inactive); do
    wait_for 20 md_stopped "$node"
  done
  rm -f /dev/md/*
}

md_nodes() {
  local node colon what _
  while read -r node colon what _; do
    [[ $colon != : || $what != "$1" ]] || echo "$node"
  done </proc/mdstat
}

md_stopped() {
  [[ -e /sys/block/$1/md ]] || return 0
  mdadm -S "/dev/$1"
  [[ ! -e /sys/block/$1/md ]]
}

# md_assemble DISK...: each disk is told to mdadm, as udev would. (`mdadm -A` of 4.4 crashes on DDF.)
# Arrays that lack members are started too. Nothing is written as long as nobody writes to them.
md_assemble() {
  local device
  md_load
  rm -f /dev/md/*
  for device; do mdadm -I "$device" || true; done >/run/mdadm.out 2>&1
  for device in $(md_nodes inactive); do mdadm -IR "/dev/$device" >>/run/mdadm.out 2>&1 || true; done
}

# md_is_synced NAME [LOST]: md finds nothing to do, but for so many lost members.
md_is_synced() {
  md_read "$1" level || return
  [[ $REPLY =~ ^(raid0|linear)$ ]] && return
  md_read "$1" sync_action && [[ $REPLY == idle ]] &&
    md_read "$1" resync_start && [[ $REPLY == none ]] &&
    md_read "$1" degraded && [[ $REPLY == "${2:-0}" ]]
}

# expect_no_md_sync: md has begun no sync or rebuild since the kernel's log was cleared, nor found anything not clean.
expect_no_md_sync() {
  expect_equal "md has synced nothing" "$(dmesg | grep -E '(resync|recover[a-z]*) of RAID array|not clean' || true)" ""
}

# md_detail DEVICE: what mdadm says it is.
md_detail() {
  mdadm -D "$1" | awk '
    { text = $0; sub(/^[^:]*: */, "", text); sub(/ +$/, "", text) }
    / Raid Level :/ { level = text }
    / Raid Devices :/ { members = text }
    / Layout :/ { layout = text }
    / (Chunk Size|Rounding) :/ { chunk = text }
    / Array Size :/ { size = text; sub(/ .*/, "", size) }
    / State :/ { state = text; sub(/^active/, "clean", state) }
    END {
      out = level ", " members " members"
      if (level ~ /^raid(5|6|10)$/) out = out ", " layout
      if (level != "raid1") out = out ", " chunk
      print out ", " size " KiB, " state
    }'
}

# md_mismatches NAME: reads everything and counts sectors that do not agree.
md_mismatches() {
  local folder
  md_find "$1"
  folder=/sys/block/$REPLY/md
  echo check >"$folder/sync_action"
  wait_for 60 md_has_checked "$folder"
  cat "$folder/mismatch_cnt"
}

# It has begun, and is over.
md_has_checked() {
  local last now
  read -r last <"$1/last_sync_action" && read -r now <"$1/sync_action" && [[ $last == check && $now == idle ]]
}

# --- Both

# mdadm_view DISK: what mdadm reads there, one line for each volume and each disk. A disk that has several entries which say the same has one.
mdadm_view() {
  mdadm -E "$1" | awk '
    { text = $0; sub(/^[^:]*: */, "", text) }
    / init state\[/ { initial = text; next }
    / state\[/ { state = text }
    / Name\[/ { sub(/ +$/, "", text); print "volume " text ": " state ", " initial }
    table && NF >= 4 {
      number = $1
      reference = $2
      sub(/^ *[0-9]+ +[0-9a-f]+ +[0-9]+K +(\/dev\/[a-z]+ +)?/, "")
      if (states[reference] != $0) print "disk " number ": " $0
      states[reference] = $0
    }
    /RefNo/ { table = 1 }' | sort
}

# emd_view: the same of what EMD says, in mdadm's words.
emd_view() {
  emdadm show --json | jq -r '
    {optimal: "Optimal", degraded: "Degraded", failed: "Failed", "partially-optimal": "Partially Optimal"} as $state
    | {clean: "Consistent", dirty: "Not Consistent"} as $consistency
    | {member: "active", "global-spare": "Global-Spare", "dedicated-spare": "spare", unused: ""} as $role
    | {online: "Online", failed: "Offline, Failed"} as $disk
    | .sets[]
    | (.volumes[] | "volume \(.name): \($state[.state]), \($consistency[.consistency]), Fully Initialised"),
      (.disks[] | "disk \(.index): \($role[.role])/\($disk[.state])")' | sort
}

# expect_agreement VIEW DISK...: mdadm reads from each of the disks what EMD said (VIEW, from emd_view).
expect_agreement() {
  local view=$1 device got
  shift
  # What says nothing agrees with all that says nothing.
  [[ $view == *volume* && $# != 0 ]] || fail "there is nothing to agree on: EMD says '$view' of $# disks"
  for device; do
    got=$(mdadm_view "$device")
    [[ $got == "$view" ]] ||
      fail "mdadm on $device disagrees with EMD:"$'\n'"$( (diff <(echo "$view") <(echo "$got") || true) | sed 's/^</EMD:   /; s/^>/mdadm: /')"
  done
  say "ok: mdadm and EMD agree on the state of every volume and disk"
}

# Runs a command that the reader should see with what it says.
run() {
  printf '      # %s\n' "$*"
  "$@" 2>&1 | sed 's/^/      /'
}

# once_in TRIES COMMAND...: it succeeds once in as many. What is wrong is wrong each time; a machine that stands still for a second does so once.
once_in() {
  local left
  for ((left = $1; left; left--)); do
    ! "${@:2}" || return 0
  done
  return 1
}
