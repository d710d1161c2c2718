# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# An array as a block device: limits stacked from its members, flush and FUA, discard and zeroes, statistics, holders in sysfs, members claimed.
# disks: 3x64M virtio, 3x64M scsi 512/4096, 2x64M scsi 4096
# timeout: 90

# limit ARRAY NAME: a queue limit.
limit() { cat "/sys/block/$1/queue/$2"; }

# ios ARRAY: reads and writes completed, and I/O in flight.
ios() { awk '{print $1, $5, $9}' "/sys/block/$1/stat"; }

boot_1() {
  local d array name sum
  mapfile -t d < <(disks)

  step "RAID5 on 512-byte disks: chunk and stripe are said, parity takes no discards"
  expect "created" emdadm create --format ddf --level raid5 --chunk 64K --name five --assume-clean "${d[@]:0:3}"
  array=emd0
  expect_equal "logical block" "$(limit $array logical_block_size)" 512
  expect_equal "smallest good I/O is a chunk" "$(limit $array minimum_io_size)" 65536
  expect_equal "best I/O is a stripe's data" "$(limit $array optimal_io_size)" 131072
  expect_equal "no discards" "$(limit $array discard_max_bytes)" 0
  expect_equal "no write-zeroes" "$(limit $array write_zeroes_max_bytes)" 0
  expect_equal "a write cache that can be flushed" "$(limit $array write_cache)" "write back"
  expect_equal "FUA" "$(limit $array fua)" 1
  expect_equal "pages do not change while they are written" "$(limit $array stable_writes)" 1

  step "members are claimed, and shown in sysfs"
  for name in "${d[@]:0:3}"; do
    name=${name#/dev/}
    [[ -e /sys/block/$array/slaves/$name ]] || fail "$name is no slave of $array"
    [[ -e /sys/block/$name/holders/$array ]] || fail "$array is no holder of $name"
  done
  say "ok: slaves and holders"
  modprobe dm_mod
  expect "a free disk can be claimed" dmsetup create friend --table "0 2048 linear ${d[3]} 0"
  dmsetup remove --retry friend
  expect_failure "a member cannot be claimed by another" dmsetup create thief --table "0 2048 linear ${d[0]} 0"

  step "statistics count what users do, once"
  local before after
  read -r -a before < <(ios $array)
  dd if=/dev/zero of=/dev/$array bs=64K count=16 oflag=direct 2>/dev/null
  dd if=/dev/$array of=/dev/null bs=64K count=8 iflag=direct 2>/dev/null
  read -r -a after < <(ios $array)
  expect_equal "reads" "$((after[0] - before[0]))" 8
  expect_equal "writes" "$((after[1] - before[1]))" 16
  expect_equal "nothing in flight" "${after[2]}" 0

  step "fsync and O_DSYNC work, zeroes without write-zeroes too"
  dd if=/dev/urandom of=/dev/$array bs=4K count=64 oflag=direct,dsync 2>/dev/null || fail "O_DSYNC"
  dd if=/dev/urandom of=/dev/$array bs=64K count=64 conv=fsync 2>/dev/null || fail "fsync"
  expect "zeroes" blkdiscard --zeroout --offset 1048576 --length 1048576 /dev/$array
  sum=$(dd if=/dev/$array bs=1M skip=1 count=1 iflag=direct 2>/dev/null | tr -d '\0' | wc -c)
  expect_equal "bytes that are not zero there" "$sum" 0
  expect "stopped" emdadm stop $array

  step "RAID1 on disks with physical blocks of 4096 bytes: discards and zeroes reach all members"
  expect "created" emdadm create --format ddf --level raid1 --name one --assume-clean "${d[@]:3:2}"
  array=emd0
  expect_equal "logical block" "$(limit $array logical_block_size)" 512
  expect_equal "physical block" "$(limit $array physical_block_size)" 4096
  (($(limit $array discard_max_bytes) > 0)) || fail "no discards, though the members take them"
  dd if=/dev/urandom of=/dev/$array bs=1M count=4 oflag=direct 2>/dev/null
  expect "zeroes" blkdiscard --zeroout --length 2097152 /dev/$array
  sum=$(dd if=/dev/$array bs=1M count=2 iflag=direct 2>/dev/null | tr -d '\0' | wc -c)
  expect_equal "bytes that are not zero there" "$sum" 0
  expect "discard" blkdiscard --offset 2097152 --length 1048576 /dev/$array
  expect_equal "the copies are the same" \
    "$(dd if="${d[3]}" bs=1M count=4 iflag=direct 2>/dev/null | sha256sum)" \
    "$(dd if="${d[4]}" bs=1M count=4 iflag=direct 2>/dev/null | sha256sum)"
  expect "stopped" emdadm stop $array

  step "4096-byte logical blocks: smaller I/O is refused by the block layer"
  expect "created" emdadm create --format ddf --level raid0 --name four --chunk 64K "${d[@]:6:2}"
  array=emd0
  expect_equal "logical block" "$(limit $array logical_block_size)" 4096
  expect_failure "512 bytes" dd if=/dev/zero of=/dev/$array bs=512 count=1 oflag=direct
  expect "4096 bytes" dd if=/dev/zero of=/dev/$array bs=4096 count=1 oflag=direct
  expect "stopped" emdadm stop $array
}
