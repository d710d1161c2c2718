# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Disks are pulled out under load: members, spares, a disk being rebuilt, and one more than the array bears. Then one with members on
# partitions.
# disks: 2x64M virtio, 2x64M scsi, 1x64M virtio
# emd: manual
# timeout: 90

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh

spare_is() { [[ $(emdadm show --json | jq -r "[.sets[].disks[] | select(.role == \"$1\")][0].state") == "$2" ]]; }

a_set_is_there() { (($(emdadm list --json | jq '.sets | length') > 0)); }

lost_are() { [[ $(missing) == "$1" ]]; }

missing() {
  local state states count=0
  ask emd0 members
  read -ra states <<<"$REPLY"
  for state in "${states[@]}"; do [[ ! $state =~ ^(missing|failed)$ ]] || ((count += 1)); done
  echo "$count"
}

boot_1() {
  modprobe emd clean_ms=200
  # Slots: disk1 (virtio), disk3 (scsi), disk2 (virtio).
  emdadm create --format ddf --level raid5 --name data --chunk 64K --size 24M --assume-clean "$(disk disk1)" "$(disk disk3)" "$(disk disk2)"

  step "a scsi disk is pulled out under load, and put back"
  load_begins 1
  unplug disk3
  wait_for 20 emd_is emd0 degraded
  load_ends
  expect "all data, degraded" fio_pass 1 verify
  expect_equal "one member is missing" "$(missing)" 1
  # The writes fail first; that the disk is gone is known a little later.
  wait_for 20 happened disk-lost
  plug disk3
  wait_for 40 emd_settled emd0
  expect "all data, rebuilt" fio_pass 1 verify

  step "a virtio disk is pulled out, a spare takes its place"
  expect "disk4 becomes a spare" emdadm spare emd0 "$(disk disk4)"
  load_begins 2
  unplug disk1
  wait_for 20 emd_has emd0 "$(disk disk4)"
  load_ends
  expect_equal "the spare's taking over is told" "$(events spare-activated | jq -r '.slot' | grep -cx 0)" 1
  wait_for 40 emd_settled emd0
  expect_equal "the spare is a member" "$(emd_member_device emd0 0)" "$(disk disk4)"
  expect "all data" fio_pass 2 verify

  step "a spare is pulled out"
  expect "disk5 becomes a spare" emdadm spare emd0 "$(disk disk5)"
  unplug disk5
  wait_for 10 spare_is global-spare missing
  expect_equal "the array" "$(emd_state emd0)" optimal
  plug disk5
  wait_for 10 spare_is global-spare online

  step "a spare for one array is away when its set starts, and is that again"
  expect "disk5 is one for data" emdadm spare --dedicated emd0 "$(disk disk5)"
  emdadm stop emd0 >/dev/null
  unplug disk5
  expect "start" emdadm scan
  wait_for 10 emd_is emd0 optimal
  plug disk5
  wait_for 10 spare_is dedicated-spare online
  expect "it is for all again" emdadm spare emd0 "$(disk disk5)"

  step "a disk is pulled out while it is rebuilt"
  expect "slowly" emdadm limit --max 2M emd0
  unplug disk3
  wait_for 20 emd_has emd0 "$(disk disk5)"
  wait_for 20 emd_has_task emd0 rebuild
  unplug disk5
  wait_for 20 lost_are 1
  expect_equal "the array" "$(emd_state emd0)" degraded
  expect "all data, degraded" fio_pass 2 verify
  expect "no limit" emdadm limit emd0
  plug disk3
  wait_for 60 emd_settled emd0
  expect "all data" fio_pass 2 verify

  step "one more than the array bears"
  known 5 $((12 << 20)) | dd of=/dev/emd0 bs=1M seek=12 iflag=fullblock oflag=direct conv=notrunc status=none
  load_begins 3 --size=12M
  unplug disk2
  unplug disk4
  # It writes over and over, until it sees an error.
  wait_for 20 test -e /run/load.over
  if wait "$LOAD"; then fail "fio saw no error"; fi
  grep -qi "Input/output error" /run/fio.3 || fail "fio failed with another error: $(tail /run/fio.3)"
  wait_for 10 emd_is emd0 failed
  expect_failure "a write fails" dd if=/dev/zero of=/dev/emd0 bs=64k count=1 oflag=direct conv=notrunc
  expect_failure "a read fails" dd if=/dev/emd0 of=/dev/null bs=1M iflag=direct
  expect "the array can be stopped" emdadm stop emd0
  expect "the module can be unloaded" rmmod emd
}

boot_2() {
  step "all disks are back"
  modprobe emd start_timeout_ms=1500 take_back=2
  if [[ ! -b /dev/emd0 ]]; then
    wait_for 10 a_set_is_there
    emdadm show
    emdadm scan --degraded --force || true
    emdadm show
  fi
  wait_for 10 test -b /dev/emd0
  wait_for 60 emd_settled emd0
  expect "it can be read as a whole" dd if=/dev/emd0 of=/dev/null bs=1M iflag=direct
  expect "what was written before" cmp <(known 5 $((12 << 20))) <(dd if=/dev/emd0 bs=1M skip=12 iflag=direct status=none)
  on_partitions
}

# on_partitions: a mirror and a RAID0 on partitions of the same two disks, one of which is pulled out and put back.
on_partitions() {
  local a b disk
  step "members on partitions of a disk that is pulled out"
  expect "deleted" emdadm delete --force emd0
  a=$(disk disk3) b=$(disk disk4)
  for disk in "$a" "$b"; do printf 'label: dos\nsize=20MiB\nsize=20MiB\n' | sfdisk -q "$disk"; done
  expect "a mirror" emdadm create --format md-1.2 --level raid1 --name mirror --assume-clean --force "${a}1" "${b}1"
  expect "a RAID0" emdadm create --format md-1.2 --level raid0 --name stripes --force "${a}2" "${b}2"
  known 6 $((4 << 20)) >"$(emd_device mirror)"
  known 7 $((4 << 20)) >"$(emd_device stripes)"
  unplug disk3
  wait_for 20 emd_is mirror degraded
  wait_for 20 emd_is stripes failed
  wait_for 20 lost_is_missing mirror
  plug disk3
  a=$(disk disk3)
  wait_for 10 test -b "${a}2"
  expect "scan" emdadm scan "${a}1" "${a}2"
  wait_for 30 emd_settled mirror
  expect "all data" cmp -n $((4 << 20)) "$(emd_device mirror)" <(known 6 $((4 << 20)))
  expect "stopped" emdadm stop "$(emd_device stripes)"
  expect "scan" emdadm scan "${a}2" "${b}2"
  wait_for 10 emd_is stripes optimal
  expect "all data" cmp -n $((4 << 20)) "$(emd_device stripes)" <(known 7 $((4 << 20)))
}

emd_device() { ask "$1" device && echo "$REPLY"; }

# The first member counts as missing, not as failed.
lost_is_missing() { ask "$1" members && [[ $REPLY == "missing in-sync" ]]; }
