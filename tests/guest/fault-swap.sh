# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The machine swaps to an array, has far less memory than is used, and members of that array are lost: what records a loss, takes a spare and rebuilds it
# needs no memory that only a write to the array could free. No page comes back with anything else than it had.
# disks: 1x352M virtio, 1x352M scsi, 3x352M virtio
# emd: manual
# run: whole
# timeout: 320
# Two of the kernel's own find no page now and then, go on without, and warn: the table of swap slots (mm/swapfile.c), and virtio's queue (it asks without
# waiting, and its block driver sends the request later). All others count.
# dmesg-allow: page allocation failure: order:0.* (swap_cluster_alloc_table|virtqueue_add_split)\+

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

LEFT=24    # MiB of memory that are left for all
RESERVE=8  # MiB that the kernel keeps
BEYOND=24  # MiB that pages of programs/swapped.c take beyond what is left, and what files in memory leave when they are swapped out
SWAP=256   # MiB of the volume: room for all pages and files at once, see below

# of_memory WORD: of /proc/meminfo, MiB.
of_memory() {
  local word value _
  while read -r word value _; do
    [[ $word != "$1:" ]] || echo $((value >> 10))
  done </proc/meminfo
}

# less_memory: what is free but for LEFT is put aside as huge pages, which nothing uses.
less_memory() {
  # As much as for a machine of that size.
  echo $((RESERVE << 10)) >/proc/sys/vm/min_free_kbytes
  echo 3 >/proc/sys/vm/drop_caches
  # What of it lies in too many pieces stays free.
  echo 1 >/proc/sys/vm/compact_memory
  echo $((($(of_memory MemFree) - LEFT) / 2)) >/proc/sys/vm/nr_hugepages
}

# swapped in|out: pages since the boot, in REPLY. The file is read at one go: who seeks in it for each line misses lines when numbers before them get
# longer meanwhile.
swapped() {
  local lines line
  mapfile -t lines </proc/vmstat
  REPLY=
  for line in "${lines[@]}"; do
    [[ $line != "pswp$1 "* ]] || REPLY=${line#* }
  done
  [[ $REPLY ]]
}

# swaps_on IN OUT: as many pages have gone each way.
swaps_on() { swapped in && ((REPLY >= $1)) && swapped out && ((REPLY >= $2)); }

# still_swaps: pages go in and out, a thousand more than now.
still_swaps() {
  local in out
  swapped in && in=$REPLY
  swapped out && out=$REPLY
  wait_for 20 swaps_on $((in + 1000)) $((out + 1000))
}

is_whole() { emd_is emd0 optimal && emd_has_task emd0 null; }

# swapping FORMAT LEVEL MEMBERS OPTION...: arrays over the first MEMBERS disks, the next one is a spare. The members are disk1 ...
swapping() {
  local format=$1 level=$2 members=$3 spare program used disk
  shift 3
  mapfile -t DISKS < <(disks)
  spare=${DISKS[members]}
  step "$format, $level: swapping"
  # Zeroes agree; what the last array left does not, in places that are not written.
  for disk in "${DISKS[@]}"; do blkdiscard -f -z "$disk"; done
  expect "created" emdadm create --format "$format" --level "$level" --name swap --assume-clean --force --size ${SWAP}M "$@" --spare "$spare" "${DISKS[@]:0:members}"
  wait_for 10 emd_runs emd0
  # A page that is changed while it is being written to a mirror may come to the copies as it was and as it is. Nobody reads that: it is written again, or
  # its place in swap space is free. (Parity asks for pages that stay as they are by itself, mirrors do not, nor do md's.)
  echo 1 >/sys/block/emd0/queue/stable_writes
  mkswap /dev/emd0 >/dev/null
  swapon /dev/emd0
  less_memory
  rm -f /run/stop
  used=$(($(of_memory MemFree) + $(of_memory Shmem) + BEYOND))
  say "$(of_memory MemFree) MiB are free, $(of_memory Shmem) MiB are files in memory, $used MiB are to be used"
  # What is in memory and in swap space at the same time (being written, or read back and not changed) has its place there, and the kernel may keep three times RESERVE
  # free: how much of it all stays in memory cannot be told, so there is a place for every page. These are pages of `swapped`, files (79 MiB of them when this was
  # written, with 40 MiB free: 143 + 79 MiB) and 4 MiB of other programs. With less, the machine may run out of memory however well the array does.
  ((used + $(of_memory Shmem) + 4 <= SWAP)) || fail "$SWAP MiB of swap space are too little for $used MiB and $(of_memory Shmem) MiB of files"
  /emd/bin/swapped $used 4 /run/stop 2>/run/swapped.err &
  program=$!
  still_swaps

  step "$format, $level: a member is failed"
  expect "failed" emdadm fail emd0 "${DISKS[0]}"
  wait_for 20 emd_has emd0 "$spare"
  still_swaps
  wait_for 40 is_whole
  expect "the failed one is taken out" emdadm remove emd0 "${DISKS[0]}"
  # It begins with what makes it swap space.
  wipefs -qa "${DISKS[0]}"
  expect "and is the next spare" emdadm spare emd0 "${DISKS[0]}"

  step "$format, $level: a disk is pulled out"
  unplug disk2
  wait_for 20 emd_has emd0 "${DISKS[0]}"
  still_swaps
  wait_for 40 is_whole

  step "$format, $level: every page is right"
  touch /run/stop
  wait $program || fail "$(</run/swapped.err)"
  say "ok: no page was wrong; $(grep '^pswp' /proc/vmstat | tr '\n' ' ')"
  echo 0 >/proc/sys/vm/nr_hugepages
  swapoff /dev/emd0
  wait_for 10 emd_is_clean emd0
  expect "checked" emdadm check --wait emd0
  expect_equal "places that do not agree" "$(emd_get emd0 '.mismatches | length')" 0
  expect "deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')"
  host blank disk2
  plug disk2
}

boot_1() {
  emd_load
  swapping ddf raid5 3 --chunk 64K
  swapping ddf raid1 2
  whole || return 0
  swapping ddf raid5 3 --chunk 64K --log
  swapping ddf raid6 4 --chunk 64K
  swapping ddf raid10 4 --chunk 64K
  swapping md-1.2 raid5 3 --chunk 64K
  swapping md-1.2 raid1 2
  swapping imsm raid5 3 --chunk 64K
}
