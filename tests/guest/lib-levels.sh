#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the tests of levels do with an array, whatever its level. To be sourced by a test, after lib-raid.sh.

# verify_fio ARRAY [OPTION...]: writes everything at all sizes, in any order, and verifies it.
verify_fio() {
  local device=/dev/$1 sector
  shift
  sector=$(blockdev --getss "$device")
  fio --name=verify --filename="$device" --rw=randwrite --bsrange="$sector-256k" --bs_unaligned=0 --ioengine=libaio --iodepth=16 \
    --direct=1 --verify=crc32c --verify_fatal=1 --do_verify=1 --size=100% --blockalign="$sector" "$@"
}

# fio_while ARRAY: writes and verifies the first half over and over in the background, until fio_done. Returns when its writes arrive.
fio_while() {
  local array=$1
  local before
  before=$(emd_writes "$array")
  rm -f /run/fio.stop /run/fio.passes
  (
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

# filesystems ARRAY: ext4, and xfs where there is room; made, filled, checked, and right after a stop and a start.
filesystems() {
  local array=$1 kind seed=1 kinds=(ext4)
  (($(blockdev --getsize64 "/dev/$array") < 310 << 20)) || kinds+=(xfs)
  mkdir -p /mnt/fs
  for kind in "${kinds[@]}"; do
    if [[ $kind == ext4 ]]; then
      expect "mkfs.ext4" mkfs.ext4 -qF -E lazy_itable_init=0 "/dev/$array"
    else
      modprobe xfs
      expect "mkfs.xfs" mkfs.xfs -qf "/dev/$array"
    fi
    mount "/dev/$array" /mnt/fs
    seed=$((seed + 1))
    known $seed 7000000 >/mnt/fs/file
    cp -r /usr/lib/modules /mnt/fs/tree 2>/dev/null || true
    umount /mnt/fs
    expect "the array is read from its disks again" emd_reload
    wait_for 20 emd_node "$NAME"
    array=$(emd_node "$NAME")
    if [[ $kind == ext4 ]]; then
      expect "fsck.ext4" fsck.ext4 -fn "/dev/$array"
    else
      expect "xfs_repair -n" xfs_repair -n "/dev/$array"
    fi
    mount "/dev/$array" /mnt/fs
    expect_equal "the file" "$(sha256sum <"/mnt/fs/file")" "$(known $seed 7000000 | sha256sum)"
    umount /mnt/fs
  done
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
  filesystems "${data#/dev/}"
  data=/dev/$(emd_node "$NAME")
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
  expect "deleted" emdadm delete --force "$NAME"
}

# filesystem_states NAME LEVEL MEMBERS DISK... [-- OPTION...]: ext4 and xfs on partitions of a volume of the first MEMBERS disks, checked
# and compared when it is healthy, degraded, and rebuilt to the last DISK (with another member lost then, so that the new one is read).
# Each time new files are written in that state, and the array is read from its disks again.
filesystem_states() {
  local level=$2 members=$3 disks=()
  NAME=$1
  shift 3
  while (($#)) && [[ $1 != -- ]]; do disks+=("$1") && shift; done
  shift || true
  step "$NAME: ext4 and xfs on $level of $members, in every state"
  expect "created" emdadm create -e ddf -l "$level" -n "$NAME" --force "$@" "${disks[@]:0:members}"
  wait_for 60 emd_settled "$NAME"
  local array
  array=$(emd_node "$NAME")
  printf 'label: gpt\nsize=48MiB\n,\n' | sfdisk -q "/dev/$array"
  wait_for 10 test -b "/dev/${array}p1" -a -b "/dev/${array}p2"
  modprobe xfs
  expect "mkfs.ext4" mkfs.ext4 -qF -E lazy_itable_init=0 "/dev/${array}p1"
  expect "mkfs.xfs" mkfs.xfs -qf "/dev/${array}p2"
  files_written_and_checked 1

  expect "a member is failed" emdadm fail "$NAME" "${disks[1]}"
  wait_for 10 emd_has_lost "$NAME"
  files_written_and_checked 2
  expect_equal "it is degraded" "$(emd_state "$NAME")" degraded

  expect "a new disk" emdadm add "$NAME" "${disks[-1]}"
  files_written_and_checked 3
  wait_for 60 emd_settled "$NAME"
  expect_equal "the new disk is a member" "$(emd_member_device "$NAME" 1)" "${disks[-1]}"
  expect "another member is failed" emdadm fail "$NAME" "${disks[0]}"
  wait_for 10 emd_has_lost "$NAME"
  files_checked 3
  expect "deleted" emdadm delete --force "$NAME"
}

# files_written_and_checked STATE: the STATEth files to both filesystems; then all there are, see files_checked.
files_written_and_checked() {
  local part folder array
  array=$(emd_node "$NAME")
  for part in 1 2; do
    folder=/mnt/part$part
    mkdir -p $folder
    mount "/dev/${array}p$part" $folder
    known "$1" 5000000 >"$folder/file$1"
    cp -r /emd/tests/guest "$folder/tree$1"
    umount $folder
  done
  files_checked "$1"
}

# files_checked STATE: what both filesystems hold since state 1, after a stop and a start: whole, for fsck and for us.
files_checked() {
  local part folder array seed
  expect "the array is read from its disks again" emd_reload
  wait_for 20 emd_node "$NAME"
  array=$(emd_node "$NAME")
  wait_for 10 test -b "/dev/${array}p1" -a -b "/dev/${array}p2"
  expect "fsck.ext4" fsck.ext4 -fn "/dev/${array}p1"
  expect "xfs_repair -n" xfs_repair -n "/dev/${array}p2"
  for part in 1 2; do
    folder=/mnt/part$part
    mount -o ro "/dev/${array}p$part" $folder
    for ((seed = 1; seed <= $1; seed++)); do
      [[ $(sha256sum <"$folder/file$seed") == "$(known $seed 5000000 | sha256sum)" ]] || fail "partition $part: file$seed"
      diff -r /emd/tests/guest "$folder/tree$seed" >/run/diff || fail "partition $part: tree$seed: $(head -c 500 /run/diff)"
    done
    umount $folder
  done
  say "ok: the files of ext4 and xfs"
}

emd_has_lost() { [[ $(emd_state "$1") =~ ^(degraded|partially-optimal)$ ]]; }

half_sum() {
  local size
  size=$(blockdev --getsize64 "$1")
  dd if="$1" bs=64k iflag=direct skip=$((size / 131072 + 1)) status=none | sha256sum
}

# partitions NAME: a table on the array; its partition is there at once and after a stop and a start.
partitions() {
  local array
  step "partitions on $1"
  array=$(emd_node "$1")
  printf 'label: gpt\nstart=1MiB, size=8MiB\nsize=4MiB\n' | sfdisk -q "/dev/$array"
  wait_for 10 test -b "/dev/${array}p2"
  known 7 8388608 | dd of="/dev/${array}p1" bs=1M oflag=direct iflag=fullblock status=none
  emd_reload
  wait_for 20 emd_node "$1"
  array=$(emd_node "$1")
  wait_for 10 test -b "/dev/${array}p1" -a -b "/dev/${array}p2"
  expect_equal "the partition's data" "$(sum "/dev/${array}p1")" "$(known_sum 7 8388608)"
}
