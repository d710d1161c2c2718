# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A spare that comes when its set runs already is its spare all the same: it takes the place of a member that is lost after that, or that was lost before. One that is none any more does not.
# disks: 3x64M virtio, 1x64M virtio unplugged
# emd: manual
# timeout: 180

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh
# shellcheck source=tests/guest/lib-assemble.sh
source /emd/tests/guest/lib-assemble.sh

# made FORMAT: a mirror on disks 1 and 2 with a spare, disk 3; nothing is loaded when this returns, and the spare is away.
made() {
  load
  expect "$1" emdadm create --format "$1" --force --level raid1 --name data --size 16M --assume-clean --spare "$(disk disk3)" "$(disk disk1)" "$(disk disk2)"
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

boot_1() {
  local format
  for format in md-1.2 md-0.90 ddf imsm asr; do
    step "$format: a spare that comes late takes the place of a member that is lost then"
    made $format
    load
    wait_for 20 emd_is emd0 optimal
    expect_failure "the spare is away" is_spare disk3
    plug disk3
    wait_for 20 is_at_hand $format
    expect "a member fails" emdadm fail emd0 "$(disk disk2)"
    wait_for 40 emd_settled emd0
    expect "the spare has its place" emd_has emd0 "$(disk disk3)"
    data_is_right
    unload
    load
    wait_for 20 emd_is emd0 optimal
    expect "the spare is a member after a restart" emd_has emd0 "$(disk disk3)"
    data_is_right
    deleted
  done
}
