# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Disks that were away for a while take the places that they held: not those of others, and in volumes too that were not started meanwhile.
# disks: 4x48M scsi
# cpus: 1
# timeout: 90

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

boot_1() {
  local a b c d
  a=$(disk disk1) b=$(disk disk2) c=$(disk disk3) d=$(disk disk4)
  step "two mirrors, which take all of their disks"
  expect "one" emdadm create --format ddf --level raid1 --assume-clean --name one "$a" "$b"
  expect "a third disk" emdadm add one "$c"
  expect "a fourth" emdadm add one "$d"
  expect "two" emdadm create --set one --level raid1 --assume-clean --name two "$c" "$d"
  step "both lack a member, and that of the second comes back"
  unplug disk1
  wait_for 20 emd_is emd0 degraded
  unplug disk4
  wait_for 20 emd_is emd1 degraded
  plug disk4
  wait_for 30 emd_settled emd1
  expect "the first still lacks its own" emd_is emd0 degraded
  plug disk1
  wait_for 30 emd_settled emd0
  expect "deleted" emdadm delete --force emd1
  expect "deleted" emdadm delete --force emd0

  step "two mirrors on the same disks, one of them stopped"
  a=$(disk disk1) b=$(disk disk2)
  expect "one" emdadm create --format ddf --level raid1 --size 8M --assume-clean --name one "$a" "$b"
  expect "two" emdadm create --set one --level raid1 --size 8M --assume-clean --name two "$a" "$b"
  expect "stop" emdadm stop two
  unplug disk2
  wait_for 20 emd_is emd0 degraded
  plug disk2
  wait_for 30 emd_settled emd0
  expect "start" emdadm start --degraded two
  wait_for 30 emd_settled emd1
}
