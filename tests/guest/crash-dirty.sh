# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Power is cut while a RAID5 and a RAID1 volume are written: they come back dirty, are resynced, and then md finds their
# redundancy right; the filesystem is whole, and what was synced is there. A third one, with policy none, is taken as right.
# disks: 4x96M virtio
# timeout: 90

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

# What does not agree in the volume with policy none: this sector of a member is spoilt, in the region that is written.
SPOILT=2048

# spoil_trusted: while it is stopped, as its policy can be changed then only.
spoil_trusted() {
  local device offset
  read -r device offset < <(emd_get trusted '.members[1] | "\(.device) \(.offset_sectors)"')
  known 77 4096 | dd of="$device" bs=512 seek=$((offset + SPOILT)) oflag=direct conv=notrunc status=none
}

boot_1() {
  local array
  mapfile -t DISKS < <(disks)
  step "two volumes with a filesystem"
  expect "raid5" emdadm create -e ddf -l raid5 -n five --size 48M --assume-clean "${DISKS[@]}"
  expect "raid1" emdadm create --set five -l raid1 -n one --size 32M --assume-clean "${DISKS[@]:2:2}"
  for array in five one; do
    # Not assumed but made: all members' bytes agree.
    fill "/dev/$(emd_node $array)" >/dev/null
    expect "ext4" mkfs.ext4 -q -E lazy_itable_init=0 "/dev/$(emd_node $array)"
    mkdir "/mnt/$array"
    mount "/dev/$(emd_node $array)" "/mnt/$array"
    known 1 3000000 >"/mnt/$array/synced"
    sync -f "/mnt/$array"
  done
  wait_for 20 emd_is_clean five
  wait_for 20 emd_is_clean one

  expect "raid5, which nothing is to be done about" emdadm create --set five -l raid5 -n trusted --size 6M --assume-clean "${DISKS[@]}"
  fill "/dev/$(emd_node trusted)" 2 >/dev/null
  wait_for 20 emd_is_clean trusted
  expect "stopped" emdadm stop trusted
  expect "policy none" emdadm policy trusted none
  spoil_trusted
  expect "started" emdadm start trusted
  wait_for 20 emd_node trusted
  trusted=/dev/$(emd_node trusted)

  step "power cut under writes"
  for array in five one; do
    for name in a b; do
      (spread && while :; do dd if=/dev/urandom of="/mnt/$array/$name" bs=24k count=100 oflag=direct conv=notrunc status=none; done) &
    done
    # Each line is on disk before the next is written.
    (for ((n = 1; ; n++)); do echo "$n" >>"/mnt/$array/lines" && sync "/mnt/$array/lines" && echo "$n" >"/run/next.$array" && mv "/run/next.$array" "/run/acked.$array"; done) &
  done
  wait_for 20 test -s /run/acked.five -a -s /run/acked.one
  (spread && while :; do dd if=/dev/urandom of="$trusted" bs=4k count=16 oflag=direct conv=notrunc status=none; done) &
  sleep 1
  for array in five one trusted; do
    wait_for 10 emd_is_dirty $array
    say "ok: $array is dirty"
  done
  # What was acknowledged at this moment, at least, is to be there.
  cat /run/acked.five /run/acked.one | host put acked
  mkdir /mnt/five/told
  # Not with cp: they are replaced all the time.
  cat /run/acked.five >/mnt/five/told/five
  cat /run/acked.one >/mnt/five/told/one
  sync -f /mnt/five
  host powercut
}

was_resynced() { # ARRAY: its events say so
  emdadm monitor --from 0 --once --json >/run/events
  # shellcheck disable=SC2016 # of jq
  jq -es --arg a "$1" \
    '[.[] | select((.array // "" | ltrimstr("/dev/")) == $a) | .kind + " " + (.word // "")] | any(. == "task-started resync") and any(startswith("task-done"))' /run/events
}

# shellcheck disable=SC2016 # of jq
tasks_of() {
  emdadm monitor --from 0 --once --json | jq -rs --arg a "/dev/$(emd_node "$1")" '.[] | select(.array == $a and (.kind | startswith("task-"))) | .kind + " " + (.word // "")'
}

is_mismatch() { [[ $(emd_get trusted "any(.mismatches[]; .first_sector <= $1 and .first_sector + .sectors > $1)") == true ]]; }

boot_2() {
  local array told
  mapfile -t DISKS < <(disks)
  step "dirty, so resynced"
  for array in five one; do wait_for 20 emd_node $array; done
  for array in five one; do wait_for 40 emd_settled $array; done
  for array in five one; do
    wait_for 10 was_resynced "$(emd_node $array)"
    say "ok: $array was resynced to its end"
  done

  step "policy none: redundancy is taken as right, so no task starts"
  wait_for 20 emd_node trusted
  wait_for 20 emd_settled trusted
  expect_equal "its policy" "$(emd_get trusted .crash_policy)" none
  expect_equal "tasks of it" "$(tasks_of trusted)" ""
  expect "a check" emdadm check --wait trusted
  expect "what did not agree was left alone" is_mismatch $SPOILT
  expect_equal "what was not being written" "$(dd if="/dev/$(emd_node trusted)" bs=64k skip=64 count=16 iflag=direct status=none | cksum)" "$(known 2 5242880 | tail -c 1048576 | cksum)"

  step "filesystem and data"
  mkdir /mnt/five /mnt/one
  mount "/dev/$(emd_node five)" /mnt/five
  for array in five one; do
    [[ $array == five ]] || mount "/dev/$(emd_node one)" /mnt/one
    expect_equal "$array: what was synced is there" "$(cksum <"/mnt/$array/synced")" "$(known 1 3000000 | cksum)"
    told=$(<"/mnt/five/told/$array")
    expect_equal "$array: all of $told acknowledged lines are there, in order" "$(head -n "$told" "/mnt/$array/lines" | cksum)" "$(seq "$told" | cksum)"
  done
  umount /mnt/five /mnt/one
  for array in five one; do expect "fsck of $array" fsck.ext4 -fn "/dev/$(emd_node $array)"; done
  for array in five one; do wait_for 20 emd_settled $array; done

  step "md checks the redundancy"
  expect "deleted" emdadm delete --force trusted
  emdadm stop --all >/dev/null
  rmmod emd
  md_assemble "${DISKS[@]}"
  for array in five one; do
    expect "$array: md has nothing to sync" md_is_synced $array
    expect_equal "$array: md finds no mismatch" "$(md_mismatches $array)" 0
  done
}
