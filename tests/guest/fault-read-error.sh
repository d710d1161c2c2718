# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sectors that a member cannot read are served from redundancy and written again, and the member stays. Without redundancy
# just these sectors fail.
# disks: 2x80M virtio
# cpus: 1
# emd: manual
# timeout: 90

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh

# A disk of scsi_debug keeps what is written also where it cannot read, and shows it again when told so.
BAD=10
bad_at() { # SECTOR: from here on that many sectors cannot be read
  echo "$1" >/sys/module/scsi_debug/parameters/medium_error_start
  echo 2 >/sys/bus/pseudo/drivers/scsi_debug/opts
}
all_readable() { echo 0 >/sys/bus/pseudo/drivers/scsi_debug/opts; }

debug_disk() {
  local block
  for block in /sys/block/sd*; do
    [[ $(<"$block/device/model") == scsi_debug* ]] && echo "/dev/${block##*/}" && return
  done
  return 1
}

# reads_as TEXT DEVICE FILE FIRST COUNT: these sectors of both are the same.
reads_as() {
  cmp <(range "$2" "$4" "$5") <(dd if="$3" bs=512 skip="$4" count="$5" status=none) || fail "$1: sectors $4 to $(($4 + $5 - 1))"
  say "ok: $1"
}

# only_lost DEVICE FILE FIRST COUNT: of the array just these sectors cannot be read, each of them.
only_lost() {
  local device=$1 file=$2 first=$3 count=$4 sector size
  size=$(blockdev --getsz "$device")
  for ((sector = first; sector < first + count; sector++)); do
    if range "$device" "$sector" 1 >/dev/null 2>&1; then fail "$device: sector $sector is read, from nowhere"; fi
  done
  expect_failure "$device: all of them at once fail" range "$device" $((first & ~7)) 64
  range "$device" "$first" 1 2>/run/error >/dev/null || true
  grep -q "Input/output error" /run/error || fail "another error than EIO: $(</run/error)"
  reads_as "$device: what is before" "$device" "$file" 0 "$first"
  reads_as "$device: what is behind" "$device" "$file" $((first + count)) 2000
  reads_as "$device: the end" "$device" "$file" $((size - 2000)) 2000
}

# repaired SLOT ARRAY: it is told that the array repaired that member, and no other.
repaired() {
  [[ $(events read-repaired | jq -r "select(.array == \"$2\" or .array == \"${2#/dev/}\") | .slot" | sort -u) == "$1" ]]
}

boot_1() {
  modprobe scsi_debug dev_size_mb=80 delay=0 "medium_error_count=$BAD"
  wait_for 10 debug_disk
  local s a b set m p bad at name
  s=$(debug_disk) a=$(disk disk1) b=$(disk disk2)
  modprobe emd clean_ms=200
  emdadm create --format ddf --set-name set --level raid1 --name m --size 8M --assume-clean "$s" "$a"
  emdadm add emd0 "$b"
  emdadm create --set emd0 --level raid5 --name p --chunk 64K --size 16M --assume-clean "$s" "$a" "$b"
  for name in m p; do
    known 7 $(($(blockdev --getsz "/dev/$(emd_node $name)") * 512)) >/run/$name
    dd if=/run/$name of="/dev/$(emd_node $name)" bs=1M oflag=direct status=none
  done
  m=/dev/$(emd_node m) p=/dev/$(emd_node p)
  wait_for 10 emd_is_clean m
  wait_for 10 emd_is_clean p
  expect_equal "slots" "$(emd_member_device m 0) $(emd_member_device p 0)" "$s $s"

  # Data of the first stripe's first chunk, and of a region that a mirror's first member serves.
  for name in m p; do
    step "$name: sectors that cannot be read"
    set=${!name} at=40
    [[ $name == m ]] && at=4140
    bad=$(($(emd_get $name '.members[0].offset_sectors') + at))
    # What is there is spoiled, so that only a rewrite puts it right.
    dd if=/dev/urandom of="$s" bs=512 seek=$bad count=$BAD oflag=direct conv=notrunc status=none
    bad_at $bad
    expect_failure "the disk cannot read them" range "$s" $bad 1
    expect "all of the array is right" cmp <(dd if="$set" bs=1M iflag=direct status=none) /run/$name
    wait_for 10 happened read-error
    expect_equal "$name: disks of all errors" "$(events read-error | jq -r .device | sort -u)" "$s"
    expect "the sector of the disk is told" grep -qE '^sector [1-9][0-9]* of the disk$' <<<"$(events read-error | jq -r .text)"
    # The reader does not wait for it.
    wait_for 10 repaired 0 "$set"
    say "ok: the repair is told"
    (($(emd_get $name .read_errors) > 0)) || fail "the array's errors are not counted"
    (($(emdadm show --json | jq "[.sets[].disks[] | select(.device == \"$s\")][0].read_errors") > 0)) ||
      fail "the disk's errors are not counted"
    expect_equal "the member stays" "$(emd_state $name): $(emd_get $name '.members[0].state')" "optimal: in-sync"
    all_readable
    dd if=/run/$name of=/run/right bs=512 skip=$at count=$BAD status=none
    range "$s" $bad $BAD >/run/written
    expect "they were written again" cmp /run/written /run/right
    expect_equal "no member was failed" "$(events member-failed)" ""
  done

  step "the same without redundancy"
  emdadm fail emd0 "$a"
  wait_for 10 emd_is m degraded
  wait_for 10 emd_is p degraded
  bad_at $(($(emd_get m '.members[0].offset_sectors') + 4140))
  only_lost "$m" /run/m 4140 $BAD
  expect_equal "the last member stays" "$(emd_state m)" degraded
  # Sectors 40 ... of chunk 0; and of chunk 1, which is on the failed member and worked out from chunk 0 and the parity.
  bad_at $(($(emd_get p '.members[0].offset_sectors') + 40))
  local sector
  for ((sector = 40; sector < 40 + BAD; sector++)); do
    if range "$p" $sector 1 >/dev/null 2>&1; then fail "sector $sector is read, from nowhere"; fi
    if range "$p" $((128 + sector)) 1 >/dev/null 2>&1; then fail "sector $((128 + sector)) is read, from nowhere"; fi
  done
  say "ok: what is lost fails"
  reads_as "before" "$p" /run/p 0 40
  reads_as "between" "$p" /run/p $((40 + BAD)) 118
  reads_as "behind" "$p" /run/p $((168 + BAD)) 4000
  expect_equal "no further member is failed" "$(emd_members p)" "in-sync failed in-sync"

  step "the mirror's are put right by writing"
  bad_at $(($(emd_get m '.members[0].offset_sectors') + 4140))
  dd if=/run/m of="$m" bs=512 skip=4140 seek=4140 count=$BAD oflag=direct conv=notrunc status=none
  all_readable
  expect "the RAID1" cmp <(dd if="$m" bs=1M iflag=direct status=none) /run/m
  expect "the RAID5" cmp <(dd if="$p" bs=1M iflag=direct status=none) /run/p
}
