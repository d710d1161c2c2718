#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the tests of levels do with an array, whatever its level. To be sourced by a test, after lib-raid.sh.

# verify_fio ARRAY [OPTION...]: writes everything at all sizes, in any order, and verifies it.
verify_fio() {
  local device=/dev/$1 sector
  shift
  sector=$(blockdev --getss "$device")
  fio --name=verify --filename="$device" --cpus_allowed="$CPUS" --rw=randwrite --bsrange="$sector-256k" --bs_unaligned=0 --ioengine=libaio --iodepth=16 \
    --direct=1 --verify=crc32c --verify_fatal=1 --do_verify=1 --size=100% --blockalign="$sector" "$@"
}

# fio_while ARRAY: writes and verifies the first half over and over in the background, until fio_done. Returns when its writes arrive.
fio_while() {
  local array=$1
  local before
  before=$(emd_writes "$array")
  rm -f /run/fio.stop /run/fio.passes
  (
    spread
    until [[ -e /run/fio.stop ]]; do
      verify_fio "$array" --size=50% --randseed="$RANDOM" >/run/fio.log 2>&1 || break
      echo pass >>/run/fio.passes
    done
    [[ -e /run/fio.stop ]]
  ) &
  FIO=$!
  wait_for 20 emd_wrote "$array" $((before + 50))
}

fio_done() {
  touch /run/fio.stop
  wait "$FIO" || fail "fio, with verify: $(grep -m 3 -iE 'verify|error|err=' /run/fio.log)"
  say "ok: fio verified what it wrote meanwhile"
}

# level NAME LEVEL MEMBERS DISK... [-- OPTION...]: a volume of the first MEMBERS disks; one is lost, and the last DISK
# takes its place under load; then another one is taken away. What was written is there all along.
level() {
  local level=$2 members=$3 disks=() sums data half
  NAME=$1
  shift 3
  while (($#)) && [[ $1 != -- ]]; do disks+=("$1") && shift; done
  shift || true
  step "$NAME: $level of $members, $*"
  expect "created" emdadm create -e ddf -l "$level" -n "$NAME" --force "$@" "${disks[@]:0:members}"
  wait_for 10 emd_node "$NAME"
  data=/dev/$(emd_node "$NAME")
  expect "fio writes and verifies, 512 bytes to 256 KiB" verify_fio "${data#/dev/}"
  sums=$(fill "$data" 1)

  if [[ $level != raid0 ]]; then
    wait_for 40 emd_settled "$NAME"
    # The second half stays as it is, under the load.
    half=$(half_sum "$data")
    expect "a member is failed" emdadm fail "$NAME" "${disks[1]}"
    wait_for 10 emd_has_lost "$NAME"
    expect_equal "degraded: the data" "$(sum "$data")" "$sums"
    fio_while "${data#/dev/}"
    expect "a new disk" emdadm add "$NAME" "${disks[-1]}"
    wait_for 60 emd_is "$NAME" optimal
    fio_done
    expect_equal "the new disk is a member" "$(emd_member_device "$NAME" 1)" "${disks[-1]}"
    expect_equal "rebuilt: the half that was left alone" "$(half_sum "$data")" "$half"
    sums=$(fill "$data" 2)
    expect "another member is failed" emdadm fail "$NAME" "${disks[0]}"
    wait_for 10 emd_has_lost "$NAME"
    expect_equal "degraded once more: the data" "$(sum "$data")" "$sums"
  fi

  emd_reload
  wait_for 20 emd_node "$NAME"
  data=/dev/$(emd_node "$NAME")
  expect_equal "stopped and started: the data" "$(sum "$data")" "$sums"
  erase_set
}

# every_loss NAME FORMAT LEVEL MEMBERS LOSSES [OPTION...]: a volume of the first MEMBERS disks. Its first half is written and verified
# all the time while it is initialised, checked, loses the first of LOSSES (slots with commas between) and is rebuilt. Then each of LOSSES:
# all data is there, new data is written without these members, and their disks come back and are rebuilt. So each loss reads
# what was rebuilt before. In the end a check finds nothing. LOSSES is empty for levels that bear none. A daily run takes the first two
# and the last of them.
every_loss() {
  local format=$2 level=$3 members=$4 losses=$5 array half seed=1 loss
  NAME=$1
  shift 5
  whole || losses=$(sed -E 's/^([^ ]+ [^ ]+) .* ([^ ]+)$/\1 \2/' <<<"$losses")
  step "$NAME: $format, $level of $members, $*: healthy, checked, without each of: ${losses:-none}"
  # shellcheck disable=SC2153 # DISKS are the test's
  expect "created" emdadm create -e "$format" -l "$level" -n "$NAME" --force "$@" "${DISKS[@]:0:members}"
  wait_for 10 emd_node "$NAME"
  array=$(emd_node "$NAME")
  half=$(($(blockdev --getsize64 "/dev/$array") / 2048 & ~3))
  expect "written" pattern write "/dev/$array" 1
  if [[ -z $losses ]]; then
    expect "the data" pattern verify "/dev/$array" 1
    erase_set
    return
  fi

  # Tasks do not wait for the load.
  expect "no brake" emdadm limit --min 1G "$array"
  pattern_while "$array" $half
  agrees "$array" "under load"
  lose "$array" "${losses%% *}"
  wait_for 10 emd_has_lost "$array"
  expect "without ${losses%% *}: the half that is left alone" pattern verify "/dev/$array" 1 $half $half
  come_back "$array"
  pattern_done
  expect "rebuilt: the half that was left alone" pattern verify "/dev/$array" 1 $half $half

  expect "written" pattern write "/dev/$array" $seed
  for loss in $losses; do
    lose "$array" "$loss"
    expect "without $loss: the data" pattern verify "/dev/$array" $seed
    seed=$((seed + 1))
    expect "without $loss: new data" pattern write "/dev/$array" $seed
    come_back "$array"
  done
  agrees "$array" "in the end"
  expect "the data" pattern verify "/dev/$array" $seed
  erase_set
}

# lose ARRAY SLOTS: it is optimal, and members are failed; LOST are their disks.
lose() {
  local slot
  ask "$1" state
  [[ $REPLY == optimal ]] || fail "$1 is $REPLY"
  LOST=()
  for slot in ${2//,/ }; do ask "$1" member-device "$slot" && LOST+=("$REPLY"); done
  expect "slots $2 are failed" emdadm fail "$1" "${LOST[@]}"
}

# come_back ARRAY: with what `lose` took, until it is rebuilt.
come_back() {
  expect "the disks come back" emdadm add "$1" "${LOST[@]}"
  expect "rebuilt" emdadm wait "$1"
}

pattern() { /emd/bin/pattern "$@"; }

# pattern_while ARRAY KIB: writes and verifies the first KIB over and over, until pattern_done. Returns when its writes arrive.
pattern_while() {
  local before
  before=$(emd_writes "$1")
  rm -f /run/pattern.stop
  pattern load "/dev/$1" /run/pattern.stop 0 "$2" >/run/pattern.log 2>&1 &
  PATTERN=$!
  wait_for 20 emd_wrote "$1" $((before + 50))
}

pattern_done() {
  kill -0 "$PATTERN" || fail "the load ended: $(</run/pattern.log)"
  touch /run/pattern.stop
  wait "$PATTERN" || fail "under load: $(</run/pattern.log)"
  say "ok: what was written meanwhile was verified"
}

# agrees ARRAY TEXT: a check of all of it finds nothing that differs.
agrees() {
  wait_for 60 emd_has_task "$1" null
  expect "$2: a check" emdadm check --wait "$1"
  expect_equal "$2: places that do not agree" "$(emd_get "$1" '.mismatches | length')" 0
}

# scribbled NAME LEVEL MEMBERS [OPTION...]: whoever writes changes the data all the time meanwhile. What the members get of it may be anything, but the same for
# data and parity: a check finds nothing.
scribbled() {
  local level=$2 members=$3 disk changed
  NAME=$1
  shift 3
  step "$NAME: $level of $members, $*: data that changes while it is written"
  # Zeroes agree.
  for disk in "${DISKS[@]:0:members}"; do blkdiscard -q -f -z "$disk" 2>/dev/null; done
  expect "created" emdadm create -e ddf -l "$level" -n "$NAME" --assume-clean --force --size 24M "$@" "${DISKS[@]:0:members}"
  wait_for 10 emd_node "$NAME"
  # 24 MiB: each place is written once, as what comes after might put it right.
  changed=$(spread && /emd/bin/odd-io scribble "/dev/$(emd_node "$NAME")" 0 384) || fail "writes of what changes"
  ((changed >= 20)) || fail "it changed during $changed writes only"
  say "ok: it changed during $changed writes"
  agrees "$(emd_node "$NAME")" "of what changed"
  erase_set
}

# filesystem_states NAME LEVEL MEMBERS DISK... [-- OPTION...]: ext4 and xfs on partitions of a volume of the first MEMBERS disks.
# Files are written, fio verified, and all is checked and compared: healthy, checking, degraded, rebuilding to the last DISK, and
# without another member after that (so that the new one is read); then without each of LOSSES, a variable, if the caller gives it. Levels that bear
# no loss: healthy only.
filesystem_states() {
  local level=$2 members=$3 disks=()
  NAME=$1
  shift 3
  while (($#)) && [[ $1 != -- ]]; do disks+=("$1") && shift; done
  shift || true
  local disk
  step "$NAME: ext4 and xfs on $level of $members, $*, in every state"
  # So that all members agree: an initialisation would take longer.
  for disk in "${DISKS[@]}"; do blkdiscard -q -f -z "$disk" 2>/dev/null; done
  expect "created" emdadm create -e ddf -l "$level" -n "$NAME" --assume-clean --force "$@" "${disks[@]:0:members}"
  wait_for 10 emd_node "$NAME"
  local array
  array=$(emd_node "$NAME")
  printf 'label: gpt\nsize=48MiB\n,\n' | sfdisk -q "/dev/$array"
  wait_for 10 test -b "/dev/${array}p1" -a -b "/dev/${array}p2"
  modprobe xfs
  expect "mkfs.ext4" mkfs.ext4 -qF "/dev/${array}p1"
  expect "mkfs.xfs" mkfs.xfs -qf "/dev/${array}p2"
  files_written healthy 1
  expect "the array is read from its disks again" emd_reload
  wait_for 20 emd_node "$NAME"
  array=$(emd_node "$NAME")
  wait_for 10 test -b "/dev/${array}p1" -a -b "/dev/${array}p2"
  # What is wrong with the filesystems now, fsck finds later.
  if [[ $level == raid0 || $level == concat ]]; then files_checked 1; else files_compared 1; fi

  if [[ $level != raid0 && $level != concat ]]; then
    wait_for 60 emd_has_task "$NAME" null
    expect "slowly" emdadm limit --max 2M "$NAME"
    expect "a check" emdadm check "$NAME"
    files_written checking 2
    expect "it was checked meanwhile" emd_has_task "$NAME" check
    expect "fast" emdadm limit "$NAME"
    expect "checked" emdadm wait "$NAME"
    expect_equal "places that do not agree" "$(emd_get "$NAME" '.mismatches | length')" 0

    expect "a member is failed" emdadm fail "$NAME" "${disks[1]}"
    wait_for 10 emd_has_lost "$NAME"
    files_written degraded 3
    files_checked 3

    expect "slowly" emdadm limit --max 2M "$NAME"
    expect "a new disk" emdadm add "$NAME" "${disks[-1]}"
    wait_for 10 emd_has_task "$NAME" rebuild
    files_written rebuilding 4
    expect "it was rebuilt meanwhile" emd_has_task "$NAME" rebuild
    expect "fast" emdadm limit "$NAME"
    wait_for 60 emd_is "$NAME" optimal
    expect_equal "the new disk is a member" "$(emd_member_device "$NAME" 1)" "${disks[-1]}"
    expect "another member is failed" emdadm fail "$NAME" "${disks[0]}"
    wait_for 10 emd_has_lost "$NAME"
    files_checked 4
    expect "it comes back" emdadm add "$NAME" "${disks[0]}"
    expect "rebuilt" emdadm wait "$NAME"
    files_lose_each "${LOSSES:-}"
  fi
  erase_set
  # No partition table is left, for who takes the disks next.
  for disk in "${DISKS[@]}"; do dd if=/dev/zero of="$disk" bs=64k count=1 oflag=direct status=none; done
}

# files_lose_each LOSSES: as for every_loss, with both filesystems in use meanwhile. A daily run takes the first of them, if that is of several members.
files_lose_each() {
  local loss losses=$1 number=5
  whole || losses=$(grep -oE '^[^ ]*,[^ ]*' <<<"$losses" || true)
  for loss in $losses; do
    lose "$(emd_node "$NAME")" "$loss"
    files_written "without $loss" $number
    files_checked $number
    come_back "$(emd_node "$NAME")"
    number=$((number + 1))
  done
  [[ -z $losses ]] || agrees "$(emd_node "$NAME")" "in the end"
}

# files_written STATE NUMBER: the NUMBERth files to both filesystems, and fio verifies one on each.
files_written() {
  local part folder array
  array=$(emd_node "$NAME")
  for part in 1 2; do
    folder=/mnt/part$part
    mkdir -p $folder
    mount "/dev/${array}p$part" $folder
    known "$2" 150000 >"$folder/file$2"
    cp -r /emd/tests/guest/programs "$folder/tree$2"
  done
  expect "$1: fio writes to ext4 and xfs and verifies" fio --cpus_allowed="$CPUS" --bs=16k --size=1M --rw=randwrite --ioengine=libaio --iodepth=8 --direct=1 --verify=crc32c \
    --verify_fatal=1 --do_verify=1 --name=ext4 --filename=/mnt/part1/fio --name=xfs --filename=/mnt/part2/fio
  umount /mnt/part1 /mnt/part2
}

# files_checked NUMBER: what both filesystems hold since the first: whole, for fsck and for us.
files_checked() {
  local array
  array=$(emd_node "$NAME")
  expect "fsck.ext4" fsck.ext4 -fn "/dev/${array}p1"
  expect "xfs_repair -n" xfs_repair -n "/dev/${array}p2"
  files_compared "$1"
}

# files_compared NUMBER: the same, for us only.
files_compared() {
  local part folder array seed
  array=$(emd_node "$NAME")
  for part in 1 2; do
    folder=/mnt/part$part
    mount -o ro "/dev/${array}p$part" $folder
    for ((seed = 1; seed <= $1; seed++)); do
      known $seed 150000 | cmp -s - "$folder/file$seed" || fail "partition $part: file$seed"
      diff -r /emd/tests/guest/programs "$folder/tree$seed" >/run/diff || fail "partition $part: tree$seed: $(head -c 500 /run/diff)"
    done
    umount $folder
  done
  say "ok: the files of ext4 and xfs"
}

# The set of $NAME goes, with its metadata.
erase_set() {
  ask "$NAME" set
  expect "deleted" emdadm delete --force "$REPLY"
}

emd_has_lost() { ask "$1" state && [[ $REPLY =~ ^(degraded|partially-optimal)$ ]]; }

# half_sum DEVICE: the checksum of its second half.
half_sum() {
  local kib
  kib=$(($(blockdev --getsize64 "$1") / 2048 & ~3))
  sum "$1" $kib $kib
}

# partitions NAME: a table on the array; its partition is there at once and after a stop and a start.
partitions() {
  local array sum
  step "partitions on $1"
  array=$(emd_node "$1")
  printf 'label: gpt\nstart=1MiB, size=8MiB\nsize=4MiB\n' | sfdisk -q "/dev/$array"
  wait_for 10 test -b "/dev/${array}p2"
  sum=$(fill "/dev/${array}p1" 7)
  emd_reload
  wait_for 20 emd_node "$1"
  array=$(emd_node "$1")
  wait_for 10 test -b "/dev/${array}p1" -a -b "/dev/${array}p2"
  expect_equal "the partition's data" "$(sum "/dev/${array}p1")" "$sum"
}
