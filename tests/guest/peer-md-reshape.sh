# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# An array whose reshape was cut in the middle is shown and not started, with the reason; nothing is written to its disks, and
# when md has gone on with the reshape to its end, EMD runs the new shape.
# disks: 4x12M virtio
# cpus: 1
# emd: manual
# timeout: 120

# shellcheck source=tests/guest/lib-md.sh
source /emd/tests/guest/lib-md.sh

SIZE=$((16 << 20)) # of the data that was there before

contents() { host contents disk1 disk2 disk3 disk4; }

data_of() { dd if="$1" bs=1M count=$((SIZE >> 20)) iflag=direct status=none | sha256sum; }

is_held() { emdadm show --json | jq -r '.sets[].volumes[].reason' | grep -q "a reshape is under way"; }

reshape_got_to() { # SECTORS: of the new shape, at least
  local at
  at=$(md0_sysfs reshape_position)
  [[ $at != none ]] && ((at >= $1))
}

boot_1() {
  mapfile -t DISKS < <(disks)
  md_load
  md_make 1.2 5 -n3 --chunk=64 --size=8M "${DISKS[@]:0:3}"
  known 7 "$SIZE" | dd of=/dev/md0 bs=1M iflag=fullblock oflag=direct status=none
  step "md reshapes from three members to four, slowly; power is cut in the middle"
  run mdadm /dev/md0 --add "${DISKS[3]}"
  echo 300 >/proc/sys/dev/raid/speed_limit_max
  echo 300 >/proc/sys/dev/raid/speed_limit_min
  run mdadm --grow /dev/md0 --raid-devices=4
  wait_for 40 reshape_got_to 3000
  host powercut
}

boot_2() {
  local before
  mapfile -t DISKS < <(disks)
  run mdadm --examine "${DISKS[0]}"
  mdadm --examine "${DISKS[0]}" | grep -q "Reshape pos'n" || fail "the power cut did not come in the middle of the reshape"
  before=$(contents)

  step "EMD shows it, and says why it does not start it"
  emd_load
  wait_for 20 is_held
  run emdadm show
  run emdadm scan --degraded --force
  expect_failure "it is not started by force either" test -b /dev/emd0
  rmmod emd
  expect_equal "nothing was written to the disks" "$(contents)" "$before"

  step "md goes on"
  md_load
  echo 200000 >/proc/sys/dev/raid/speed_limit_max
  run mdadm -A /dev/md0 "${DISKS[@]}"
  wait_for 60 md0_is_synced
  expect_equal "members" "$(md0_sysfs raid_disks)" 4
  expect_equal "all data" "$(data_of /dev/md0)" "$(known 7 "$SIZE" | sha256sum)"
  md0_stop

  step "and EMD has the new shape"
  emd_load
  wait_for 20 emd_runs emd0
  expect_equal "it can be written" "$(blockdev --getro /dev/emd0)" 0
  expect_equal "all data" "$(data_of /dev/emd0)" "$(known 7 "$SIZE" | sha256sum)"
}
