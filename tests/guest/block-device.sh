# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# An array as a block device: limits stacked from its members, flush and FUA, discard and zeroes (also of disks that advertise them and
# refuse them), errors of parts of large bios, buffers that members do not take, statistics, holders in sysfs, members claimed.
# disks: 3x64M virtio, 3x64M scsi 512/4096, 2x64M scsi 4096
# cpus: 1
# timeout: 90
# boot: plain

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

# limit ARRAY NAME: a queue limit.
limit() { cat "/sys/block/$1/queue/$2"; }

# ios ARRAY: what was completed so far: reads and their sectors, writes and theirs, discards and theirs, flushes; and I/O in flight.
ios() { awk '{print $1, $3, $5, $7, $12, $14, $16, $9}' "/sys/block/$1/stat"; }

# counted TEXT ARRAY WANTED: so much of all these since BEFORE was taken, which is taken anew; * is any number.
counted() {
  local now nth got=()
  read -r -a now < <(ios "$2")
  for nth in {0..6}; do got+=($((now[nth] - BEFORE[nth]))); done
  # shellcheck disable=SC2053 # a pattern
  [[ "${got[*]}; ${now[7]}" == $3 ]] || fail "$1: reads, sectors, writes, sectors, discards, sectors, flushes; in flight: ${got[*]}; ${now[7]}, wanted $3"
  say "ok: $1: counted"
  BEFORE=("${now[@]}")
}

# linked ARRAY MEMBER...: these are what sysfs shows as its members, and no others.
linked() {
  local array=$1 name
  shift
  expect_equal "slaves of $array" "$(cd "/sys/block/$array/slaves" && echo *)" "$(printf '%s\n' "$@" | sort | xargs)"
  for name; do [[ -e /sys/block/$name/holders/$array ]] || fail "$array is no holder of $name"; done
}

# flushes_of DISK...: how often each was flushed so far.
flushes_of() {
  local disk
  for disk; do awk '{ print $16 }' "/sys/block/${disk#/dev/}/stat"; done
}

# flushed TEXT COUNT DISK...: each as often as that at least since FLUSHES was taken, which is taken anew.
flushed() {
  local text=$1 count=$2 now nth
  shift 2
  mapfile -t now < <(flushes_of "$@")
  (($# && ${#now[@]} == $# && ${#FLUSHES[@]} == $#)) || fail "$text: $# disks, ${#FLUSHES[@]} numbers before and ${#now[@]} now"
  for nth in "${!now[@]}"; do
    ((now[nth] - FLUSHES[nth] >= count)) ||
      fail "$text: $1 .. : flushed $((now[nth] - FLUSHES[nth])) times in place $nth, wanted $count"
  done
  FLUSHES=("${now[@]}")
  say "ok: $text: $count"
}

# refusing_disks: four disks of scsi_debug, on which commands can be made to fail.
refusing_disks() {
  modprobe scsi_debug add_host=4 per_host_store=1 dev_size_mb=64 lbpu=1 lbpws=1 delay=0
  mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
  wait_for 10 all_debug_disks
}

all_debug_disks() { (($(debug_disks | wc -l) == 4)); }

debug_disks() { grep -lE '^scsi_debug' /sys/block/sd*/device/model | cut -d / -f 4; }

TRACING=/sys/kernel/tracing

# traced COMMAND...: runs it and keeps what was sent to disks meanwhile, and what ended, in /run/trace.
traced() {
  echo >$TRACING/trace
  echo 1 | tee $TRACING/events/block/block_{bio_queue,rq_complete}/enable >/dev/null
  "$@"
  echo 0 | tee $TRACING/events/block/block_{bio_queue,rq_complete}/enable >/dev/null
  cat $TRACING/trace >/run/trace
}

# order_of METADATA DISK...: what these disks were sent, as traced, in short: m for metadata (from that sector on), F for flushes, d for data; several of a kind are one.
# What does not wait for all that is of another kind before it has a ! in front, and what comes while some of the metadata is not flushed has a ?.
order_of() {
  local metadata=$1 disk numbers=
  shift
  for disk; do numbers+=" $(</sys/block/"${disk#/dev/}"/dev)"; done
  # TASK-PID [CPU] FLAGS TIME: EVENT: MAJOR,MINOR OPERATION [()] SECTOR + COUNT ...; of writes. What ends may be several that were sent.
  sed -nE 's/.*: block_(bio_queue|rq_complete): ([0-9]+),([0-9]+) (F?)[A-Z]*W[A-Z]* (\(\) )?([0-9]+) \+ ([0-9]+).*/\1 \2:\3 \4- \6 \7/p' /run/trace |
    awk -v numbers="$numbers " -v metadata="$metadata" '
      !index(numbers, " " $2 " ") { next }
      { count = $5 ? $5 : 1 }
      $1 == "rq_complete" { going -= count; next }
      {
        kind = $3 == "F-" && $5 == 0 ? "F" : $4 >= metadata ? "m" : "d"
        if (kind != last) {
          if (kind != "F" && waiting) order = order "?"
          order = order (going ? "!" : "") kind
          last = kind
        }
        going += count
        if (kind == "m" && !unflushed[$2]) { unflushed[$2] = 1; waiting++ }
        if (kind == "F" && unflushed[$2]) { unflushed[$2] = 0; waiting-- }
      }
      END { print order (going ? " and " going " sectors have not ended" : "") }'
}

# dirtied_first DISK...: what was traced is a write to a clean volume of these, of which DDF's metadata is beyond the first 31 MiB.
dirtied_first() {
  local order
  order=$(order_of $((31 << 11)) "$@")
  [[ $order =~ ^(mF){6,}d$ ]] || fail "phases, flushes and data were sent in this order: $order"
  say "ok: each phase is flushed before the next one, all of them before the data: $order"
}

# refuses DISK COMMAND...: these SCSI commands end with "invalid field in CDB" from now on.
refuses() {
  local disk=$1 command
  shift
  for command; do
    echo "2 1 $command 0 0 0x2 0x5 0x24 0x0" >"/sys/kernel/debug/scsi_debug/$(basename "$(readlink -f "/sys/block/$disk/device")")/error"
  done
}

# reads_of DISK...: how often they were read so far, all together.
reads_of() {
  local disk stat sum=0
  for disk; do
    read -ra stat <"/sys/block/${disk#/dev/}/stat"
    ((sum += stat[0]))
  done
  echo $sum
}

# streamed SIZE MOST DISK...: 6 MiB are written to the array one after the other, many at once, of that size each; the disks are read no more than so often for that.
streamed() {
  local size=$1 most=$2 before reads
  shift 2
  before=$(reads_of "$@")
  fio --name=stream --filename=/dev/emd0 --allow_file_create=0 --direct=1 --rw=write --bs="$size" --size=6M --ioengine=libaio --iodepth=16 >/run/fio.log 2>&1 || fail "fio: $(tail -n 5 /run/fio.log)"
  reads=$(($(reads_of "$@") - before))
  say "written by $size: $reads reads, $most at most"
  ((reads <= most))
}

# discarded DISK...: sectors that each was told to forget so far.
discarded() {
  local disk
  for disk; do awk '{ print $14 }' "/sys/block/${disk#/dev/}/stat"; done
}

# gaps_in_blocks DISK DISK: mirrors over disks with blocks of 4096 bytes that lie in one page, as their drivers want them. These two do not.
gaps_in_blocks() {
  local d=(/dev/nullb0 /dev/nullb1) plain=("$@")
  step "a write from buffers that no member takes is the user's mistake, and fails no member"
  modprobe null_blk nr_devices=2 gb=1 bs=4096 memory_backed=1 virt_boundary=1
  wait_for 10 test -b "${d[1]}"
  expect "created" emdadm create --format ddf --level raid1 --name gaps --size 8M --assume-clean "${d[@]}"
  expect_equal "logical block" "$(limit emd0 logical_block_size)" 4096
  known 8 $((1 << 20)) | dd of=/dev/emd0 bs=64K iflag=fullblock oflag=direct 2>/dev/null
  expect_equal "the write" "$(/emd/bin/odd-io gap /dev/emd0 8192 7)" "Invalid argument"
  expect_equal "no member is failed" "$(emd_members emd0)" "in-sync in-sync"
  expect_equal "nor is an error counted" "$(emd_get emd0 .write_errors)" 0
  expect "what is there is as it was" cmp -n $((1 << 20)) <(known 8 $((1 << 20))) <(bytes 0 $((1 << 20)))

  step "a member that joins has needs of its own: pages do not change while they are written, and reads of it have to wait"
  modprobe zram
  echo 64M >/sys/block/zram0/disksize
  expect_equal "before" "$(limit emd0 stable_writes)" 0
  linked emd0 nullb0 nullb1
  expect "failed" emdadm fail gaps "${d[0]}"
  expect "removed" emdadm remove gaps "${d[0]}"
  expect "added" emdadm add gaps /dev/zram0
  wait_for 30 emd_settled gaps
  expect_equal "after" "$(limit emd0 stable_writes)" 1
  linked emd0 nullb1 zram0
  [[ ! -e /sys/block/nullb0/holders/emd0 ]] || fail "emd0 still holds the disk that was replaced"
  expect "failed" emdadm fail gaps "${d[1]}"
  expect_equal "one of the new member" "$(/emd/bin/odd-io nowait /dev/emd0 0)" "Resource temporarily unavailable"
  expect "what is there is as it was" cmp -n $((1 << 20)) <(known 8 $((1 << 20))) <(bytes 0 $((1 << 20)))
  expect "deleted" emdadm delete --force gaps

  step "a member that is so without having said it takes such a write from other buffers"
  dmsetup create later --table "0 131072 linear ${plain[0]} 0"
  expect "created" emdadm create --format ddf --level raid1 --name gaps --size 8M /dev/dm-0 "${plain[1]}"
  expect "both are alike" emdadm wait gaps
  wait_for 10 emd_is_clean emd0
  dmsetup suspend later
  dd if="${plain[0]}" of=/dev/nullb0 bs=1M iflag=direct oflag=direct 2>/dev/null
  dmsetup load later --table "0 131072 linear /dev/nullb0 0"
  dmsetup resume later
  expect_equal "the array takes it" "$(/emd/bin/odd-io gap /dev/emd0 8192 7)" "done"
  expect_equal "the write" "$(bytes 8192 4096 | tr -d '\007' | wc -c)" 0
  expect_equal "no member is failed" "$(emd_members emd0)" "in-sync in-sync"
  expect_equal "nor is an error counted" "$(emd_get emd0 .write_errors)" 0
  expect "a check" emdadm check --wait gaps
  expect_equal "places that do not agree" "$(emd_get gaps '.mismatches | length')" 0
  expect "deleted" emdadm delete --force gaps
  dmsetup remove --retry later
  expect "removed" rmmod null_blk
}

# part_fails LEVEL DISK DISK: what is larger than the array takes at once comes in parts, and the block layer leaves in the last of them
# what became of those before. Some sectors of the first member fail; of RAID1, where it is the last good one.
part_fails() {
  local level=$1 disk nth chunk sector
  shift
  step "$level: a bio of 8 MiB of which only the first part fails has failed"
  for nth in 0 1; do
    dmsetup create "part$nth" --table "0 131072 linear $1 0"
    shift
  done
  expect "created" emdadm create --format ddf --level "$level" --name parts --assume-clean /dev/dm-0 /dev/dm-1
  expect_equal "without errors" "$(/emd/bin/odd-io whole-write /dev/emd0 0 8) $(/emd/bin/odd-io whole-read /dev/emd0 0 8)" "done done"
  if [[ $level == raid0 ]]; then
    timed "a read" 3 dd if=/dev/emd0 of=/dev/null bs=4K count=1 iflag=direct status=none
  else
    timed "a write" 7 dd if=/dev/zero of=/dev/emd0 bs=4K count=1 oflag=direct conv=notrunc status=none
  fi
  if [[ $level == raid1 ]]; then
    # Its last good member stays in use.
    expect "failed" emdadm fail parts /dev/dm-1
    wait_for 10 emd_is emd0 degraded
  fi
  dmsetup suspend part0
  dmsetup table part0 | {
    read -r _ _ _ disk _
    printf '%s\n' "0 1024 linear $disk 0" "1024 128 error" "1152 $((131072 - 1152)) linear $disk 1152"
  } | dmsetup load part0
  dmsetup resume part0
  expect_equal "a write" "$(/emd/bin/odd-io whole-write /dev/emd0 0 8)" "Input/output error"
  expect_equal "a read" "$(/emd/bin/odd-io whole-read /dev/emd0 0 8)" "Input/output error"
  expect_equal "where nothing fails" "$(/emd/bin/odd-io whole-write /dev/emd0 $((16 << 20)) 8)" "done"
  # The member's blocks next to those that fail, as the volume has them.
  chunk=$(($(limit emd0 minimum_io_size) / 512))
  for sector in 1016 1024 1144 1152; do
    nth=$sector
    [[ $level != raid0 ]] || nth=$((sector / chunk * chunk * 2 + sector % chunk))
    disk=failed
    ! dd if=/dev/emd0 of=/dev/null bs=4096 skip=$((nth / 8)) count=1 iflag=direct status=none 2>/dev/null || disk="read"
    expect_equal "the block at $sector" "$disk" "$( ((sector < 1024 || sector >= 1152)) && echo read || echo failed)"
  done
  expect "deleted" emdadm delete --force parts
  dmsetup remove --retry part0
  dmsetup remove --retry part1
}

# timed TEXT FIELD COMMAND...: part0 of /dev/emd0 answers late; the array's time in that field of its statistics, and that for which it was in use, are as long.
timed() {
  local text=$1 field=$2 before after began ended late nth
  shift 2
  read -ra before </sys/block/emd0/stat
  dmsetup suspend part0
  began=${EPOCHREALTIME/[.,]/}
  "$@" &
  wait_for 10 in_flight
  sleep 0.4
  dmsetup resume part0
  wait $! || fail "$text that is late"
  ended=${EPOCHREALTIME/[.,]/}
  read -ra after </sys/block/emd0/stat
  for nth in "$field" 9; do
    late=$((after[nth] - before[nth]))
    # Counted in ticks.
    ((late >= 300 && late <= (ended - began) / 1000 + 20)) || fail "$text that took $(((ended - began) / 1000)) ms: $late ms are counted in field $nth"
  done
  say "ok: $text that is late: its time is counted"
}

# in_flight: something that the array was asked for has not ended.
in_flight() {
  local stat
  read -ra stat </sys/block/emd0/stat && ((stat[8] > 0))
}

# five_of_zeroes: RAID5 over three of scsi_debug: lanes of zeroes are left to the disks, which forget what was there, and parity is true
# whatever they do.
five_of_zeroes() {
  local array=emd0 stripe=$((128 << 10)) sum before
  mapfile -t d < <(debug_disks | sed 's|^|/dev/|')

  step "RAID5 over disks that forget what they fill with zeroes: discards of whole stripes are such"
  expect "created" emdadm create --format ddf --level raid5 --chunk 64K --name forgets --assume-clean "${d[@]:0:3}"
  expect_equal "what is discarded is a stripe" "$(limit $array discard_granularity)" $stripe
  (($(limit $array discard_max_bytes) >= stripe)) || fail "no discards, though the members forget"
  known 7 $((8 << 20)) | dd of=/dev/$array bs=128K iflag=fullblock oflag=direct 2>/dev/null
  before=$(mapped)
  ((before >= 8192)) || fail "scsi_debug has not mapped what was written: $before"
  # From the middle of stripe 2 to the middle of stripe 44.
  expect "discarded" blkdiscard --offset $((stripe * 2 + 65536)) --length $((stripe * 42)) /dev/$array
  expect_equal "blocks that the disk forgot" "$((before - $(mapped)))" $((41 * 128))
  expect_equal "they are zeroes" "$(bytes $((stripe * 3)) $((stripe * 41)) | not_zero)" 0
  is_as_written 0 $((stripe * 3))
  is_as_written $((stripe * 44)) $((8 << 20))

  step "zeroes of any length, by filling and by writing"
  before=$(mapped)
  expect "zeroes" blkdiscard --zeroout --offset $((stripe + 4096)) --length $((stripe * 50 + 8192)) /dev/$array
  # Who asks for that wants the room kept.
  ((before <= $(mapped))) || fail "the disk has forgotten room that was to be kept: $before blocks were there"
  expect_equal "they are zeroes" "$(bytes $((stripe + 4096)) $((stripe * 50 + 8192)) | not_zero)" 0
  is_as_written 0 $((stripe + 4096))
  is_as_written $((stripe * 51 + 12288)) $((8 << 20))
  expect "a check" emdadm check --wait forgets
  expect_equal "places that do not agree" "$(emd_get forgets '.mismatches | length')" 0

  step "a member is lost: zeroes are as good, and what is beside them is worked out"
  expect "failed" emdadm fail forgets "${d[1]}"
  expect "zeroes" blkdiscard --zeroout --offset $((stripe * 52)) --length $((stripe * 4)) /dev/$array
  expect "discarded" blkdiscard --offset $((stripe * 56)) --length $((stripe * 2)) /dev/$array
  expect_equal "they are zeroes" "$(bytes $((stripe * 52)) $((stripe * 6)) | not_zero)" 0
  is_as_written $((stripe * 58)) $((8 << 20))
  expect "removed" emdadm remove forgets "${d[1]}"
  expect "added" emdadm add forgets "${d[1]}"
  wait_for 30 emd_settled forgets

  step "a disk that refuses after all: all are sent zeroes, and no member fails for that"
  refuses "${d[2]#/dev/}" 0x93 0x41
  fill /dev/$array 9 >/dev/null
  expect "zeroes" blkdiscard --zeroout --offset 0 --length $((stripe * 2)) /dev/$array
  expect_equal "they are zeroes" "$(bytes 0 $((stripe * 2)) | not_zero)" 0
  expect_equal "no member is failed" "$(emd_members $array)" "in-sync in-sync in-sync"
  expect_equal "nor is an error counted" "$(emd_get $array .write_errors)" 0
  expect "a check" emdadm check --wait forgets
  expect_equal "places that do not agree" "$(emd_get forgets '.mismatches | length')" 0
  sum=$(fill /dev/$array 9)
  expect_equal "it works" "$(sum /dev/$array)" "$sum"
  expect "deleted" emdadm delete --force forgets
}

# zeroes_in_bios DISK DISK: of scsi_debug. Zeroes take several bios, and the last one falls on the second disk, which does not refuse it.
zeroes_in_bios() {
  local array=emd0 chunk=$((64 << 10)) from=0 most end
  step "zeroes that take several bios are written where one of these was refused"
  expect "created" emdadm create --format ddf --level raid0 --name zeroes --chunk 64K "$@"
  most=$(limit $array write_zeroes_max_bytes)
  ((most > 0 && most < 100 << 20)) || fail "no write-zeroes, or all in one bio: $most"
  # The last bio ends a chunk of the second disk.
  (((from + most) / chunk % 2 == 1)) || from=$chunk
  end=$(((from + most) / chunk * chunk + chunk))
  known 3 $end | dd of=/dev/$array bs=128K iflag=fullblock oflag=direct 2>/dev/null
  refuses "${1#/dev/}" 0x93 0x41
  expect "zeroes" blkdiscard --zeroout --offset $from --length $((end - from)) /dev/$array
  expect_equal "bytes that are not zero there" "$(bytes $from $((end - from)) | not_zero)" 0
  expect "deleted" emdadm delete --force zeroes
}

# bytes FROM COUNT: of the array, in blocks of 4096 bytes.
bytes() { dd if=/dev/emd0 bs=4K skip=$(($1 / 4096)) count=$(($2 / 4096)) iflag=direct 2>/dev/null; }

# is_as_written FROM TO: these bytes of known data 7 (8 MiB).
is_as_written() {
  expect "bytes $1 to $2 are as they were" cmp -i "$1:0" -n $(($2 - $1)) <(known 7 $((8 << 20))) <(bytes "$1" $(($2 - $1)))
}

# mapped: how many blocks the first disk of scsi_debug has memory for.
mapped() {
  tr , '\n' </sys/bus/pseudo/drivers/scsi_debug/map |
    awk -F- '/^[0-9]/ { count += ($2 == "" ? $1 : $2) - $1 + 1 } END { print count + 0 }'
}

# not_zero: how many bytes of what it reads.
not_zero() { tr -d '\0' | wc -c; }

boot_1() {
  local d array name sum
  mapfile -t d < <(disks)

  step "RAID5 on 512-byte disks: chunk and stripe are said; no discards, as these disks do not say that they forget what they fill with zeroes"
  expect "created" emdadm create --format ddf --level raid5 --chunk 64K --name five --assume-clean "${d[@]:0:3}"
  array=emd0
  expect_equal "logical block" "$(limit $array logical_block_size)" 512
  expect_equal "smallest good I/O is a chunk" "$(limit $array minimum_io_size)" 65536
  expect_equal "best I/O is a stripe's data" "$(limit $array optimal_io_size)" 131072
  expect_equal "the disks do not" "$(limit "${d[0]#/dev/}" write_zeroes_unmap_max_hw_bytes)" 0
  expect_equal "no discards" "$(limit $array discard_max_bytes)" 0
  (($(limit $array write_zeroes_max_bytes) > 0)) || fail "no write-zeroes, though the members take them"
  expect_equal "a write cache that can be flushed" "$(limit $array write_cache)" "write back"
  expect_equal "FUA" "$(limit $array fua)" 1
  expect_equal "pages do not change while they are written" "$(limit $array stable_writes)" 1

  step "what covers a stripe is written without a read; nearby writes are gathered to such"
  expect "stripes" streamed 128K 0 "${d[@]:0:3}"
  # 384 writes that each lack most of their stripe: gathered are all but the first ones of a stream, and those that wait when this machine stands still.
  once_in 3 streamed 16K 38 "${d[@]:0:3}" || fail "quarters of chunks are not gathered"
  say "ok: quarters of chunks"

  step "members are claimed, and shown in sysfs"
  linked $array "${d[0]#/dev/}" "${d[1]#/dev/}" "${d[2]#/dev/}"
  modprobe dm_mod
  expect "a free disk can be claimed" dmsetup create friend --table "0 2048 linear ${d[3]} 0"
  dmsetup remove --retry friend
  expect_failure "a member cannot be claimed by another" dmsetup create thief --table "0 2048 linear ${d[0]} 0"

  step "statistics count what users do, once"
  local before after
  read -r -a BEFORE < <(ios $array)
  dd if=/dev/zero of=/dev/$array bs=64K count=16 oflag=direct 2>/dev/null
  dd if=/dev/$array of=/dev/null bs=64K count=8 iflag=direct 2>/dev/null
  counted "of 64 KiB, a chunk" $array "8 1024 16 2048 0 0 0; 0"
  dd if=/dev/zero of=/dev/$array bs=1M count=2 oflag=direct 2>/dev/null
  dd if=/dev/$array of=/dev/null bs=4K count=3 skip=5 iflag=direct 2>/dev/null
  counted "of several stripes, and of parts of a chunk" $array "3 24 2 4096 0 0 0; 0"
  # Of drivers like this one the kernel counts no flushes, md's neither.
  dd if=/dev/zero of=/dev/$array bs=4K count=1 oflag=direct conv=fsync 2>/dev/null
  counted "a write and a flush" $array "0 0 1 8 0 0 0; 0"
  dd if=/dev/zero of=/dev/$array bs=4K count=2 oflag=direct,dsync 2>/dev/null
  counted "writes that are flushed" $array "0 0 2 16 0 0 0; 0"

  step "fsync and O_DSYNC work, zeroes too"
  dd if=/dev/urandom of=/dev/$array bs=4K count=64 oflag=direct,dsync 2>/dev/null || fail "O_DSYNC"
  dd if=/dev/urandom of=/dev/$array bs=64K count=64 conv=fsync 2>/dev/null || fail "fsync"
  expect "zeroes" blkdiscard --zeroout --offset 1048576 --length 1048576 /dev/$array
  expect_equal "bytes that are not zero there" "$(bytes 1048576 1048576 | not_zero)" 0

  step "flushes reach every member, of what users write and of the metadata"
  wait_for 10 emd_is_clean $array
  mapfile -t FLUSHES < <(flushes_of "${d[@]:0:3}")
  traced dd if=/dev/urandom of=/dev/$array bs=64K count=1 oflag=direct status=none
  # See docs/architecture.md: three phases for each of two copies.
  flushed "the array becomes dirty: a flush after each phase" 6 "${d[@]:0:3}"
  dirtied_first "${d[@]:0:3}"
  dd if=/dev/urandom of=/dev/$array bs=64K count=1 oflag=direct conv=fsync 2>/dev/null
  flushed "fsync" 1 "${d[@]:0:3}"
  dd if=/dev/urandom of=/dev/$array bs=64K count=8 oflag=direct,dsync 2>/dev/null
  flushed "O_DSYNC" 8 "${d[@]:0:3}"
  wait_for 10 emd_is_clean $array
  flushed "it becomes clean: what it has written, and again each phase" 7 "${d[@]:0:3}"
  expect "stopped" emdadm stop $array

  step "RAID1 on disks with physical blocks of 4096 bytes: discards and zeroes reach all members"
  expect "created" emdadm create --format ddf --level raid1 --name one --assume-clean "${d[@]:3:2}"
  array=emd0
  expect_equal "logical block" "$(limit $array logical_block_size)" 512
  expect_equal "physical block" "$(limit $array physical_block_size)" 4096
  (($(limit $array discard_max_bytes) > 0)) || fail "no discards, though the members take them"
  read -r -a BEFORE < <(ios $array)
  dd if=/dev/urandom of=/dev/$array bs=1M count=4 oflag=direct 2>/dev/null
  dd if=/dev/$array of=/dev/null bs=64K count=8 iflag=direct 2>/dev/null
  counted "of a mirror" $array "8 1024 4 8192 0 0 0; 0"
  # Such a write goes as FUA, and a flush follows. Disks without FUA are flushed for each.
  mapfile -t FLUSHES < <(flushes_of "${d[@]:3:2}")
  dd if=/dev/urandom of=/dev/$array bs=4K count=8 oflag=direct,dsync 2>/dev/null
  flushed "FUA and flush of O_DSYNC" 16 "${d[@]:3:2}"
  expect "zeroes" blkdiscard --zeroout --length 2097152 /dev/$array
  expect_equal "bytes that are not zero there" "$(bytes 0 2097152 | not_zero)" 0
  (($(limit $array write_zeroes_max_bytes) > 0)) || fail "no write-zeroes, though the members take them"
  read -r -a BEFORE < <(ios $array)
  expect "discard" blkdiscard --offset 2097152 --length 1048576 /dev/$array
  # (blkdiscard reads what is there first.)
  counted "a discard" $array "* * 0 0 1 2048 0; 0"
  wait_for 10 emd_is_clean $array
  traced dd if=/dev/urandom of=/dev/$array bs=64K count=1 oflag=direct status=none
  dirtied_first "${d[@]:3:2}"
  expect_equal "the copies are the same" \
    "$(dd if="${d[3]}" bs=1M count=4 iflag=direct 2>/dev/null | sha256sum)" \
    "$(dd if="${d[4]}" bs=1M count=4 iflag=direct 2>/dev/null | sha256sum)"
  expect "stopped" emdadm stop $array

  step "RAID0 on 4096-byte logical blocks: hints; smaller I/O is refused by the block layer; discards go to the members they cover"
  expect "created" emdadm create --format ddf --level raid0 --name four --chunk 64K "${d[@]:6:2}"
  array=emd0
  expect_equal "logical block" "$(limit $array logical_block_size)" 4096
  expect_failure "512 bytes" dd if=/dev/zero of=/dev/$array bs=512 count=1 oflag=direct
  expect "4096 bytes" dd if=/dev/zero of=/dev/$array bs=4096 count=1 oflag=direct
  expect_equal "smallest good I/O is a chunk" "$(limit $array minimum_io_size)" 65536
  expect_equal "best I/O is a stripe" "$(limit $array optimal_io_size)" 131072
  # All chunks of a bio are sent before the first is waited for.
  (($(limit $array discard_max_bytes) <= 8 << 20)) || fail "discards of any size: $(limit $array discard_max_bytes)"
  (($(limit $array write_zeroes_max_bytes) <= 8 << 20)) || fail "zeroes of any size: $(limit $array write_zeroes_max_bytes)"
  # Half a chunk, four whole ones, half a chunk: chunks 1 (from its middle) to 6 (to its middle) of 64 KiB.
  (($(limit $array discard_max_bytes) > 0)) || fail "no discards, though the members take them"
  read -r -a BEFORE < <(ios $array)
  known 6 $((1 << 20)) | dd of=/dev/$array bs=64K iflag=fullblock oflag=direct 2>/dev/null
  dd if=/dev/$array of=/dev/null bs=256K count=2 iflag=direct status=none
  counted "of stripes" $array "2 1024 16 2048 0 0 0; 0"
  mapfile -t before < <(discarded "${d[@]:6:2}")
  expect "discard" blkdiscard --offset $((96 << 10)) --length $((320 << 10)) /dev/$array
  mapfile -t after < <(discarded "${d[@]:6:2}")
  expect_equal "sectors discarded on the first member" "$((after[0] - before[0]))" $((128 * 2 + 64))
  expect_equal "and on the second" "$((after[1] - before[1]))" $((128 * 2 + 64))
  expect "what is before it" cmp -n $((96 << 10)) <(known 6 $((1 << 20))) <(dd if=/dev/$array bs=32K count=3 iflag=direct 2>/dev/null)
  expect "what is behind it" cmp -n $((608 << 10)) <(known 6 $((1 << 20)) | tail -c $((608 << 10))) \
    <(dd if=/dev/$array bs=32K skip=13 count=19 iflag=direct 2>/dev/null)
  printf 'label: dos\nstart=1MiB, size=4MiB\n' | sfdisk -q /dev/$array
  wait_for 10 test -b /dev/${array}p1
  read -r -a BEFORE < <(ios $array/${array}p1)
  dd if=/dev/zero of=/dev/${array}p1 bs=64K count=4 oflag=direct status=none
  dd if=/dev/${array}p1 of=/dev/null bs=4K count=3 iflag=direct status=none
  counted "of a partition" $array/${array}p1 "3 24 4 512 0 0 0; 0"
  dd if=/dev/zero of=/dev/$array bs=4K count=1 oflag=direct status=none
  expect "deleted" emdadm delete --force four

  echo 4 >/proc/sys/vm/nr_hugepages
  expect_equal "huge pages" "$(</proc/sys/vm/nr_hugepages)" 4
  part_fails raid0 "${d[@]:6:2}"
  part_fails raid1 "${d[@]:6:2}"
  echo 0 >/proc/sys/vm/nr_hugepages
  gaps_in_blocks "${d[@]:6:2}"
  refusing_disks
  five_of_zeroes

  zeroes_in_bios "${d[3]}" "${d[0]}"

  step "disks that advertise zeroes and discards, and refuse them"
  d=("${d[@]:0:2}")
  expect "created" emdadm create --format ddf --level raid0 --name zeroes --chunk 64K "${d[@]}"
  (($(limit $array write_zeroes_max_bytes) > 0)) || fail "no write-zeroes, though the members take them"
  dd if=/dev/urandom of=/dev/$array bs=1M count=2 oflag=direct 2>/dev/null
  refuses "${d[0]#/dev/}" 0x93 0x41
  expect "zeroes are written instead" blkdiscard --zeroout --length 2097152 /dev/$array
  expect_equal "bytes that are not zero there" "$(bytes 0 2097152 | not_zero)" 0
  expect "deleted" emdadm delete --force zeroes
  # The first disk does not zero any more.
  expect "created" emdadm create --format ddf --level raid0 --name zeroes --chunk 64K "${d[@]}"
  expect_equal "no write-zeroes" "$(limit $array write_zeroes_max_bytes)" 0
  expect "deleted" emdadm delete --force zeroes
  expect "created" emdadm create --format ddf --level raid1 --name discards --assume-clean "${d[@]}"
  (($(limit $array discard_max_bytes) > 0)) || fail "no discards, though the members take them"
  refuses "${d[0]#/dev/}" 0x42
  # At first the disk says so, then its driver.
  expect "discard" blkdiscard --length 1048576 /dev/$array
  expect "discard again" blkdiscard --length 1048576 /dev/$array
  expect_equal "no member is failed for that" "$(emd_members $array)" "in-sync in-sync"
  expect_equal "nor is an error counted" "$(emd_get $array .write_errors)" 0
  sum=$(fill /dev/$array 4)
  expect_equal "it works" "$(sum /dev/$array)" "$sum"
  expect "deleted" emdadm delete --force discards
  expect "created, of one that takes discards and one that does not" \
    emdadm create --format ddf --level raid1 --name neither --assume-clean "${d[@]}"
  expect_equal "one member takes discards" "$(limit "${d[0]#/dev/}" discard_max_bytes) $(($(limit "${d[1]#/dev/}" discard_max_bytes) > 0))" "0 1"
  expect_equal "no discards" "$(limit $array discard_max_bytes)" 0
  expect "stopped" emdadm stop $array
}
