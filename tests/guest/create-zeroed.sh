# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Volumes whose members the disks fill with zeroes: redundant at once, without an initialisation. Disks that cannot do that are refused.
# disks: 4x40M virtio
# emd: manual
# cpus: 1
# timeout: 60

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

# Those that have their node in /dev, which comes a moment after the rest.
debug_disks() {
  local file model device
  for file in /sys/block/sd*/device/model; do
    device=${file#/sys/block/} device=/dev/${device%%/*}
    if read -r model 2>/dev/null <"$file" && [[ $model == scsi_debug* && -b $device ]]; then echo "$device"; fi
  done
}

all_debug_disks() { (($(debug_disks | wc -l) == 2)); }

is_filling() { [[ $(emdadm show --json | jq -r '.sets[].volumes[].reason') == *"filled with zeroes"* ]]; }

boot_1() {
  local cell disk why slow job set
  mapfile -t DISKS < <(disks)
  emd_load
  for disk in "${DISKS[@]}"; do expect "filled" fill "$disk" 9; done
  for cell in ddf:raid6 md-1.2:raid5 $(! whole || echo imsm:raid1); do
    step "$cell, of disks full of other data"
    dmesg -C
    expect "created" emdadm create -e "${cell%:*}" -l "${cell#*:}" -n zeroed --zero --force "${DISKS[@]:0:$([[ $cell == *raid1 ]] && echo 2 || echo 4)}"
    expect "it is optimal and clean" emd_settled emd0
    # To a file: grep -q leaves, and a pipe would fail for that.
    dmesg >/run/dmesg
    expect_failure "no initialisation began" grep -q "initialise started" /run/dmesg
    expect "it holds zeroes" cmp -n "$(blockdev --getsize64 /dev/emd0)" /dev/emd0 /dev/zero
    agrees emd0 "zeroed"
    expect "written" fill /dev/emd0 1
    expect "a member is failed" emdadm fail emd0 "${DISKS[1]}"
    expect "without it: the data" pattern verify /dev/emd0 1
    expect "deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')"
  done

  step "disks that take their time: others go on meanwhile, the volume is left alone, and an end of the program ends it"
  # Each command fills 32 KiB, and takes a tick, one after the other: half a minute for each disk.
  modprobe scsi_debug add_host=2 per_host_store=1 dev_size_mb=256 lbpu=1 lbpws=1 write_same_length=64 delay=1 max_queue=1
  wait_for 10 all_debug_disks
  mapfile -t slow < <(debug_disks)
  emdadm create -e ddf -l raid1 -n slow --zero "${slow[@]}" >/tmp/slow 2>&1 &
  job=$!
  wait_for 10 is_filling
  set=$(emdadm show --json | jq -r '.sets[0].id')
  expect "another set is made" emdadm create -e md-1.2 -l raid1 -n quick --zero --force "${DISKS[@]:0:2}"
  expect "and deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[] | select(.format == "md-1.2").id')"
  expect_failure "the volume cannot be deleted" emdadm delete --force "$set"
  expect_failure "nor started" eval 'emdadm scan; [[ -b /dev/emd0 ]]'
  for why in remove fail; do
    why=$(emdadm $why --force "$set" "${slow[0]}" 2>&1 || true)
    [[ $why == *"filled with zeroes"* ]] || fail "it may lose a disk meanwhile: $why"
  done
  expect "it is still being filled" is_filling
  kill "$job"
  expect_failure "the program has ended" wait "$job"
  expect_equal "no set stays" "$(emdadm show --json | jq '.sets | length')" 0
  expect "the disks are free" emdadm create -e ddf -l raid1 -n slow --assume-clean --force "${slow[@]}"
  expect "deleted" emdadm delete --force slow

  step "disks that cannot"
  modprobe brd rd_nr=2 rd_size=40960
  wait_for 10 test -b /dev/ram1
  expect_equal "a ramdisk has no such command" "$(</sys/block/ram0/queue/write_zeroes_max_bytes)" 0
  expect_failure "refused" emdadm create -e ddf -l raid1 --zero /dev/ram0 /dev/ram1
  why=$(emdadm create -e ddf -l raid1 --zero /dev/ram0 /dev/ram1 2>&1 || true)
  [[ $why == *"does not fill itself with zeroes"* ]] || fail "no reason is given: $why"
  expect_equal "no set stays" "$(emdadm show --json | jq '.sets | length')" 0
  expect "nothing was written" [ "$(awk '{ print $7 }' /sys/block/ram0/stat)" = 0 ]
  expect_failure "both at once" emdadm create -e ddf -l raid1 --zero --assume-clean "${DISKS[@]:0:2}"
}
