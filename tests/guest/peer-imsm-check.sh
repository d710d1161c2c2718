# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A check and a repair of an Intel volume that are cut go on under EMD from where they were; mdadm calls them so, drops the one and
# ends the other as a resync. While writes are in flight neither keeps md from resyncing.
# disks: 3x36M scsi
# cpus: 1
# emd: manual
# timeout: 120

# shellcheck source=tests/guest/lib-imsm.sh
source /emd/tests/guest/lib-imsm.sh

# slow_emd [MILLISECONDS]: without writes before an array is clean.
slow_emd() {
  modprobe emd auto=0 checkpoint_ms=300 clean_ms="${1:-300}"
  expect "slow" emdadm limit --max 512K
}

# said WORD: what mdadm says of the volume.
said() { said_in <(mdadm -E "${DISKS[0]}") "$1"; }

# said_in FILE WORD: what it said when it wrote the file.
said_in() { awk -v word="$2" -F ' : ' '$1 ~ word { print $2; exit }' "$1"; }

# under_way KIND LEAST: the task goes on, from LEAST sectors or later; then it is held.
under_way() {
  wait_for 20 emd_has_task v "$1"
  wait_for 20 emd_task_is v running
  (($(emd_done v) >= $2)) || fail "$1 begins anew: at $(emd_done v), $2 were done"
  wait_for 60 emd_has_done v $(($2 + 2048))
}

# noted: how far it is, as the disks say: two units of 384 sectors may be missing when it is held.
noted() {
  expect "held" emdadm pause "$(emd_node v)"
  sleep 0.5
  wait_for 10 stands_still
  emd_leaves
  local units
  units=$(said "Checkpoint")
  units=${units%% *}
  ((units * 384 > MARK - 768 && units * 384 <= MARK)) || fail "EMD was at sector $MARK, mdadm reads $units units of 384"
}

# stands_still: all of the task that was under way when it was held is back. Where it is, is in MARK.
stands_still() {
  MARK=$(emd_done v)
  sleep 0.2
  [[ $(emd_done v) == "$MARK" ]]
}

boot_1() {
  mapfile -t DISKS < <(disks)
  md_load
  step "a check is cut, and goes on"
  slow_emd
  expect "RAID 5" emdadm create -e imsm -l raid5 -n v --force --chunk 64K --size 40M --assume-clean "${DISKS[@]}"
  SUMS[v]=$(fill "/dev/$(emd_node v)" 5)
  wait_for 20 emd_is_clean v
  expect "a check" emdadm check "$(emd_node v)"
  under_way check 0
  noted
  expect_equal "mdadm's word" "$(said "Migrate State")" check
  slow_emd 5000
  expect "scanned" emdadm scan
  under_way check $((MARK - 768))
  step "writes in the middle of it"
  /emd/bin/pattern write "/dev/$(emd_node v)" 5
  wait_for 10 emd_is_dirty v
  # At one time: it is clean again soon.
  mdadm -E "${DISKS[0]}" >/run/examined
  expect_equal "mdadm would resync, from the start" "$(said_in /run/examined "Migrate State"), $(said_in /run/examined "Checkpoint"), $(said_in /run/examined "Dirty State")" "repair, 0 (384), dirty"
  wait_for 20 emd_is_clean v
  SUMS[v]=$(sum "/dev/$(emd_node v)")
  noted
  expect_equal "it is a check again" "$(said "Migrate State")" check

  step "md takes it: nothing to sync"
  dmesg -C
  md_assemble "${DISKS[@]}"
  expect_equal "the bytes" "$(sum "$(md_device v)")" "${SUMS[v]}"
  expect_no_md_sync
  md_stop

  step "a repair is cut: whoever has it resyncs the rest"
  slow_emd
  expect "scanned" emdadm scan
  wait_for 20 emd_node v
  [[ $(emd_task v) == "" ]] || emdadm cancel "$(emd_node v)"
  wait_for 20 emd_settled v
  expect "a repair" emdadm repair "$(emd_node v)"
  under_way repair 0
  noted
  expect_equal "mdadm's word" "$(said "Migrate State")" repair
  slow_emd
  expect "scanned" emdadm scan
  under_way initialise $((MARK - 768))
  noted
  expect_equal "mdadm's word" "$(said "Migrate State")" repair
  md_assemble "${DISKS[@]}"
  /emd/bin/pattern write "$(md_device v)" 5
  wait_for 60 md_gets_synced v
  md_stop
  expect_equal "it is over" "$(said "Migrate State")" idle
  expect "scanned" emdadm examine "${DISKS[@]}"
}
