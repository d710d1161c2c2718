# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The runner itself: disks are as declared, come and go, and keep what was synced through a power cut.
# disks: 2x64M virtio, 1x64M virtio 4096, 1x64M virtio 512/4096, 1x64M scsi, 1x64M scsi 4096, 1x32M virtio unplugged
# cpus: 1
# emd: manual
# timeout: 90

sectors() { # DISK: logical/physical
  local queue
  queue=/sys/block/$(basename "$(disk "$1")")/queue
  echo "$(<"$queue/logical_block_size")/$(<"$queue/physical_block_size")"
}

# What two boots must not have in common, though they may begin from one template.
moment() { echo "$EPOCHSECONDS $(</proc/sys/kernel/random/uuid) $(</proc/sys/kernel/random/boot_id) $(od -An -N8 -tx8 /dev/urandom) $RANDOM$RANDOM"; }

boot_1() {
  local first
  first=$(moment)
  step "disks as declared"
  expect_equal "disk1" "$(sectors disk1)" 512/512
  expect_equal "disk3" "$(sectors disk3)" 4096/4096
  expect_equal "disk4" "$(sectors disk4)" 512/4096
  expect_equal "disk5" "$(sectors disk5)" 512/512
  expect_equal "disk6" "$(sectors disk6)" 4096/4096
  expect_equal "size of disk6" "$(blockdev --getsize64 "$(disk disk6)")" $((64 << 20))
  expect_failure "disk7 is not plugged in" disk disk7
  expect "disk1 can discard" blkdiscard -f "$(disk disk1)"
  expect "disk5 can discard" blkdiscard -f "$(disk disk5)"

  step "hot plug"
  echo kept | dd of="$(disk disk2)" bs=512 conv=sync,fsync status=none
  for name in disk2 disk5; do
    unplug "$name"
    expect_failure "$name is gone" disk "$name"
    plug "$name"
    say "ok: $name is back"
  done
  expect_equal "disk2 as it was" "$(head -c 4 "$(disk disk2)")" kept
  plug disk7
  unplug disk2
  host blank disk2
  plug disk2
  expect_equal "disk2 swapped for an empty one" "$(head -c 4 "$(disk disk2)" | tr '\0' z)" zzzz
  expect_failure "an unknown disk is refused" host unplug disk99

  step "orderly reboot"
  echo "$first" | dd of="$(disk disk1)" bs=512 seek=8 conv=sync,fsync status=none
  echo one | dd of="$(disk disk1)" bs=512 conv=sync,fsync status=none
  uname -r | host put release
  host reboot-clean
}

boot_2() {
  local first second word
  read -ra second < <(moment)
  read -ra first < <(dd if="$(disk disk1)" bs=512 skip=8 count=1 status=none | tr -d '\0')
  step "time goes on, and random numbers are others"
  expect "later than ${first[0]}" test "${second[0]}" -gt "${first[0]}"
  for word in 1 2 3 4; do
    expect "${first[word]} before" test "${second[word]}" != "${first[word]}"
  done

  step "after an orderly reboot"
  expect_equal "disk1" "$(head -c 3 "$(disk disk1)")" one
  expect "a filesystem on 4096-byte sectors" mkfs.ext4 -q "$(disk disk3)"
  echo two | dd of="$(disk disk3)" bs=4096 conv=sync oflag=direct status=none
  echo four | dd of="$(disk disk6)" bs=4096 conv=sync,fsync status=none
  (while :; do dd if=/dev/urandom of="$(disk disk4)" bs=64k count=100 oflag=direct status=none; done) &
  host powercut 0.3
  sleep 20
  fail "the power was not cut"
}

boot_3() {
  step "after a power cut"
  expect_equal "disk3" "$(head -c 3 "$(disk disk3)")" two
  expect_equal "disk6" "$(head -c 4 "$(disk disk6)")" four
  echo three | dd of="$(disk disk1)" bs=512 conv=sync,fsync status=none
  host powercut
}

boot_4() {
  step "after a power cut at once"
  expect_equal "disk1" "$(head -c 5 "$(disk disk1)")" three
}
