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

# A cell "lost5" is one of RAID 5 with a spare, and what becomes of it; 10f and 10o are RAID 10 with far and offset copies.
WHOLE="1.2:raid0 1.2:raid1 1.2:raid5 1.2:lost5 1.1:raid0 1.1:raid1 1.1:raid5 1.1:lost5 1.0:raid0 1.0:raid1 1.0:raid5 1.0:lost5 0.90:raid0 0.90:raid1 0.90:raid5 0.90:lost5
  1.2:lost1 1.2:lost4 1.2:lost6 1.2:lost10 1.1:lost1 1.1:lost4 1.1:lost6 1.1:lost10 1.0:lost1 1.0:lost4 1.0:lost6 1.0:lost10 0.90:lost1 0.90:lost4 0.90:lost6 0.90:lost10 1.2:lost10f 1.0:lost10o"
DAILY="1.2:raid5 1.2:lost5 1.1:raid5 1.0:raid1 0.90:raid0 0.90:raid5"

boot_1() {
  local cell cells=$DAILY
  mapfile -t DISKS < <(disks)
  emd_load
  ! whole || cells=$WHOLE
  for cell in $cells; do
    if [[ $cell == *:lost* ]]; then spare_and_lost "${cell%:*}" "${cell#*:lost}"; else there_and_back "${cell%:*}" "${cell#*:}"; fi
  done
}

there_and_back() { # VERSION LEVEL
  local version=$1 level=$2 sum seed seeds=(2) name=(-n "box:data")
  ! whole || seeds=(2 4)
  [[ $version != 0.90 ]] || name=()
  step "$version, $level: made by EMD, run by md, and back (in the whole run twice)"
  expect "$level" emdadm create -e "md-$version" -l "$level" "${name[@]}" "${DISKS[@]:0:3}"
  wait_for 40 emd0_is optimal clean
  sum=$(fill /dev/emd0 1)
  emd0_leaves
  expect_equal "mdadm calls it clean" "$(examined "${DISKS[1]}")" clean
  expect_equal "mdadm has the version" "$(mdadm -E "${DISKS[0]}" | sed -n 's/^ *Version : \([0-9.]*\).*/\1/p' | cut -c 1-"${#version}")" "$version"
  expect_equal "mdadm has the level" "$(mdadm -E "${DISKS[0]}" | sed -n 's/^ *Raid Level : //p')" "$level"
  for seed in "${seeds[@]}"; do
    md0_runs 0 "$sum" "${DISKS[@]:0:3}"
    sum=$(fill /dev/md0 "$seed")
    md0_stop
    emd0_runs optimal "$sum"
    [[ $seed == "${seeds[-1]}" ]] || { sum=$(fill /dev/emd0 $((seed + 1))) && emd0_leaves; }
  done
  expect "deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')"
  expect_equal "mdadm finds nothing any more" "$(mdadm -E "${DISKS[0]}" 2>&1 | grep -c -i 'magic' || true)" 0
}

spare_and_lost() { # VERSION LEVEL
  local version=$1 level=$2 members=3 lost=2 options=() sum
  case $level in
  1) members=2 lost=1 ;;
  6 | 10) members=4 ;;
  10f) members=4 level=10 options=(--layout far=2) ;;
  10o) members=4 level=10 options=(--layout offset=2) ;;
  esac
  step "$version, RAID $level ${options[*]} with a spare: a member is lost in md, the spare takes its place"
  expect "raid$level" emdadm create -e "md-$version" -l "raid$level" "${options[@]}" --spare "${DISKS[members]}" "${DISKS[@]:0:members}"
  wait_for 40 emd0_is optimal clean
  sum=$(fill /dev/emd0 3)
  emd0_leaves
  md0_runs 0 "$sum" "${DISKS[@]:0:members+1}"
  expect_equal "mdadm has the spare" "$(mdadm -D /dev/md0 | sed -n 's/^ *Spare Devices : //p')" 1
  run mdadm -f /dev/md0 "${DISKS[0]}"
  wait_for 40 md0_is_synced
  sum=$(fill /dev/md0 4)
  md0_stop

  step "$version, RAID $level with a member lost"
  # It is old, and EMD would take it back.
  blkdiscard -f -z "${DISKS[0]}"
  emd0_runs optimal "$sum"
  expect_equal "the spare is a member" "$(emd_member_device emd0 0)" "${DISKS[members]}"
  expect "a member is failed" emdadm fail emd0 "$(emd_member_device emd0 $lost)"
  wait_for 10 emd_lacks_one
  sum=$(fill /dev/emd0 5)
  emd0_leaves
  # mdadm is given all that has a superblock, also what was lost.
  md0_runs 1 "$sum" "${DISKS[@]:1:members}"
  run mdadm --add /dev/md0 "${DISKS[0]}"
  wait_for 40 md0_is_synced
  sum=$(fill /dev/md0 6)
  md0_stop
  emd0_runs optimal "$sum"
  expect "deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')"
  blank_all
}

emd_lacks_one() { ask emd0 state && [[ $REPLY =~ ^(degraded|partially-optimal)$ ]]; }
