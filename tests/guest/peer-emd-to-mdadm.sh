# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# DDF volumes that EMD makes, of every level that mdadm knows, healthy, with a member lost, rebuilt, and with a spare, are what mdadm reads
# and md runs: same bytes, same states, and nothing is synced again. Then back (in the whole run twice). (After a power cut: peer-dirty.)
# disks: 5x72M virtio
# cpus: 1
# emd: manual
# timeout: 300

# shellcheck source=tests/guest/lib-peer.sh
source /emd/tests/guest/lib-peer.sh

ASSUME=()

boot_1() {
  mapfile -t DISKS < <(disks)
  emd_load

  # Every volume has the disk that mdadm is told of last: so it starts none before it has seen them all.
  # mdadm 4.4 knows no RAID 4 with parity first, no right-symmetric RAID 5, no mirror of more than three, no spans but of mirrors; it takes RAID 1E
  # with copies in the next row for md's far layout, and md is built without concatenations.
  step "all levels on one set"
  first r5ls raid5 --size 3M --chunk 64K "${DISKS[@]:0:4}"
  add_volume r0 raid0 --size 2496K --chunk 32K "${DISKS[@]:1:3}"
  add_volume r1 raid1 --size 1M "${DISKS[@]:2:2}"
  ! whole || add_volume r1x3 raid1 --size 1M "${DISKS[@]:1:3}"
  add_volume r4 raid4 --size 2M --chunk 16K "${DISKS[@]:1:3}"
  ! whole || add_volume r5la raid5 --layout left-asymmetric --size 2M --chunk 16K "${DISKS[@]:1:3}"
  add_volume r5ra raid5 --layout right-asymmetric --size 3M --chunk 128K "${DISKS[@]:0:4}"
  ! whole || add_volume r6c raid6 --layout ddf-N-continue --size 2M --chunk 32K "${DISKS[@]:0:4}"
  add_volume r6n raid6 --layout ddf-N-restart --size 2M --chunk 64K "${DISKS[@]:0:4}"
  ! whole || add_volume r6z raid6 --layout ddf-zero-restart --size 2M --chunk 16K "${DISKS[@]:0:4}"
  add_volume r10 raid10 --size 2M --chunk 64K "${DISKS[@]:0:4}"
  add_volume r1e raid1e --layout near=2 --size 2M --chunk 32K "${DISKS[@]:0:4}"
  there_and_back optimal 1 "${DISKS[@]:0:4}"
  ! whole || there_and_back optimal 3 "${DISKS[@]:0:4}"

  # Those above were initialised. The disks are blank, so there is nothing to do.
  whole || ASSUME=(--assume-clean)
  step "RAID 6 and 10 with a member lost, and rebuilt to a new disk"
  made_again
  first r6 raid6 --size 3M --chunk 64K "${DISKS[@]:0:4}"
  add_volume r10 raid10 --size 3M --chunk 64K "${DISKS[@]:0:4}"
  lost_and_rebuilt 4 r6 r10

  # mdmon would fill a lost place of r1 from any fourth disk.
  step "RAID 1, 4, 5, 1E of three with a member lost, and rebuilt to a new disk"
  made_again
  first r5 raid5 --size 3M --chunk 64K "${DISKS[@]:0:3}"
  add_volume r1 raid1 --size 1M "${DISKS[@]:0:3}"
  add_volume r4 raid4 --size 2M --chunk 32K "${DISKS[@]:0:3}"
  add_volume r1e raid1e --layout near=2 --size 3M --chunk 32K "${DISKS[@]:0:3}"
  lost_and_rebuilt 3 r5 r1 r4 r1e

  step "a spare of EMD's: md takes it when a member is lost"
  made_again
  first r5 raid5 --size 3M --chunk 64K --spare "${DISKS[3]}" "${DISKS[@]:0:3}"
  md_takes_the_spare 3 r5
  if whole; then
    made_again
    first r6 raid6 --size 2M --chunk 32K --spare "${DISKS[4]}" "${DISKS[@]:0:4}"
    md_takes_the_spare 4 r6
    made_again
    first r4 raid4 --size 2M --chunk 16K --spare "${DISKS[3]}" "${DISKS[@]:0:3}"
    md_takes_the_spare 3 r4
    made_again
    first r1 raid1 --size 1M --spare "${DISKS[2]}" "${DISKS[@]:0:2}"
    md_takes_the_spare 2 r1
    made_again
    first r10 raid10 --size 2M --chunk 64K --spare "${DISKS[4]}" "${DISKS[@]:0:4}"
    md_takes_the_spare 4 r10
    made_again
    first r1e raid1e --layout near=2 --size 3M --chunk 32K --spare "${DISKS[3]}" "${DISKS[@]:0:3}"
    emd_takes_the_spare 3 r1e
  fi
}

# first NAME LEVEL OPTION|DISK...: a new set with its first volume.
first() {
  local name=$1 level=$2
  shift 2
  SUMS=([$name]="")
  expect "$level" emdadm create -e ddf -l "$level" -n "$name" "${ASSUME[@]}" "$@"
  SET=$(emdadm show --json | jq -r '.sets[0].id')
}

add_volume() { # NAME LEVEL OPTION|DISK...
  local name=$1 level=$2
  shift 2
  SUMS[$name]=""
  expect "$level" emdadm create --set "$SET" -l "$level" -n "$name" "${ASSUME[@]}" "$@"
}

# made_again: nothing is left of the set, nor of what its lost disk says.
made_again() {
  local device
  emd_leaves
  for device in "${DISKS[@]}"; do blkdiscard -f -z "$device"; done
  emd_load
}

# lost_and_rebuilt MEMBERS NAME...: of the first MEMBERS disks one is lost in EMD, and DISKS[MEMBERS] takes its place.
lost_and_rebuilt() {
  local members=$1 name
  shift
  emd_fill 2
  wait_for 30 emd_all optimal clean
  expect "a member is failed" emdadm fail "$1" "${DISKS[1]}"
  for name; do wait_for 10 emd_lacks "$name"; done
  emd_fill 3
  USED=("${DISKS[0]}" "${DISKS[@]:2:members-2}")
  md_takes "${USED[@]}"
  md_has "$@"
  md_stop

  emd_load
  for name; do wait_for 20 emd_node "$name"; done
  for name; do emd_has "$name" "${DISKS[members]}" || expect "$name: a new disk" emdadm add "$name" "${DISKS[members]}"; done
  wait_for 60 emd_all optimal -
  emd_fill 4
  USED+=("${DISKS[members]}")
  there_and_back optimal 5 "${USED[@]}"
  ! whole || there_and_back optimal 7 "${USED[@]}"
}

# md_takes_the_spare MEMBERS NAME: DISKS[MEMBERS], which is the spare, takes the place of one that is lost in md.
md_takes_the_spare() {
  local members=$1 name=$2 spare=${DISKS[$1]}
  emd_fill 1
  # The spare first: mdmon takes a disk that comes when the volume runs already for a new one, with another reference.
  md_takes "$spare" "${DISKS[@]:0:members}"
  md_has "$name"
  run mdadm -f "${MD_NODES[$name]}" "${DISKS[1]}"
  # md starts it when the array is written to.
  md_fill 2
  wait_for 20 md_gives_place "$name" "$spare"
  md_wait "$name"
  md_stop
  # It would be the older half of a set of two histories.
  blkdiscard -f -z "${DISKS[1]}"
  emd_takes_rebuilt "$spare" "${DISKS[0]}" "${DISKS[@]:2:members-2}"
  expect "the spare is a member" emd_has "$name" "$spare"
}

# emd_takes_the_spare MEMBERS NAME: the same of a RAID 1E: mdmon 4.4 gives no disk the place of one that such a volume lost, so EMD does when it has it again.
emd_takes_the_spare() {
  local members=$1 name=$2 spare=${DISKS[$1]}
  emd_fill 1
  md_takes "$spare" "${DISKS[@]:0:members}"
  md_has "$name"
  run mdadm -f "${MD_NODES[$name]}" "${DISKS[1]}"
  wait_for 20 md_lost "$name" 1
  md_fill 2
  md_stop
  blkdiscard -f -z "${DISKS[1]}"
  emd_finds optimal
  expect "the spare is a member" emd_has "$name" "$spare"
  there_and_back optimal 3 "$spare" "${DISKS[0]}" "${DISKS[@]:2:members-2}"
}

emd_lacks() { [[ $(emd_members "$1") =~ failed|missing ]]; }
