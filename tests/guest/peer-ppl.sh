# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Partial parity logs when power was cut. Intel's, which md left: EMD replays it when the array starts, without a member, and keeps it up; and md replays what EMD left. md's own: an array that lacks a member is not
# started without its log; when told to, EMD has the log replayed and takes it off. An array with all members is only read until then, and resynced. All that was not being written is there.
# disks: 9x36M scsi
# cpus: 1
# emd: manual
# timeout: 120

# shellcheck source=tests/guest/lib-imsm.sh
source /emd/tests/guest/lib-imsm.sh

# Name, and disks: Intel's and md's with a member that will be lost, md's with all of them.
declare -A MINE=([ip]="disk1 disk2 disk3" [mp]="disk4 disk5 disk6" [mh]="disk7 disk8 disk9")

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
  local name device
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
  dd if="$device" bs=512 skip="$offset" count=8 iflag=direct status=none | cmp -s - <(known 9 4096)
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
  for name in ip mp mh; do
    text=read-only
    [[ $name != ip ]] || text=read-write
    expect_equal "$name: on the disks" "$(its_record $name '"\(.level) \(.consistency) \(.access)"')" "raid5 dirty $text"
    damaged $name
    [[ $name == mh ]] || lost "$THIRD"
  done
  modprobe emd auto=0 clean_ms=300
  emdadm scan --degraded >/dev/null 2>&1 || true
  step "Intel's log is replayed when the array starts, and kept"
  wait_for 20 its_array ip
  expect_equal "ip: state, policy, access" "$(its ip '"\(.state) \(.crash_policy) \(.access)"')" "degraded log read-write"
  all_there ip
  expect_failure "ip: parity is right" untouched ip
  step "what lacks a member is not started without md's log"
  expect_failure "mp is not started" its_array mp
  text=$(its mp .reason)
  [[ $text == *"emdadm policy VOLUME resync"* ]] || fail "mp: the reason does not say what to do: $text"
  expect_equal "mp: policy" "$(its mp .crash_policy)" log
  expect "mp: parity is as it was" untouched mp
  expect "mp: its log is replayed and taken off" emdadm policy "$(its mp .id)" resync
  expect_failure "mp: parity is right" untouched mp
  step "what has all members is only read"
  wait_for 20 its_array mh
  all_there mh
  expect_failure "mh is not written" /emd/bin/pattern write "$NODE" 3 0 4
  expect_failure "its policy is not changed while it runs" emdadm policy "${NODE#/dev/}" resync
  emdadm stop "${NODE#/dev/}" >/dev/null
  expect "mh: its log is replayed and taken off" emdadm policy "$(its mh .id)" resync
  step "all of it is there, and can be written"
  emdadm scan --degraded >/dev/null 2>&1 || true
  for name in ip mp mh; do
    wait_for 20 its_array $name
    all_there $name
    expect "$name: it is written" /emd/bin/pattern write "$NODE" 3 64 256
  done
  for name in mp mh; do
    expect_equal "$name: policy, access" "$(its $name '"\(.crash_policy) \(.access)"')" "resync read-write"
  done
  wait_for 60 settled mh optimal
  expect_failure "mh: it was resynced" untouched mh
  wait_for 30 settled ip degraded
  wait_for 30 settled mp degraded
  emd_leaves
  step "md goes on, without a log where it was taken off"
  for name in mp mh; do
    # shellcheck disable=SC2046 # several devices
    mdadm -E $(of $name) >/run/examined
    expect_failure "$name: mdadm sees no log" grep PPL /run/examined
  done
  # shellcheck disable=SC2046 # several devices
  md_tells $(of ip) $(of mp) $(of mh)
  for name in ip mp mh; do
    wait_for 20 md_runs $name
    text=resync
    [[ $name != ip ]] || text=ppl
    expect_equal "$name: md's policy" "$(md_sysfs $name consistency_policy)" $text
    md_find $name
    expect "$name: md has what was written last" /emd/bin/pattern verify "/dev/$REPLY" 2 0 4
    expect "$name: what was written under EMD" /emd/bin/pattern verify "/dev/$REPLY" 3 64 256
    expect "$name: and the rest" /emd/bin/pattern verify "/dev/$REPLY" 1 320 3776
  done
  expect_equal "mh: md finds no mismatch" "$(md_mismatches mh)" 0
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
