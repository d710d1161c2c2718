# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# RAID 0 of md's over disks of three sizes, in zones, in either layout: EMD has md's bytes, md has EMD's.
# disks: 1x8M virtio, 1x11M virtio, 1x15M virtio
# cpus: 1
# emd: manual
# timeout: 60

# shellcheck source=tests/guest/lib-md.sh
source /emd/tests/guest/lib-md.sh

boot_1() {
  local layout sum
  mapfile -t DISKS < <(disks)
  md_load
  for layout in original alternate; do
    step "layout $layout"
    blank_all
    md_make 1.2 0 -n3 --chunk=16 --layout=$layout "${DISKS[@]}"
    sum=$(fill /dev/md0 1)
    run mdadm -S /dev/md0
    emd_load
    wait_for 20 emd_runs emd0
    expect_equal "EMD has the bytes that md wrote" "$(sum /dev/emd0)" "$sum"
    sum=$(fill /dev/emd0 2)
    expect "fio writes and verifies across zones" fio --name=zones --filename=/dev/emd0 --rw=randwrite --bsrange=512-64k --bs_unaligned=0 --blockalign=512 --ioengine=libaio \
      --iodepth=4 --direct=1 --verify=crc32c --verify_fatal=1 --do_verify=1 --size=2M --offset=19M
    sum=$(sum /dev/emd0)
    emdadm stop --all >/dev/null
    rmmod emd
    run mdadm -A /dev/md0 "${DISKS[@]}"
    expect_equal "md has the bytes that EMD wrote" "$(sum /dev/md0)" "$sum"
    run mdadm -S /dev/md0
  done
}
