# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Adaptec HostRAID volumes that EMD makes, healthy, with a member lost, and rebuilt to a spare, are what dmraid activates:
# same size, same bytes; and back. A real disk is examined alike.
# disks: 4x8M scsi, 1x8971292K scsi
# cpus: 1
# emd: manual
# timeout: 150
# needs: dmraid

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

boot_1() {
  mapfile -t DISKS < <(disks disk1 disk2 disk3 disk4)
  modprobe -a dm-mod dm-mirror

  step "a real disk is examined alike"
  local real set
  real=$(disk disk5)
  dd if=/emd/tests/samples/asr/zero.tail of="$real" bs=512 seek=17942567 oflag=direct status=none
  expect_equal "dmraid" "$(dmraid -r -c -c -c "$real")" "$real:asr:asr_ZERO:stripe:ok:17942528:0"
  expect_equal "emdadm" "$(emdadm examine --json "$real" | examined)" "ZERO raid0 4 128 71770112 0"
  dd if=/dev/zero of="$real" bs=512 count=17 seek=17942567 oflag=direct status=none

  step "EMD makes, dmraid activates"
  emd_load
  taken_over raid0 2 r0
  ! whole || taken_over raid0 4 r0wide --chunk 16K
  taken_over raid1 2 r1
  taken_over raid10 4 r10
  ! whole || taken_over raid10 4 r10b --chunk 32K
  ! whole || ten_lost_and_rebuilt

  step "several volumes in one table"
  expect "a set" emdadm create -e asr "${DISKS[@]}"
  set=$(emdadm show --json | jq -r '.sets[] | select(.format == "asr") | .id')
  expect "raid1" emdadm create --set "$set" -l raid1 -n one "${DISKS[@]:0:2}"
  expect "raid0" emdadm create --set "$set" -l raid0 -n two "${DISKS[@]:2:2}"
  SUMS=([one]="$(fill "/dev/$(emd_node one)" 3)" [two]="$(fill "/dev/$(emd_node two)" 4)")
  wait_for 20 emd_settled one
  dmraid_takes one two
  emd_takes one two
  expect "deleted" emdadm delete --force "$set"

  step "a mirror with a lost member, and with a spare in its place"
  expect "raid1" emdadm create -e asr -l raid1 -n m "${DISKS[@]:0:2}"
  wait_for 20 emd_settled m
  expect "a member is failed" emdadm fail m "${DISKS[0]}"
  wait_for 10 emd_is m degraded
  SUMS=([m]="$(fill "/dev/$(emd_node m)" 5)")
  wait_for 20 emd_is_clean m
  # The lost disk's own table still calls it good, and dmraid does not look which one is newer.
  unplug disk1
  dmraid_takes m
  emd_takes m
  expect_equal "it is still degraded" "$(emd_state m)" degraded
  expect "a spare" emdadm add m "${DISKS[2]}"
  wait_for 40 emd_settled m
  dmraid_takes m
  expect_equal "dmraid has both members" "$(dmraid -r | grep -c '"asr_m", mirror, ok')" 2
  emd_takes m
  expect_equal "nothing is synced again" "$(emd_get m '[.state, .consistency, .task.kind] | join(" ")')" "optimal clean "
  ! whole || dirty
}

ten_lost_and_rebuilt() {
  step "RAID 10 with a lost member, and with a spare in its place"
  expect "raid10" emdadm create -e asr -l raid10 -n ten --chunk 16K "${DISKS[@]}"
  wait_for 20 emd_settled ten
  SUMS=([ten]="$(fill "/dev/$(emd_node ten)" 8)")
  expect "a member is failed" emdadm fail ten "${DISKS[3]}"
  wait_for 10 emd_is ten degraded
  SUMS=([ten]="$(fill "/dev/$(emd_node ten)" 9)")
  wait_for 20 emd_is_clean ten
  # Like this dmraid does not activate it: the kernel refuses the table that it makes.
  unplug disk4
  # Larger than the others, and the only one that is left.
  expect "a spare" emdadm add ten "$real"
  wait_for 40 emd_settled ten
  dmraid_takes ten
  expect_equal "dmraid has all members" "$(dmraid -r | grep -c '"asr_ten.*, ok')" 4
  emd_takes ten
  expect_equal "nothing is synced again" "$(emd_get ten '[.state, .consistency, .task.kind] | join(" ")')" "optimal clean "
  expect "deleted" emdadm delete --force "$(emd_set ten)"
  plug disk4
  dd if=/dev/zero of="${DISKS[3]}" bs=1M count=8 oflag=direct status=none
}

dirty() {
  step "power is cut when EMD has just written"
  expect "deleted" emdadm delete --force "$(emd_set m)"
  expect "raid1" emdadm create -e asr -l raid1 -n d "${DISKS[@]:1:2}"
  fill "/dev/$(emd_node d)" 1 >/dev/null
  wait_for 20 emd_settled d
  emdadm stop --all >/dev/null
  rmmod emd
  # What was written stays dirty.
  modprobe emd clean_ms=3600000
  wait_for 20 emd_node d
  expect "written" /emd/bin/pattern write "/dev/$(emd_node d)" 2 0 64
  expect_equal "it is" "$(emd_consistency d)" dirty
  host powercut
}

if whole; then
  boot_2() {
    local device second
    second=$(disk disk3)
    step "dmraid activates it with what was written; EMD resyncs it"
    modprobe -a dm-mod dm-mirror
    # It has the table of a set that is gone.
    ! disk disk1 >/dev/null || unplug disk1
    expect "dmraid activates" dmraid -ay
    device=/dev/mapper/asr_d
    expect "what was written last" /emd/bin/pattern verify "$device" 2 0 64
    expect "and the rest" /emd/bin/pattern verify "$device" 1 64 4096
    expect "dmraid lets go" dmraid -an
    wait_for 10 no_dm
    # What a cut between two writes leaves: the copies differ.
    known 9 4096 | dd of="$second" bs=4096 seek=4 oflag=direct conv=notrunc iflag=fullblock status=none
    emd_load
    wait_for 40 emd_settled d
    all_events /run/all-events
    expect_equal "EMD has resynced it" \
      "$(jq -rs '[.[] | select(.kind == "task-started" or .kind == "task-done") | .kind + if .word then " " + .word else "" end] | join(", ")' /run/all-events)" \
      "task-started resync, task-done"
    expect "what was written last" /emd/bin/pattern verify "/dev/$(emd_node d)" 2 0 64
    expect "and the rest" /emd/bin/pattern verify "/dev/$(emd_node d)" 1 64 4096
    expect_equal "the copies are the same" "$(cmp -n 1048576 "$(disk disk2)" "$second" 2>&1)" ""
  }
fi

declare -A SUMS

# What `emdadm examine --json` says of the one volume: name, level, members, chunk, size, offset of the first member.
examined() {
  jq -r '.. | objects | select(has("members") and .name == "ZERO")
    | [.name, .level, (.members | length), .chunk_sectors, .size_sectors, .members[0].offset_sectors] | join(" ")'
}

emd_set() { emdadm show --json | jq -r --arg name "$1" '.sets[] | select(any(.volumes[]; .name == $name)) | .id'; }

# taken_over LEVEL MEMBERS NAME [OPTION...]: made and written by EMD, read and written by dmraid, read by EMD, deleted.
taken_over() {
  local level=$1 members=$2 name=$3
  shift 3
  expect "$level" emdadm create -e asr -l "$level" -n "$name" "$@" "${DISKS[@]:0:members}"
  SUMS=([$name]="$(fill "/dev/$(emd_node "$name")" 1)")
  wait_for 20 emd_settled "$name"
  dmraid_takes "$name"
  emd_takes "$name"
  expect "deleted" emdadm delete --force "$(emd_set "$name")"
}

# dmraid_takes NAME...: EMD lets go; dmraid activates the volumes and has the bytes that are expected. It writes others.
dmraid_takes() {
  local name device size
  declare -A size
  for name; do size[$name]=$(blockdev --getsize64 "/dev/$(emd_node "$name")"); done
  emdadm stop --all >/dev/null
  rmmod emd
  expect "dmraid activates" dmraid -ay
  for name; do
    device=/dev/mapper/asr_$name
    expect_equal "$name has its size" "$(blockdev --getsize64 "$device")" "${size[$name]}"
    expect_equal "$name has its bytes" "$(sum "$device")" "${SUMS[$name]}"
    SUMS[$name]=$(fill "$device" 7)
  done
  expect "dmraid lets go" dmraid -an
  wait_for 10 no_dm
}

no_dm() {
  [[ $(dmsetup ls) == "No devices found" ]] || { dmsetup remove_all && false; }
}

# emd_takes NAME...: EMD finds the volumes again, with the bytes that dmraid wrote.
emd_takes() {
  local name
  emd_load
  for name; do
    wait_for 20 emd_node "$name"
    expect_equal "$name has the bytes that dmraid wrote" "$(sum "/dev/$(emd_node "$name")")" "${SUMS[$name]}"
  done
}
