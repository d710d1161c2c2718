# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# More disks are pulled out than redundancy bears, under a filesystem that is being written: writers get an error, the array
# ends as failed and can be stopped; when the disks are back, every file that was acknowledged is there and fsck has nothing
# to say.
# disks: 8x52M scsi
# emd: manual
# timeout: 150

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

BYTES=60000 # of each file
FORMAT=ddf

boot_1() {
  # Nothing is started without all its disks while they come back, one after the other, however long that takes; what missed something by then is rebuilt.
  modprobe emd clean_ms=200 start_timeout_ms=60000 take_back=2
  beyond raid6 4 "disk1 disk3 disk4" --chunk 16K --size 24M --log
  beyond raid1 2 "disk1 disk2" --size 16M
  whole || return 0
  beyond raid10 4 "disk1 disk2" --chunk 16K --size 24M
  beyond raid5 3 "disk2 disk3" --chunk 16K --size 24M
  beyond raid5 4 "disk2 disk3" --chunk 16K --size 24M --log
  # Both hold data of each stripe: without a log the write that the second one's loss cuts takes what the first one held with it (the write hole).
  beyond raid4 3 "disk1 disk2" --layout parity-last --chunk 16K --size 24M --log
  beyond raid60 8 "disk1 disk2 disk4" --chunk 16K --size 48M --spans 2 --log
  beyond raid50 6 "disk1 disk2" --chunk 16K --size 40M --spans 2
  beyond raid1e 5 "disk2 disk3" --chunk 16K --size 40M
  FORMAT=md-1.2
  beyond raid10 4 "disk1 disk2" --layout far=2 --chunk 16K --size 24M
  beyond raid10 3 "disk2 disk3" --layout offset=2 --chunk 16K --size 24M
}

# beyond LEVEL MEMBERS DISKS OPTION...
beyond() {
  local level=$1 members=$2 lost=$3 device disk writer acknowledged seed
  shift 3
  step "$level of $members loses $lost"
  for device in $(disks); do blkdiscard -q -f -z "$device" 2>/dev/null || true; done
  mapfile -t devices < <(disks)
  expect "created" emdadm create -e "$FORMAT" -l "$level" -n files --assume-clean --force "$@" "${devices[@]:0:members}"
  wait_for 10 test -b /dev/emd0
  expect "mkfs.ext4" mkfs.ext4 -qF /dev/emd0
  mkdir -p /mnt/files
  mount /dev/emd0 /mnt/files
  echo 0 >/run/acknowledged
  write_files &
  writer=$!
  wait_for 20 has_acknowledged 3
  # All at once: what the first one's loss is recorded on may be on its way out.
  for disk in $lost; do host unplug "$disk"; done
  # It writes until it sees an error.
  wait "$writer" || fail "the writer ended otherwise"
  acknowledged=$(</run/acknowledged)
  say "$acknowledged files were acknowledged"
  wait_for 20 emd_is emd0 failed
  umount /mnt/files
  expect_failure "a read fails" dd if=/dev/emd0 of=/dev/null bs=1M iflag=direct
  expect "the array can be stopped" emdadm stop emd0

  for disk in $lost; do plug "$disk"; done
  wait_for 20 all_are_here "$members"
  run emdadm scan --degraded --force
  wait_for 20 test -b /dev/emd0
  wait_for 60 emd_settled emd0
  mount /dev/emd0 /mnt/files
  for ((seed = 1; seed <= acknowledged; seed++)); do
    known "$seed" $BYTES | cmp -s - "/mnt/files/file$seed" || fail "file$seed is not what was acknowledged"
  done
  umount /mnt/files
  expect "fsck.ext4" fsck.ext4 -fn /dev/emd0
  expect "deleted" emdadm delete --force "$(emdadm list --json | jq -r '.sets[0].id')"
}

# Files, one after the other, each on disk before it counts. Up to a hundred: whoever loses disks is faster.
write_files() {
  local seed
  for ((seed = 1; seed < 100; seed++)); do
    known "$seed" $BYTES | dd of="/mnt/files/file$seed" bs=60000 conv=fsync iflag=fullblock status=none || return 0
    echo "$seed" >/run/acknowledged
  done
  # Over again, so that there is a write when disks go.
  while dd if=/dev/zero of=/mnt/files/more bs=60000 count=1 conv=fsync status=none; do :; done
}

has_acknowledged() { (($(</run/acknowledged) >= $1)); }

all_are_here() { (($(emdadm show --json | jq "[.sets[].disks[] | select(.device != null)] | length") >= $1)); }
