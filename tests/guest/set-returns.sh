# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Disks that were away for a while take the places that they held: not those of others, and in volumes too that were not started meanwhile.
# disks: 4x48M scsi
# cpus: 1
# timeout: 120

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

# table TARGET [OPTION...]: what the disk below device-mapper is from now on.
table() {
  local device
  device=$(disk disk4)
  dmsetup load under --table "0 $(blockdev --getsz "$device") $1 $device 0 ${*:2}"
  dmsetup resume under
}

# The disk is here, and its set has the device that is gone still.
is_not_taken_yet() { [[ $(emdadm scan "$(disk disk3)" 2>&1 || true) == *"is here again before its set has given up what is gone"* ]]; }

# Whose loss no disk takes is in use, as far as its array goes, until one does.
back_too_early() {
  step "a disk is back before its set could record that it was gone"
  modprobe -a dm_mod dm_flakey
  dmsetup create under --table "0 $(blockdev --getsz "$(disk disk4)") linear $(disk disk4) 0"
  [[ -b /dev/mapper/under ]] || dmsetup mknodes
  expect "a mirror" emdadm create --format ddf --level raid1 --size 8M --assume-clean --name three "$(disk disk3)" "$(readlink -f /dev/mapper/under)"
  dmsetup suspend --noflush --nolockfs under
  table flakey 0 3600 1 error_writes
  unplug disk3
  wait_for 20 emd_is three degraded
  plug disk3
  wait_for 20 is_not_taken_yet
  # One that is merely in use is left alone after 6.3 s; this one is not.
  sleep 8
  expect "it is still so" is_not_taken_yet
  expect_equal "the array" "$(emd_state three)" degraded
  table linear
  wait_for 60 emd_settled three
}

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

  calls_all_failed
  calls_one_lost
  back_too_early
}

# third_is ROLE STATE: the disk that is neither of the mirror's.
third_is() { [[ $(emdadm show --json | jq -r '[.sets[].disks[] | select(.role != "member") | .role + " " + .state] | join(",")') == "$1 $2" ]]; }

# What is lost is failed in this format's words, whether it failed or was pulled out: the set knows.
calls_all_failed() {
  step "asr: a member, and then a spare, are away for a while"
  expect "deleted" emdadm delete --force one
  expect "deleted" emdadm delete --force two
  expect "a mirror" emdadm create --format asr --level raid1 --size 8M --assume-clean --name away "$(disk disk1)" "$(disk disk2)"
  wait_for 20 emd_settled away
  unplug disk2
  wait_for 20 emd_is away degraded
  plug disk2
  wait_for 30 emd_settled away
  expect "a spare" emdadm spare away "$(disk disk3)"
  expect "it is one" third_is global-spare online
  unplug disk3
  wait_for 20 third_is unused missing
  plug disk3
  wait_for 30 third_is global-spare online
  expect_equal "the mirror" "$(emd_state away): $(emd_members away)" "optimal: in-sync in-sync"
  expect "deleted" emdadm delete --force away
}

# members_are ARRAY STATES: for wait_for.
members_are() { ask "$1" members && [[ $REPLY == "$2" ]]; }

# Whom it calls failed a person has added again: that is no news to its set, which saw all of it.
calls_one_lost() {
  step "ddf: a disk is back that knows another one as failed, which is added again by then"
  expect "a mirror of three" emdadm create --format ddf --level raid1 --size 8M --assume-clean --name seen "$(disk disk1)" "$(disk disk2)" "$(disk disk3)"
  wait_for 20 emd_settled seen
  expect "one fails" emdadm fail seen "$(disk disk2)"
  wait_for 20 members_are seen "in-sync failed in-sync"
  unplug disk3
  wait_for 20 members_are seen "in-sync failed missing"
  expect "it is added again" emdadm add seen "$(disk disk2)"
  wait_for 30 members_are seen "in-sync in-sync missing"
  plug disk3
  wait_for 30 emd_settled seen
  expect "deleted" emdadm delete --force seen
}
