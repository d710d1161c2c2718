# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The logical block that an array of md's records: with EMD it stays what it was when the member that it came from is away, and partitions are where they were. EMD's arrays have one for md.
# disks: 1x24M scsi 4096, 2x24M virtio
# cpus: 1
# emd: manual
# timeout: 90

# shellcheck source=tests/guest/lib-md.sh
source /emd/tests/guest/lib-md.sh

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
}
