#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What tests of arrays share: EMD's and mdadm's view of a set, and known data. To be sourced by a test:
#   source /emd/tests/guest/lib-raid.sh

export MDADM_NO_UDEV=1
mkdir -p /dev/md /run/mdadm

# --- EMD's view. ARRAY is emd0 ...; a volume may also be named by its name.

# emd_get ARRAY FILTER: a field of an array's volume, as `jq` finds it (.state, .members[0].state).
emd_get() {
  emdadm show --json | jq -r --arg a "$1" \
    "[.sets[].volumes[] | select(.device == \"/dev/\" + \$a or .name == \$a)][0] | $2"
}

emd_state() { emd_get "$1" .state; }

# The states of members in order of slots, in one line.
emd_members() { emd_get "$1" '[.members[].state] | join(" ")'; }

# The device of the member in a slot.
emd_member_device() { emd_get "$1" ".members[$2].device"; }

# emd_is ARRAY STATE: for wait_for.
emd_is() { [[ $(emd_state "$1") == "$2" ]]; }

# emd_runs ARRAY: it is there, and what `emd_state` says of it is no longer that it is about to start.
emd_runs() { [[ -b /dev/$1 && $(emd_state "$1") =~ ^(optimal|partially-optimal|degraded|failed)$ ]]; }

# emd_has ARRAY DEVICE: the disk is a member.
emd_has() { emd_get "$1" '.members[].device' | grep -qx -- "$2"; }

# emd_writes ARRAY: users' writes that are done.
emd_writes() { awk '{ print $5 }' "/sys/block/$1/stat"; }

# emd_wrote ARRAY COUNT: as many.
emd_wrote() { (($(emd_writes "$1") >= $2)); }

emd_consistency() { emd_get "$1" .consistency; }

emd_is_clean() { [[ $(emd_consistency "$1") == clean ]]; }

emd_is_dirty() { [[ $(emd_consistency "$1") == dirty ]]; }

# emd_task ARRAY: what runs on it (rebuild, resync), or nothing.
emd_task() { emd_get "$1" '.task.kind // ""'; }

emd_has_task() { [[ $(emd_task "$1") == "$2" ]]; }

# emd_settled ARRAY: optimal, clean, nothing running.
emd_settled() { [[ $(emd_get "$1" '[.state, .consistency, .task.kind // "-"] | join(" ")') == "optimal clean -" ]]; }

expect_no_emd_task() {
  expect_equal "EMD has started no task since it was loaded" \
    "$(emdadm monitor --from 0 --once --json | jq -rs '[.[] | select(.kind == "task-started") | "\(.array) \(.word)"] | join(", ")')" ""
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
emd_node() {
  local device
  device=$(emd_get "$1" '.device // empty')
  [[ -b $device ]] && echo "${device#/dev/}"
}

# emd_load [PARAMETERS]: loads the module and waits until it has found what is there to be found. Arrays are clean sooner than by default.
emd_load() { modprobe emd clean_ms=300 "$@"; }

# Unloads and loads the module: everything is read from the disks again.
emd_reload() {
  emdadm stop --all >/dev/null || fail "arrays cannot be stopped"
  rmmod emd || fail "emd cannot be unloaded"
  emd_load "$@"
}

# --- Data that is known

# fill DEVICE [SEED]: the whole device, with bytes that follow from the seed, in pieces of all sizes; prints their checksum.
fill() {
  /emd/bin/pattern write "$1" "${2:-1}" && sum "$1"
}

# fill_known DEVICE SEED: the whole device with what `known` gives; prints its checksum.
fill_known() {
  known "$2" "$(blockdev --getsize64 "$1")" | dd of="$1" bs=1M oflag=direct iflag=fullblock status=none
  sum "$1"
}

# known SEED COUNT: so many bytes. No two places have the same, nor have two seeds (1 to 9) anything in common.
known() {
  (
    set +o pipefail
    seq "${1}00000000" "${1}99999999" 2>/dev/null | head -c "$2"
  )
}

# sum DEVICE: the checksum of what it holds, read from the disks.
sum() { /emd/bin/pattern sum "$1"; }

# fio_verified DEVICE: fio writes all of it in random order, in pieces of 4 to 64 KiB, and finds it again.
fio_verified() {
  fio --name=w --filename="$1" --allow_file_create=0 --direct=1 --rw=randwrite --bsrange=4k-64k --bs_unaligned=0 --blockalign=4k --ioengine=libaio --iodepth=8 --size=100% \
    --verify=crc32c --verify_fatal=1 --do_verify=1
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
md_device() {
  local path
  for path in "/dev/md/$1" "/dev/md/$1"_[0-9]*; do
    [[ ! -e $path ]] || { readlink -f "$path" && return; }
  done
  return 1
}

# md_container: the device of the container.
md_container() { echo "/dev/$(md_nodes inactive | head -n 1)"; }

# md_sysfs NAME FILE
md_sysfs() { cat "/sys/block/$(basename "$(md_device "$1")")/md/$2"; }

# md_wait NAME [LOST]: until nothing is left to sync and just so many members are lost. (A sync that has not begun yet is left.)
md_wait() {
  [[ -e /sys/block/$(basename "$(md_device "$1")")/md/sync_action ]] || return 0
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

md_nodes() { awk -v want="$1" '$2 == ":" && $3 == want { print $1 }' /proc/mdstat; }

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
  [[ $(md_sysfs "$1" level) =~ ^(raid0|linear)$ ]] && return
  [[ $(md_sysfs "$1" sync_action) == idle && $(md_sysfs "$1" resync_start) == none && $(md_sysfs "$1" degraded) == "${2:-0}" ]]
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
  folder=/sys/block/$(basename "$(md_device "$1")")/md
  echo check >"$folder/sync_action"
  wait_for 60 md_has_checked "$folder"
  cat "$folder/mismatch_cnt"
}

# It has begun, and is over.
md_has_checked() { [[ $(<"$1/last_sync_action") == check && $(<"$1/sync_action") == idle ]]; }

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
