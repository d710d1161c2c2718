# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What arrays take of the machine's memory: what was taken is given back when they are gone, and writes that wait, however many they are, take little.
# disks: 5x160M virtio
# emd: manual
# timeout: 150

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

KIB_OF_ROUNDS=4096 # that may be gone after ROUNDS rounds. One array's ops alone are 384 KiB
ROUNDS=16
WRITES=16384           # that are in flight, of 4 KiB
KIB_OF_WRITES=$((40 << 10)) # that they may take. See below

# used: KiB that are neither free nor in use by programs or for files; what waits at processors to be given out again counts as free. In REPLY; SLAB is the part of slabs that is not reclaimed.
used() {
  local word value rest lines free=0 total=0 other=0 pages=0
  echo 3 >/proc/sys/vm/drop_caches
  while read -r word value rest; do
    case $word in
      MemTotal:) total=$value ;;
      MemFree:) free=$value ;;
      Cached: | Buffers: | AnonPages: | SReclaimable: | PageTables:) other=$((other + value)) ;;
      SUnreclaim:) SLAB=$value ;;
    esac
  done </proc/meminfo
  # At one go: who seeks in it for each line misses some when numbers before them get longer meanwhile.
  mapfile -t lines </proc/zoneinfo
  for rest in "${lines[@]}"; do
    [[ ! $rest =~ ^\ *count:\ *([0-9]+) ]] || pages=$((pages + BASH_REMATCH[1]))
  done
  REPLY=$((total - free - other - pages * 4))
}

# a_life LEVEL MEMBERS OPTION...: of an array.
a_life() {
  local level=$1 members=$2 set
  shift 2
  emdadm create --format ddf --level "$level" --name life --size 8M --assume-clean --force "$@" "${DISKS[@]:0:members}" >/dev/null || fail "$level cannot be created"
  wait_for 10 emd_runs emd0
  fill /dev/emd0 1 >/dev/null
  emdadm fail emd0 "${DISKS[0]}" >/dev/null || fail "no member can be failed"
  emdadm add emd0 "${DISKS[members]}" >/dev/null || fail "no disk can be added"
  wait_for 30 emd_is emd0 optimal
  wait_for 10 emd_has_task emd0 null
  set=$(emdadm show --json | jq -r '.sets[0].id')
  emdadm stop emd0 >/dev/null || fail "it cannot be stopped"
  emdadm scan >/dev/null
  wait_for 10 emd_runs emd0
  emdadm delete --force "$set" >/dev/null || fail "it cannot be deleted"
  wipefs -qa "${DISKS[@]}"
}

given_back() {
  local round before slab gone
  step "arrays that are gone have given back their memory"
  for ((round = 0; round < ROUNDS + 4; round++)); do
    # Some come before what is measured: the kernel keeps what it has made for the first ones.
    if ((round == 4)); then
      used
      before=$REPLY slab=$SLAB
    fi
    case $((round % 4)) in
      0) a_life raid1 2 ;;
      1) a_life raid5 3 --chunk 64K ;;
      2) a_life raid5 3 --chunk 64K --log ;;
      3) a_life raid6 4 --chunk 64K ;;
    esac
    # shellcheck disable=SC2119
    ((round % 8 != 7)) || emd_reload
  done
  used
  gone=$((REPLY - before))
  say "after $ROUNDS more arrays $gone KiB are gone, $((SLAB - slab)) KiB of them in slabs"
  ((gone <= KIB_OF_ROUNDS)) || fail "$gone KiB are gone"
  ((SLAB - slab <= KIB_OF_ROUNDS / 2)) || fail "$((SLAB - slab)) KiB are gone in slabs"
}

written_back() { [[ $(grep '^nr_writeback ' /proc/vmstat) =~ \ ([0-9]+)$ ]] && ((BASH_REMATCH[1] >= $1)); }

written() {
  fio --name=w --filename=/dev/emd0 --allow_file_create=0 --rw=write:4k --bs=4k --size=$((WRITES * 8))K --io_size=$((WRITES * 4))K --verify=crc32c --do_verify=0 "$@" >/run/fio.out 2>&1 || fail "fio: $(tail -n 3 /run/fio.out)"
}

writes_in_flight() {
  local disk before taken hold program members=()
  step "writes that wait take little"
  for disk in "${DISKS[@]:0:3}"; do
    dmsetup create "held-${disk##*/}" --table "0 $(blockdev --getsz "$disk") linear $disk 0"
    members+=("/dev/dm-${#members[@]}")
  done
  # Each of the writes is a lane of its own: only the first chunk of each stripe is written. No regions, and dirty all the time: what is in flight waits for members, not for a record.
  expect "created" emdadm create --format md-1.2 --level raid5 --name many --chunk 4K --size $((WRITES * 8))K --assume-clean --force "${members[@]}"
  wait_for 10 emd_runs emd0
  # Who closes it last has it written.
  exec {hold}<>/dev/emd0
  known 1 4096 | dd of=/dev/emd0 bs=4k oflag=direct conv=notrunc status=none
  wait_for 10 emd_is_dirty emd0
  # Nothing is written before it is said.
  echo 0 >/proc/sys/vm/dirty_writeback_centisecs
  echo 80 >/proc/sys/vm/dirty_ratio
  echo 75 >/proc/sys/vm/dirty_background_ratio
  written
  for disk in "${DISKS[@]:0:3}"; do dmsetup suspend --noflush --nolockfs "held-${disk##*/}"; done
  used
  before=$REPLY
  sync /dev/emd0 &
  program=$!
  wait_for 60 written_back $((WRITES - 64))
  used
  taken=$((REPLY - before))
  for disk in "${DISKS[@]:0:3}"; do dmsetup resume "held-${disk##*/}"; done
  say "$WRITES writes in flight take $taken KiB"
  # A bio of the block device's and a carrier for each; 2048 ops of 3 KiB, and buffers for these: 22 MiB when this was written. With an op for each write it was 67 MiB.
  ((taken <= KIB_OF_WRITES)) || fail "$WRITES writes in flight take $taken KiB"
  wait $program || fail "they are not written"
  exec {hold}>&-
  echo 3 >/proc/sys/vm/drop_caches
  written --verify_only
  say "ok: all of them are there"
  expect "a check" emdadm check --wait emd0
  expect_equal "places that do not agree" "$(emd_get emd0 '.mismatches | length')" 0
  expect "deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')"
  for disk in "${DISKS[@]:0:3}"; do dmsetup remove --retry "held-${disk##*/}"; done
}

boot_1() {
  mapfile -t DISKS < <(disks)
  modprobe dm_mod
  # A write makes it dirty for longer than it is needed.
  modprobe emd clean_ms=60000
  writes_in_flight
  # shellcheck disable=SC2119
  emd_reload
  given_back
}
