# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The logical block that an array of md's records: with EMD it stays what it was when the member that it came from is away, and partitions are where they were. EMD's arrays have one for md. A spare whose blocks are that large
# takes the place of a member with smaller ones, also where something cannot be read.
# disks: 1x24M scsi 4096, 2x24M virtio
# cpus: 1
# emd: manual
# timeout: 120

# shellcheck source=tests/guest/lib-md.sh
source /emd/tests/guest/lib-md.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh

boot_1() {
  local sum
  mapfile -t DISKS < <(disks)
  step "made by md over blocks of both sizes; only those of 512 bytes are left"
  md_load
  md_make 1.2 1 -n2 "${DISKS[0]}" "${DISKS[1]}"
  expect_equal "md's blocks" "$(blockdev --getss /dev/md0), $(md0_sysfs logical_block_size)" "4096, 4096"
  printf 'label: gpt\nstart=1MiB, size=8MiB\n' | sfdisk -q /dev/md0
  wait_for 10 test -b /dev/md0p1
  sum=$(fill /dev/md0p1 1)
  run mdadm -S /dev/md0
  blkdiscard -f -z "${DISKS[0]}" 2>/dev/null
  emd_load start_timeout_ms=500
  wait_for 20 emd_runs emd0
  expect_equal "EMD's blocks" "$(blockdev --getss /dev/emd0)" 4096
  wait_for 10 test -b /dev/emd0p1
  expect_equal "the partition has the bytes that md wrote" "$(sum /dev/emd0p1)" "$sum"
  sum=$(fill /dev/emd0p1 2)
  emd0_leaves
  run mdadm -A --run /dev/md0 "${DISKS[1]}"
  expect_equal "md's blocks" "$(blockdev --getss /dev/md0)" 4096
  wait_for 10 test -b /dev/md0p1
  expect_equal "the partition has the bytes that EMD wrote" "$(sum /dev/md0p1)" "$sum"
  run mdadm -S /dev/md0

  step "made by EMD"
  blank_all
  emd_load
  expect "created" emdadm create -e md-1.2 -l raid1 -n box:data --size 8M "${DISKS[@]:1:2}"
  wait_for 40 emd0_is optimal clean
  sum=$(fill /dev/emd0 3)
  emd0_leaves
  md0_runs 0 "$sum" "${DISKS[@]:1:2}"
  expect_equal "md's blocks" "$(blockdev --getss /dev/md0), $(md0_sysfs logical_block_size)" "512, 512"
  run mdadm -S /dev/md0
  blank_all
  a_larger_spare "${DISKS[0]}"
}

# a_larger_spare DISK: of 4096-byte blocks, beside members of 512.
a_larger_spare() {
  local spare=$1 at=4101 first
  step "a member fails, and a sector of the other one cannot be read while the spare of larger blocks is filled"
  make_disks 24576 2
  md_make 1.2 1 -n2 -x1 "${DISKS[@]}" "$spare"
  expect_equal "md's blocks" "$(md0_sysfs logical_block_size)" 4096
  fill /dev/md0 4 >/dev/null
  dd if=/dev/md0 of=/run/right bs=1M iflag=direct status=none
  run mdadm -S /dev/md0
  emd_load start_timeout_ms=500
  wait_for 20 emd_runs emd0
  expect_equal "EMD's blocks" "$(blockdev --getss /dev/emd0)" 4096
  wait_for 20 emd_settled emd0
  first=$(emd_get emd0 '.members[0].offset_sectors')
  printf x | dd of=/run/nbd0/bad bs=1 seek=$((first + at)) conv=notrunc status=none
  expect "the other one fails" emdadm fail emd0 "${DISKS[1]}"
  wait_for 20 emd_has emd0 "$spare"
  wait_for 40 emd_settled emd0
  emdadm show
  expect_equal "disks that failed" "$(events member-failed | jq -r .slot | xargs)" 1
  expect_equal "the spare is a member" "$(emd_member_device emd0 1)" "$spare"
  dd if=/dev/emd0 of=/run/read bs=4k iflag=direct conv=noerror,sync status=none 2>/dev/null || true
  expect_equal "blocks that cannot be read" "$({ cmp -l /run/read /run/right || true; } | awk '{ print int(($1 - 1) / 4096) }' | uniq | xargs)" $((at / 8))
  expect "the member that it came from fails, too" emdadm fail emd0 "${DISKS[0]}"
  wait_for 20 emd_is emd0 degraded
  expect "they are written, where they are bad and nowhere else" dd if=/run/right of=/dev/emd0 bs=4k skip=$((at / 8)) seek=$((at / 8)) count=1 oflag=direct conv=notrunc status=none
  wait_for 20 emd_is_clean emd0
  expect "all of it" cmp /dev/emd0 /run/right
  expect_equal "disks that failed" "$(events member-failed | jq -r .slot | xargs)" "1 0"
}
