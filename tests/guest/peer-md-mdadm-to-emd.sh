# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Arrays that mdadm makes, with every superblock, are what EMD runs, and md again: same bytes, same states, nothing is
# synced that need not be. Healthy, with a member lost, rebuilt, with a spare; of a mirror's halves that md ran apart the newer
# one, and the other one stays as it is. (After a power cut: peer-dirty.)
# disks: 5x3M virtio
# cpus: 1
# emd: manual
# timeout: 300

# shellcheck source=tests/guest/lib-md.sh
source /emd/tests/guest/lib-md.sh

# A cell "spare5" is one of RAID 5 with a spare; 10f and 10o are RAID 10 with far and offset copies. Today's mdadm makes no RAID 0 with 0.90, which has no place for which of two layouts it is. (The other test has md run EMD's.)
WHOLE="1.2:0 1.2:1 1.2:5 1.2:spare5 1.2:lost 1.1:0 1.1:1 1.1:5 1.1:spare5 1.1:lost 1.0:0 1.0:1 1.0:5 1.0:spare5 1.0:lost 0.90:1 0.90:5 0.90:spare5 0.90:lost
  1.2:spare1 1.2:spare4 1.2:spare6 1.2:spare10 1.1:spare1 1.1:spare4 1.1:spare6 1.1:spare10 1.0:spare1 1.0:spare4 1.0:spare6 1.0:spare10 0.90:spare1 0.90:spare4 0.90:spare6 0.90:spare10 1.2:spare10f 1.1:spare10o 1.2:apart 1.0:apart 0.90:apart"
DAILY="1.2:0 1.2:1 1.2:5 1.2:lost 1.2:apart 1.1:1 1.0:spare5 0.90:lost"

boot_1() {
  local cell cells=$DAILY
  mapfile -t DISKS < <(disks)
  md_load
  ! whole || cells=$WHOLE
  for cell in $cells; do
    case ${cell#*:} in
    spare*) takes_the_spare "${cell%:*}" "${cell#*:spare}" ;;
    lost) lost_and_rebuilt "${cell%:*}" ;;
    apart) used_apart "${cell%:*}" ;;
    *) there_and_back "${cell%:*}" "${cell#*:}" ;;
    esac
    blank_all
  done
}

there_and_back() { # VERSION LEVEL
  local version=$1 level=$2 sum seed
  step "$version, RAID $level: from md to EMD, and back (RAID 5, and in the whole run all: twice)"
  local options=(-n3)
  [[ $level == 1 ]] || options+=(-c64)
  md_make "$version" "$level" "${options[@]}" "${DISKS[@]:0:3}"
  sum=$(fill /dev/md0 1)
  local seeds=(2)
  [[ $level != 5 ]] && ! whole || seeds=(2 4)
  for seed in "${seeds[@]}"; do
    md0_stop
    emd0_runs optimal "$sum"
    sum=$(fill /dev/emd0 "$seed")
    emd0_leaves
    expect_equal "mdadm calls it clean" "$(examined "${DISKS[1]}")" clean
    md0_runs 0 "$sum" "${DISKS[@]:0:3}"
    sum=$(fill /dev/md0 $((seed + 1)))
  done
  md0_stop
}

takes_the_spare() { # VERSION LEVEL
  local version=$1 level=$2 members=3 options=(-c64) sum
  case $level in
  1) members=2 options=() ;;
  6 | 10) members=4 ;;
  10?) members=4 level=10 options+=(-p "${2:2}2") ;;
  esac
  step "$version, RAID $level (${options[*]}) with a spare: EMD takes it when a member is lost"
  md_make "$version" "$level" -n$members -x1 "${options[@]}" "${DISKS[@]:0:members+1}"
  sum=$(fill /dev/md0 1)
  md0_stop
  emd0_runs optimal "$sum"
  expect_equal "a spare" "$(emdadm show --json | jq -r '[.sets[].disks[].role | select(. == "global-spare")] | length')" 1
  expect "a member is failed" emdadm fail emd0 "$(emd_member_device emd0 1)"
  wait_for 40 emd0_is optimal clean
  expect "the spare is a member" emd_has emd0 "${DISKS[members]}"
  sum=$(fill /dev/emd0 2)
  emd0_leaves
  md0_runs 0 "$sum" "${DISKS[@]:0:members+1}"
  md0_stop
}

used_apart() { # VERSION
  local version=$1 sum old half
  step "$version, a mirror's halves that md ran one after the other, each alone: EMD runs the newer one, and does not overwrite the other"
  md_make "$version" 1 -n2 "${DISKS[@]:0:2}"
  fill /dev/md0 1 >/dev/null
  md0_stop
  for half in 0 1 1; do
    mdadm -A --run /dev/md0 "${DISKS[half]}" >/run/mdadm.out 2>&1 || fail "mdadm -A: $(</run/mdadm.out)"
    sum=$(fill /dev/md0 $((half + 2)))
    md0_stop
  done
  old=$(sum "${DISKS[0]}")
  emd_load start_timeout_ms=500
  wait_for 60 emd_runs emd0
  expect_equal "EMD: state" "$(emd_state emd0)" degraded
  expect_equal "EMD has the bytes of the newer half" "$(sum /dev/emd0)" "$sum"
  sum=$(fill /dev/emd0 4)
  wait_for 20 emd0_is degraded clean # nothing is rebuilt
  expect "a note says why" grep -q "used apart" <(emdadm show)
  emd0_leaves
  expect_equal "the other half is as it was" "$(sum "${DISKS[0]}")" "$old"
  # Read again, by md and by EMD.
  md0_runs 1 "$sum" "${DISKS[1]}"
  md0_stop
  emd_load start_timeout_ms=500
  wait_for 60 emd_runs emd0
  expect_equal "EMD: state" "$(emd_state emd0)" degraded
  expect "by hand it is taken back" emdadm add emd0 "${DISKS[0]}"
  wait_for 40 emd0_is optimal clean
  emd0_leaves
  md0_runs 0 "$sum" "${DISKS[@]:0:2}"
  md0_stop
}

lost_and_rebuilt() { # VERSION
  local version=$1 sum
  step "$version, RAID 5 with a member lost: written to by EMD, rebuilt by EMD to a new disk"
  md_make "$version" 5 -n3 -c64 "${DISKS[@]:0:3}"
  fill /dev/md0 1 >/dev/null
  run mdadm -f /dev/md0 "${DISKS[1]}"
  sum=$(fill /dev/md0 3)
  md0_stop
  blkdiscard -f -z "${DISKS[1]}"
  emd_load start_timeout_ms=500
  wait_for 60 emd_runs emd0
  expect_equal "EMD: state" "$(emd_state emd0)" degraded
  expect_equal "EMD has the bytes that md wrote" "$(sum /dev/emd0)" "$sum"
  sum=$(fill /dev/emd0 4)
  emd0_leaves
  md0_runs 1 "$sum" "${DISKS[0]}" "${DISKS[2]}"
  md0_stop
  emd_load start_timeout_ms=500
  wait_for 60 emd_runs emd0
  expect "a new disk" emdadm add emd0 "${DISKS[4]}"
  wait_for 40 emd0_is optimal clean
  sum=$(fill /dev/emd0 5)
  emd0_leaves
  md0_runs 0 "$sum" "${DISKS[0]}" "${DISKS[2]}" "${DISKS[4]}"
  md0_stop
}
