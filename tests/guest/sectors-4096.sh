# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Disks of 4096-byte sectors: RAID5 and RAID1 with all that they go through on others, and partitions. In the whole run, Intel's and md's metadata on them are read
# and written by mdadm too.
# disks: 4x80M scsi 4096
# cpus: 1
# timeout: 120

# shellcheck source=tests/guest/lib-md.sh
source /emd/tests/guest/lib-md.sh
# After that: what mdadm says of Intel's metadata is read in another way.
# shellcheck source=tests/guest/lib-imsm.sh
source /emd/tests/guest/lib-imsm.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

boot_1() {
  mapfile -t DISKS < <(disks)
  level five raid5 3 "${DISKS[@]}" -- --chunk 32K --size 24M
  step "an array of 4096-byte sectors"
  expect "created" emdadm create -e ddf -l raid1 -n one --force --size 24M "${DISKS[@]:0:2}"
  expect_equal "its sectors" "$(blockdev --getss "/dev/$(emd_node one)")" 4096
  partitions one
  ! whole || with_mdadm
}

with_mdadm() {
  local version sum
  NAME=one
  erase_set
  step "Intel, made by EMD"
  blank
  SUMS=([five]="" [ten]="")
  expect "raid5" emdadm create -e imsm -l raid5 -n five --size 4M --chunk 16K "${DISKS[@]}"
  expect "raid10" emdadm create --set "$(emd_set)" -l raid10 -n ten --size 2M --chunk 64K "${DISKS[@]}"
  there_and_back_twice optimal 1 "${DISKS[@]}"
  expect "deleted" emdadm delete --force "$(emd_set)"
  emd_leaves

  step "Intel, made by mdadm"
  blank
  expect "a container" mdadm -CR /dev/md/imsm -e imsm -n 4 "${DISKS[@]}"
  SUMS=([five]="")
  MD_CONTAINER=/dev/md/imsm md_create five 5 4 2M -c64
  md_fill 1
  md_stop
  emd_takes optimal
  expect_agreement "$(emd_view)" "${DISKS[@]}"
  expect_equal "its sectors" "$(blockdev --getss "${EMD_NODES[five]}")" 4096
  there_and_back optimal 2 "${DISKS[@]}"
  expect "deleted" emdadm delete --force "$(emd_set)"

  for version in 1.2 1.0; do
    step "md $version, made by EMD"
    blank
    expect "raid5" emdadm create -e "md-$version" -l raid5 -n box:data --size 8M "${DISKS[@]:0:3}"
    wait_for 40 emd0_is optimal clean
    sum=$(fill /dev/emd0 1)
    emd0_leaves
    md0_runs 0 "$sum" "${DISKS[@]:0:3}"
    sum=$(fill /dev/md0 2)
    md0_stop
    emd0_runs optimal "$sum"
    emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')" >/dev/null
    emd_leaves
    step "md $version, made by mdadm"
    blank
    md_make "$version" 5 -n3 -z 8M -c64 --bitmap=internal "${DISKS[@]:0:3}"
    sum=$(fill /dev/md0 3)
    md0_stop
    emd0_runs optimal "$sum"
    expect_equal "its sectors" "$(blockdev --getss /dev/emd0)" 4096
    sum=$(fill /dev/emd0 4)
    emd0_leaves
    md0_runs 0 "$sum" "${DISKS[@]:0:3}"
    md0_stop
    emd_load
    wait_for 20 emd_runs emd0
    emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')" >/dev/null
  done
}

blank() {
  local device
  for device in "${DISKS[@]}"; do blkdiscard -f -z "$device" 2>/dev/null; done
}
