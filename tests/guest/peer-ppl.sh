# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Partial parity logs when power was cut, Intel's and md's own. What md left, and what EMD left in Intel metadata, EMD replays when the array starts, without a member or with all, and keeps the log up; md replays what EMD left, without
# a member too. Told to, EMD has a log replayed and takes it off, also without a member. All that was not being written is there.
# disks: 15x36M scsi
# cpus: 1
# emd: manual
# timeout: 120

# shellcheck source=tests/guest/lib-imsm.sh
source /emd/tests/guest/lib-imsm.sh

# Name, and disks: Intel's and md's with a member that will be lost (of md's the log is taken off), md's with all of them; made by EMD, and with a member that will be lost: Intel's, which EMD replays, md's, which md replays.
declare -A MINE=([ip]="disk1 disk2 disk3" [mp]="disk4 disk5 disk6" [mh]="disk7 disk8 disk9" [ie]="disk10 disk11 disk12" [me]="disk13 disk14 disk15")

# of NAME: the devices of its disks that are here.
of() {
  local disk
  for disk in ${MINE[$1]}; do disk "$disk" || true; done
}

# its NAME FILTER: what EMD says of the volume; its_record: what is on the disks.
its() {
  local devices
  mapfile -t devices < <(of "$1")
  emdadm show --json | jq -r --arg disk "${devices[0]}" "[.sets[].volumes[] | select(any(.members[]; .device == \$disk))][0] | $2"
}
# shellcheck disable=SC2046 # several devices
its_record() { emdadm examine --json $(of "$1") | jq -r "[.sets[].volumes[]][0] | $2"; }

its_array() {
  NODE=$(its "$1" '.device // empty')
  [[ -b $NODE ]]
}

boot_1() {
  local name device text
  step "arrays with a log, made by mdadm"
  for device in $(disks); do blkdiscard -f -z "$device" 2>/dev/null; done
  md_load
  # shellcheck disable=SC2046 # several devices
  expect "Intel's container" mdadm -CR /dev/md/imsm -e imsm -n 3 $(of ip)
  expect "Intel's" mdadm -CR /dev/md/ip -l 5 -n 3 -z 2M -c 16 --assume-clean --consistency-policy=ppl /dev/md/imsm
  for name in mp mh; do
    # shellcheck disable=SC2046 # several devices
    expect "md's: $name" mdadm -CR "/dev/md/$name" -e 1.2 -l 5 -n 3 -z 2M -c 16 --assume-clean --consistency-policy=ppl $(of $name)
  done
  step "power is cut when something was written"
  for name in ip mp mh; do
    wait_for 20 md_find "$name"
    expect_equal "$name: policy" "$(md_sysfs "$name" consistency_policy)" ppl
    # What is written stays dirty.
    md_find "$name"
    echo 3600 >"/sys/block/$REPLY/md/safe_mode_delay"
    expect "$name: written" /emd/bin/pattern write "/dev/$REPLY" 1 0 4096
    expect "$name: its first block is written again" /emd/bin/pattern write "/dev/$REPLY" 2 0 4
  done
  modprobe emd auto=0 clean_ms=3600000
  for name in ie me; do
    text=imsm
    [[ $name != me ]] || text=md-1.2
    # shellcheck disable=SC2046 # several devices
    expect "EMD's in $text" emdadm create --format $text --level raid5 --chunk 16K --size 4M --assume-clean --log --name $name $(of $name)
    wait_for 20 its_array $name
    expect_equal "$name: policy, access" "$(its $name '"\(.crash_policy) \(.access)"')" "log read-write"
    expect "$name: written" /emd/bin/pattern write "$NODE" 1 0 4096
    expect "$name: its first block is written again" /emd/bin/pattern write "$NODE" 2 0 4
    # In one piece: that is what the newest header tells of.
    dd if="$NODE" of="$NODE" bs=4096 count=1 iflag=direct oflag=direct status=none
  done
  # shellcheck disable=SC2046 # several devices
  mdadm -E $(of me) >/run/examined
  expect_equal "me: mdadm sees the log" "$(grep -c 'PPL : 2048 sectors at offset 8 sectors' /run/examined)" 3
  # shellcheck disable=SC2046 # several devices
  mdadm -E $(of ie) >/run/examined
  expect_equal "ie: mdadm sees the log" "$(grep -c 'RWH Policy : Multiple distributed' /run/examined)" 3
  host powercut
}

# damaged NAME: what a cut leaves between two writes is put in its place by hand: parity of the first row is something else. That row's parity is on the last member, what was being written on the
# first. Where it is, is in SPOT; the member that has the rest of the row, in THIRD.
damaged() {
  local device offset
  read -r device offset THIRD < <(its_record "$1" '"\(.members[2].device) \(.members[2].offset_sectors) \(.members[1].device)"')
  SPOT[$1]="$device $offset"
  known 9 4096 | dd of="$device" bs=512 seek="$offset" oflag=direct conv=notrunc status=none
}

untouched() {
  local device offset
  read -r device offset <<<"${SPOT[$1]}"
  known 9 4096 >/run/other
  holds "$device" "$offset" /run/other
}

# lost DEVICE: its disk is gone.
lost() {
  local disk
  for disk in $EMD_DISKS; do
    [[ $(disk "$disk") == "$1" ]] || continue
    unplug "$disk"
    return
  done
  fail "no disk is $1"
}

# all_there NAME: what was written last, and before.
all_there() {
  its_array "$1" || fail "$1 is not started: $(its "$1" .reason)"
  expect "$1: what was written last" /emd/bin/pattern verify "$NODE" 2 0 4
  expect "$1: the rest" /emd/bin/pattern verify "$NODE" 1 4 4092
}

boot_2() {
  declare -gA SPOT
  local name text
  step "after the cut"
  for name in ip mp mh ie me; do
    expect_equal "$name: on the disks" "$(its_record $name '"\(.level) \(.consistency) \(.crash_policy) \(.access)"')" "raid5 dirty log read-write"
    damaged $name
    [[ $name == mh ]] || lost "$THIRD"
  done
  modprobe emd auto=0 clean_ms=300
  # shellcheck disable=SC2046 # several devices
  emdadm scan --degraded $(of ip) $(of mh) $(of ie) >/dev/null 2>&1 || true
  step "logs are replayed when the array starts, and kept"
  for name in ip mh ie; do
    wait_for 20 its_array $name
    text=degraded
    [[ $name != mh ]] || text=optimal
    expect_equal "$name: state, policy, access" "$(its $name '"\(.state) \(.crash_policy) \(.access)"')" "$text log read-write"
    all_there $name
    expect_failure "$name: parity is right" untouched $name
    expect "$name: it is written" /emd/bin/pattern write "$NODE" 3 64 256
  done
  wait_for 60 settled mh optimal
  step "one is replayed and taken off, as it is told to"
  # shellcheck disable=SC2046 # several devices
  emdadm scan $(of mp) >/dev/null 2>&1 || true
  expect_failure "mp is not started" its_array mp
  expect "mp: its log is replayed and taken off" emdadm policy "$(its mp .id)" resync
  expect_failure "mp: parity is right" untouched mp
  # shellcheck disable=SC2046 # several devices
  emdadm scan --degraded $(of mp) >/dev/null 2>&1 || true
  wait_for 20 its_array mp
  all_there mp
  expect "mp: it is written" /emd/bin/pattern write "$NODE" 3 64 256
  expect_equal "mp: policy, access" "$(its mp '"\(.crash_policy) \(.access)"')" "resync read-write"
  for name in ip mp ie; do
    wait_for 30 settled $name degraded
  done
  emd_leaves
  step "md goes on, without a log where it was taken off, and replays the one that EMD left"
  # shellcheck disable=SC2046 # several devices
  mdadm -E $(of mp) >/run/examined
  expect_failure "mp: mdadm sees no log" grep PPL /run/examined
  # shellcheck disable=SC2046 # several devices
  md_tells $(of ip) $(of mp) $(of mh) $(of ie)
  # Piece by piece mdadm does not start what is dirty and lacks a member, log or not.
  # shellcheck disable=SC2046 # several devices
  expect "me: mdadm starts it" mdadm -A --run /dev/md/me $(of me)
  for name in ip mp mh ie me; do
    wait_for 20 md_runs $name
    text=ppl
    [[ $name != mp ]] || text=resync
    expect_equal "$name: md's policy" "$(md_sysfs $name consistency_policy)" $text
    md_find $name
    expect "$name: md has what was written last" /emd/bin/pattern verify "/dev/$REPLY" 2 0 4
    text=1
    [[ $name == me ]] || text=3
    expect "$name: what shares stripes with it" /emd/bin/pattern verify "/dev/$REPLY" 1 4 60
    expect "$name: what was written under EMD" /emd/bin/pattern verify "/dev/$REPLY" $text 64 256
    expect "$name: and the rest" /emd/bin/pattern verify "/dev/$REPLY" 1 320 3776
  done
  expect_failure "me: its parity is right" untouched me
  expect_equal "mh: md finds no mismatch" "$(md_mismatches mh)" 0
  md_stop
  step "one is put on again, on an array that md had"
  modprobe emd auto=0 clean_ms=300
  # shellcheck disable=SC2046 # several devices
  emdadm scan $(of mh) >/dev/null 2>&1 || true
  wait_for 20 its_array mh
  emdadm stop "${NODE#/dev/}" >/dev/null
  expect "mh: its log is taken off" emdadm policy "$(its mh .id)" resync
  expect "mh: it gets one" emdadm policy "$(its mh .id)" log
  # shellcheck disable=SC2046 # several devices
  emdadm scan $(of mh) >/dev/null 2>&1 || true
  wait_for 20 its_array mh
  expect_equal "mh: policy, access" "$(its mh '"\(.crash_policy) \(.access)"')" "log read-write"
  expect "mh: it is written" /emd/bin/pattern write "$NODE" 4 512 1024
  wait_for 30 settled mh optimal
  emd_leaves
  # shellcheck disable=SC2046 # several devices
  md_tells $(of mh)
  wait_for 20 md_runs mh
  expect_equal "mh: md's policy" "$(md_sysfs mh consistency_policy)" ppl
  md_find mh
  expect "mh: md has what was written under EMD" /emd/bin/pattern verify "/dev/$REPLY" 4 512 1024
  md_stop
  step "power is cut when EMD has just written to Intel's"
  modprobe emd auto=0 clean_ms=3600000
  # shellcheck disable=SC2046 # several devices
  emdadm scan --degraded $(of ip) >/dev/null 2>&1 || true
  wait_for 20 its_array ip
  emdadm stop "${NODE#/dev/}" >/dev/null
  expect "its log is taken off" emdadm policy ip resync
  expect_equal "policy" "$(its ip .crash_policy)" resync
  expect "and put on again, by EMD" emdadm policy ip log
  # shellcheck disable=SC2046 # several devices
  emdadm scan --degraded $(of ip) >/dev/null 2>&1 || true
  wait_for 20 its_array ip
  expect_equal "policy" "$(its ip .crash_policy)" log
  expect "it is written" /emd/bin/pattern write "$NODE" 4 512 1024
  # In one piece: that is what the newest header tells of.
  known 7 4096 | dd of="$NODE" bs=4096 count=1 iflag=fullblock oflag=direct status=none
  host powercut
}

boot_3() {
  declare -gA SPOT
  step "md replays what EMD logged"
  # (The disk that was lost is there again, and md fills it from the others at once: from parity, for the row that was damaged.)
  expect_equal "on the disks" "$(its_record ip '"\(.level) \(.consistency) \(.access)"')" "raid5 dirty read-write"
  damaged ip
  # shellcheck disable=SC2046 # several devices
  md_tells $(of ip)
  wait_for 20 md_runs ip
  expect_equal "md's policy" "$(md_sysfs ip consistency_policy)" ppl
  md_find ip
  expect "what was written last" cmp -n 4096 "/dev/$REPLY" <(known 7 4096)
  expect "what shares the stripe with it" /emd/bin/pattern verify "/dev/$REPLY" 1 4 60
  expect "the rest" /emd/bin/pattern verify "/dev/$REPLY" 3 64 256
  expect "what was written under EMD last" /emd/bin/pattern verify "/dev/$REPLY" 4 512 1024
}

settled() { [[ $(its "$1" '[.state, .consistency, .task.kind // "-"] | join(" ")') == "$2 clean -" ]]; }

md_runs() { md_find "$1" && [[ $(md_sysfs "$1" array_state) =~ ^(clean|active|read-auto|active-idle)$ ]]; }

# md_tells DISK...: each is told to mdadm, as udev would.
md_tells() {
  local device
  md_load
  rm -f /dev/md/*
  for device; do mdadm -I "$device" || true; done >/run/mdadm.out 2>&1
  for device in $(md_nodes inactive); do mdadm -IR "/dev/$device" >>/run/mdadm.out 2>&1 || true; done
}
