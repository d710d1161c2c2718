# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A set from its beginning to its end: refusals, a member unplugged and back, power cuts, deletion, spares, a late start.
# disks: 4x64M scsi, 2x64M virtio
# timeout: 200

state() { emdadm list | grep -q "$1"; }

boot_1() {
  step "create raid5"
  local a b c d e
  a=$(disk disk1) b=$(disk disk2) c=$(disk disk3) d=$(disk disk4) e=$(disk disk5)
  expect create emdadm create --format ddf --level raid5 --name m "$a" "$b" "$c" "$d"
  expect wait emdadm wait emd0
  dd if=/dev/urandom of=/run/data bs=1M count=16 status=none
  dd if=/run/data of=/dev/emd0 bs=1M oflag=direct status=none
  sum=$(sha256sum </run/data)
  expect_equal data "$(head -c 16M /dev/emd0 | sha256sum)" "$sum"
  step "refusals"
  expect_failure "disk in use" emdadm create --format ddf --level raid1 --name x "$a" "$e"
  mkfs.ext4 -q -F "$e"
  expect_failure "signature" emdadm add emd0 "$e"
  expect_failure "remove active" emdadm remove emd0 "$a"
  exec 9</dev/emd0
  expect_failure "in use" emdadm stop emd0
  exec 9<&-
  step "unplug, with writes in flight"
  (while :; do dd if=/run/data of=/dev/emd0 bs=1M oflag=direct status=none || break; [ -e /run/stop ] && break; done) &
  sleep 0.5
  unplug disk2
  sleep 2
  touch /run/stop; wait
  expect_failure "one more is too much" emdadm fail emd0 "$c"
  expect_equal data "$(head -c 16M /dev/emd0 | sha256sum)" "$sum"
  step "return"
  plug disk2
  wait_for 30 state optimal
  expect_equal data "$(head -c 16M /dev/emd0 | sha256sum)" "$sum"
  step "power cut"
  (while :; do dd if=/run/data of=/dev/emd0 bs=1M oflag=direct status=none; done) &
  host powercut 0.5
  sleep 20
}
boot_2() {
  sleep 2
  wait_for 30 state optimal
  expect wait emdadm wait emd0
  step "delete"
  expect_failure "bad target" emdadm delete emd7
  dd if=/dev/zero of=/dev/emd0 bs=1M count=1 oflag=direct status=none
  mkfs.ext4 -q -F /dev/emd0
  expect_failure "holds fs" emdadm delete emd0
  expect stop emdadm stop emd0
  expect_failure "not started" emdadm delete m
  expect scan emdadm scan
  echo marker | dd of=/dev/emd0 bs=512 seek=4 conv=sync oflag=direct status=none
  sync
  unplug disk1; sleep 5
  host powercut 1; sleep 20
}
boot_3() {
  sleep 13
  wait_for 30 state optimal
  expect delete emdadm delete --force emd0
  expect_failure "nothing left on the disks" emdadm examine "$(disk disk3)"
  step "raid0, explicit scan"
  expect "create again" emdadm create --format ddf --level raid0 --force --name z "$(disk disk1)" "$(disk disk2)"
  expect stop emdadm stop --all
  expect unload rmmod emd
  expect load modprobe emd auto=0
  sleep 1
  expect_failure "nothing by itself" test -b /dev/emd0
  expect scan emdadm scan
  expect "there again" test -b /dev/emd0
  unplug disk1
  sleep 1
  expect stop emdadm stop --all
  step "missing at the start"
  expect "three disks" emdadm create --format ddf --level raid5 --size 32M --name y "$(disk disk3)" "$(disk disk4)" "$(disk disk6)" --spare "$(disk disk5)" --force
  expect wait emdadm wait emd0
  dd if=/dev/urandom of=/run/data bs=1M count=16 status=none
  dd if=/run/data of=/dev/emd0 bs=1M oflag=direct status=none
  sum=$(sha256sum </run/data)
  expect unload rmmod emd
  unplug disk4
  expect load modprobe emd start_timeout_ms=2000
  sleep 1
  expect_failure "waits" test -b /dev/emd0
  sleep 2
  wait_for 30 state optimal
  expect_equal data "$(head -c 16M /dev/emd0 | sha256sum)" "$sum"
  plug disk4
  sleep 2
  step "two volumes on a set"
  expect "volume two" emdadm create --set y --level raid1 --name w --size 4M "$(disk disk3)" "$(disk disk6)"
  expect delete emdadm delete --force w
  expect "json" emdadm show --json
}
