# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A spare that comes when its set runs already is its spare all the same: it takes the place of a member that is lost after that, or that was lost before. One that is none any more does not.
# disks: 3x64M virtio, 1x64M virtio unplugged
# emd: manual
# timeout: 250

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh
# shellcheck source=tests/guest/lib-assemble.sh
source /emd/tests/guest/lib-assemble.sh

# made FORMAT: a mirror on disks 1 and 2 with a spare, disk 3; nothing is loaded when this returns, and the spare is away.
made() {
  load
  expect "$1" emdadm create --format "$1" --force --level raid1 --size 16M --assume-clean --spare "$(disk disk3)" "$(disk disk1)" "$(disk disk2)"
  expect "known data" /emd/bin/pattern write /dev/emd0 3 0 $((DATA / 1024))
  wait_for 10 emd_is_clean emd0
  unload
  unplug disk3
}

# is_spare NAME: of the set that runs.
is_spare() {
  emdadm show --json | jq -e --arg device "$(disk "$1")" \
    'any(.sets[] | select(.volumes | length > 0).disks[]; .device == $device and .state == "online" and (.role == "global-spare" or .role == "dedicated-spare"))' >/dev/null
}

is_no_spare() { ! is_spare "$1"; }

# is_at_hand FORMAT: the spare is one of the set, or, in the formats whose spares are of no set, of one that lends it.
is_at_hand() {
  case $1 in
    imsm) emdadm show --json | jq -e --arg device "$(disk disk3)" 'any(.sets[].disks[]; .device == $device)' >/dev/null ;;
    *) is_spare disk3 ;;
  esac
}

deleted() {
  emdadm delete --force emd0 >/dev/null
  rmmod emd
}

# Disk 3 gets what ext4 has at a disk's start.
marked() {
  printf '\x53\xef' | dd of="$(disk disk3)" bs=1 seek=1080 conv=notrunc status=none
  sync
}

# While nobody looks; it is away again afterwards.
rmmod_and_mark() {
  unload
  plug disk3
  marked
  unplug disk3
}

# late FORMAT STEP: the set runs, and was written to, while its spare is away; that one comes in the end.
late() {
  step "$1: $2"
  made "$1"
  load
  wait_for 20 emd_is emd0 optimal
  expect_failure "the spare is away" is_spare disk3
  # So the metadata was, too.
  expect "a write" /emd/bin/pattern write /dev/emd0 3 0 $((DATA / 1024))
  wait_for 10 emd_is_clean emd0
}

takes_over() {
  wait_for 60 emd_settled emd0
  expect "the spare has the place" emd_has emd0 "$(disk disk3)"
  data_is_right
  unload
  load
  wait_for 20 emd_is emd0 optimal
  expect "it is a member after a restart" emd_has emd0 "$(disk disk3)"
  data_is_right
}

# spare_gone DEVICE: the set has heard of it.
spare_gone() { ! emdadm show --json | jq -e --arg device "$1" 'any(.sets[].disks[]; .device == $device)' >/dev/null; }

says_no() { events note | grep -q "left alone: $1"; }

# left_alone CONTENTS REGEX: disk 3 is, with this reason, and is not written to.
left_alone() {
  wait_for 20 says_no "$2"
  expect_failure "it is no spare" is_spare disk3
  expect "a member fails" emdadm fail emd0 "$(disk disk2)"
  sleep 1
  expect_equal "nothing takes its place" "$(emd_state emd0)" degraded
  unchanged "nothing was written to it" "$1" disk3
}

boot_1() {
  local format before device
  for format in md-1.2 md-0.90 ddf imsm asr; do
    late $format "a spare that comes late takes the place of a member that is lost then"
    plug disk3
    wait_for 20 is_at_hand $format
    expect "a member fails" emdadm fail emd0 "$(disk disk2)"
    takes_over
    deleted
  done

  for format in md-1.2 ddf $(! whole || echo md-0.90); do
    step "$format: the place of one that was lost before"
    made "$format"
    unplug disk2
    load
    wait_for 20 emd_is emd0 degraded
    plug disk3
    takes_over
    deleted
    plug disk2
  done

  for format in md-1.2 ddf; do
    step "$format: one that was unplugged while the set ran, and is there again at the next start"
    made $format
    plug disk3
    load
    wait_for 20 emd_is emd0 optimal
    unplug disk3
    expect "a write" /emd/bin/pattern write /dev/emd0 3 0 $((DATA / 1024))
    wait_for 10 emd_is_clean emd0
    unload
    plug disk3
    load
    wait_for 20 is_at_hand $format
    expect "a member fails" emdadm fail emd0 "$(disk disk2)"
    takes_over
    deleted
  done

  step "ddf: one that was unplugged for a moment while the set ran is one again, also after a restart"
  made ddf
  plug disk3
  load
  wait_for 20 is_spare disk3
  unplug disk3
  wait_for 20 is_no_spare disk3
  expect "a write" /emd/bin/pattern write /dev/emd0 3 0 $((DATA / 1024))
  wait_for 10 emd_is_clean emd0
  plug disk3
  wait_for 20 is_spare disk3
  unload
  load
  wait_for 20 is_spare disk3
  expect "a member fails" emdadm fail emd0 "$(disk disk2)"
  takes_over
  deleted

  step "ddf: one that is in use as its set starts is done without, and is one again when a scan finds it"
  made ddf
  plug disk3
  modprobe dm_mod
  # Without the end, where the metadata is: that would be here twice.
  dmsetup create held --table "0 2048 linear $(disk disk3) 0"
  load
  wait_for 20 emd_is emd0 optimal
  expect "it is told" grep -q "goes on without disk .* in use" <(events note)
  expect_failure "it is no spare now" is_spare disk3
  dmsetup remove --retry held
  expect "scan" emdadm scan "$(disk disk3)"
  wait_for 20 is_spare disk3
  expect "a member fails" emdadm fail emd0 "$(disk disk2)"
  wait_for 60 emd_settled emd0
  expect "the spare has the place" emd_has emd0 "$(disk disk3)"
  data_is_right
  deleted

  late md-1.2 "the number of a spare that was away is another one's by now: it is left alone"
  plug disk4
  expect "another spare" emdadm spare emd0 "$(disk disk4)"
  before=$(host contents disk3)
  plug disk3
  wait_for 20 says_no "its set does not know it, or has it already"
  unchanged "nothing was written to it" "$before" disk3
  expect "a member fails" emdadm fail emd0 "$(disk disk2)"
  wait_for 60 emd_settled emd0
  expect "the other one has the place" emd_has emd0 "$(disk disk4)"
  data_is_right
  unchanged "nothing was written to it" "$before" disk3
  deleted
  unplug disk4

  step "md-1.2: a spare that a person took out is none of the set's when it is plugged in again"
  load
  expect "a set" emdadm create --format md-1.2 --force --level raid1 --size 16M --assume-clean --spare "$(disk disk3)" "$(disk disk1)" "$(disk disk2)"
  expect "taken out" emdadm remove emd0 "$(disk disk3)"
  before=$(host contents disk3)
  unplug disk3
  plug disk3
  sleep 1
  expect_failure "it is no spare" is_spare disk3
  unchanged "nothing was written to it" "$before" disk3
  deleted

  step "md-1.2: nor is one that was away when it was taken out, as long as the set runs"
  made md-1.2
  plug disk3
  load
  wait_for 20 is_spare disk3
  unplug disk3
  expect "taken out" wait_for 10 emdadm remove emd0 --disk 2
  plug disk3
  before=$(host contents disk3)
  left_alone "$before" "its set does not know it, or has it already"
  deleted

  late md-0.90 "a spare that somebody made a filesystem on is left alone"
  rmmod_and_mark
  before=$(host contents disk3)
  load
  wait_for 20 emd_is emd0 optimal
  plug disk3
  left_alone "$before" "it is a spare, and holds an ext2"
  deleted

  for format in ddf $(! whole || echo md-0.90); do
    step "$format: a spare that the set saw go, and that has a filesystem when it is back, is left alone"
    made "$format"
    plug disk3
    load
    wait_for 20 emd_is emd0 optimal
    wait_for 10 is_spare disk3
    device=$(disk disk3)
    unplug disk3
    wait_for 10 spare_gone "$device"
    discovery_waits
    plug disk3
    marked
    before=$(host contents disk3)
    discovery_goes_on
    left_alone "$before" "it is a spare, and holds an ext2"
    deleted
  done
  added_again
}

# What a member of 0.90 has at its start is what its volume has there.
added_again() {
  local device
  step "md-0.90: a former member that was added again as a spare, and slips out, is one again with what is left of the array on it"
  made md-0.90
  plug disk3
  load
  wait_for 20 emd_is emd0 optimal
  wait_for 10 is_spare disk3
  printf '\x53\xef' | dd of=/dev/emd0 bs=1 seek=1080 conv=notrunc,fsync status=none
  wait_for 10 emd_is_clean emd0
  expect "a member fails" emdadm fail emd0 "$(disk disk2)"
  wait_for 60 emd_settled emd0
  expect "it is added again" emdadm add --force emd0 "$(disk disk2)"
  wait_for 20 is_spare disk2
  device=$(disk disk2)
  unplug disk2
  wait_for 10 spare_gone "$device"
  plug disk2
  wait_for 20 is_spare disk2
  deleted
}
