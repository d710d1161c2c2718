# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Arrays that EMD makes with every superblock of md are what mdadm reads and md runs: same bytes, same states, nothing is
# synced again. Healthy, with a member lost, rebuilt, with a spare. Then back.
# disks: 5x3M virtio
# emd: manual
# cpus: 1
# timeout: 300

# shellcheck source=tests/guest/lib-md.sh
source /emd/tests/guest/lib-md.sh

WHOLE="1.2:raid0 1.2:raid1 1.2:raid5 1.2:lost 1.1:raid0 1.1:raid1 1.1:raid5 1.1:lost 1.0:raid0 1.0:raid1 1.0:raid5 1.0:lost 0.90:raid0 0.90:raid1 0.90:raid5 0.90:lost"
DAILY="1.2:raid5 1.2:lost 1.1:raid5 1.0:raid1 0.90:raid0 0.90:raid5"

boot_1() {
  local cell cells=$DAILY
  mapfile -t DISKS < <(disks)
  emd_load
  ! whole || cells=$WHOLE
  for cell in $cells; do
    if [[ ${cell#*:} == lost ]]; then spare_and_lost "${cell%:*}"; else there_and_back "${cell%:*}" "${cell#*:}"; fi
  done
}

there_and_back() { # VERSION LEVEL
  local version=$1 level=$2 sum name=(-n "box:data")
  [[ $version != 0.90 ]] || name=()
  step "$version, $level: made by EMD, run by md, and back"
  expect "$level" emdadm create -e "md-$version" -l "$level" "${name[@]}" "${DISKS[@]:0:3}"
  wait_for 40 emd0_is optimal clean
  sum=$(fill /dev/emd0 1)
  emd0_leaves
  expect_equal "mdadm calls it clean" "$(examined "${DISKS[1]}")" clean
  expect_equal "mdadm has the version" "$(mdadm -E "${DISKS[0]}" | sed -n 's/^ *Version : \([0-9.]*\).*/\1/p' | cut -c 1-"${#version}")" "$version"
  expect_equal "mdadm has the level" "$(mdadm -E "${DISKS[0]}" | sed -n 's/^ *Raid Level : //p')" "$level"
  md0_runs 0 "$sum" "${DISKS[@]:0:3}"
  sum=$(fill /dev/md0 2)
  md0_stop
  emd0_runs optimal "$sum"
  expect "deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')"
  expect_equal "mdadm finds nothing any more" "$(mdadm -E "${DISKS[0]}" 2>&1 | grep -c -i 'magic' || true)" 0
}

spare_and_lost() { # VERSION
  local version=$1 sum
  step "$version, RAID 5 with a spare: a member is lost in md, the spare takes its place"
  expect "raid5" emdadm create -e "md-$version" -l raid5 --spare "${DISKS[3]}" "${DISKS[@]:0:3}"
  wait_for 40 emd0_is optimal clean
  sum=$(fill /dev/emd0 3)
  emd0_leaves
  md0_runs 0 "$sum" "${DISKS[@]:0:4}"
  expect_equal "mdadm has the spare" "$(mdadm -D /dev/md0 | sed -n 's/^ *Spare Devices : //p')" 1
  run mdadm -f /dev/md0 "${DISKS[0]}"
  wait_for 40 md0_is_synced
  sum=$(fill /dev/md0 4)
  md0_stop

  step "$version, RAID 5 with a member lost"
  # It is old, and EMD would take it back.
  blkdiscard -f -z "${DISKS[0]}"
  emd0_runs optimal "$sum"
  expect_equal "the spare is a member" "$(emd_member_device emd0 0)" "${DISKS[3]}"
  expect "a member is failed" emdadm fail emd0 "$(emd_member_device emd0 2)"
  wait_for 10 emd_is emd0 degraded
  sum=$(fill /dev/emd0 5)
  emd0_leaves
  # mdadm is given all that has a superblock, also what was lost.
  md0_runs 1 "$sum" "${DISKS[@]:1:3}"
  run mdadm --add /dev/md0 "${DISKS[4]}"
  wait_for 40 md0_is_synced
  sum=$(fill /dev/md0 6)
  md0_stop
  emd0_runs optimal "$sum"
  expect "deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')"
  blank_all
}
