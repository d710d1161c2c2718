# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# `make demo`: mdadm makes a set, EMD takes it through a lost disk and a power cut, mdadm agrees with the outcome.
# disks: 5x192M virtio
# emd: manual
# timeout: 150

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

FILES=6

# Files whose content can be made again after the power cut, to compare with.
write_files() { # FOLDER SEED
  local n
  for ((n = 1; n <= FILES; n++)); do known "$2" $((n * 500000)) >"$1/file$n"; done
  sync -f "$1"
}

check_files() { # TEXT FOLDER SEED
  local n
  for ((n = 1; n <= FILES; n++)); do
    expect_same "$1: file$n" "$(sha256sum <"$2/file$n")" "$(known "$3" $((n * 500000)) | sha256sum)"
  done
  say "ok: $1: all $FILES files have the right checksums"
}

expect_same() { [[ $2 == "$3" ]] || fail "$1 is wrong"; }

mount_all() {
  mkdir -p /mnt/data /mnt/mirror
  mount "$1" /mnt/data
  mount "$2" /mnt/mirror
}

# Writes and verifies over and over, until told to stop. Any wrong byte, or error, ends it.
verify_load() {
  local at
  rm -f /run/load.*
  for at in data mirror; do
    (
      until [[ -e /run/load.stop ]]; do
        fio --name="$at" --filename="/mnt/$at/fio" --size=8M --rw=randwrite --bsrange=4k-128k --direct=1 --ioengine=libaio \
          --iodepth=8 --verify=crc32c --verify_fatal=1 --do_verify=1 >"/run/load.$at.log" 2>&1 || break
        echo pass >>"/run/load.$at.passes"
      done
      [[ -e /run/load.stop ]]
    ) &
    LOADS+=($!)
  done
}

verify_load_ends() {
  local at pid
  touch /run/load.stop
  for pid in "${LOADS[@]}"; do wait "$pid" || fail "fio found wrong data: $(cat /run/load.*.log | grep -m 3 -iE 'verify|error|err=')"; done
  for at in data mirror; do
    say "ok: fio wrote and verified $at $(wc -l <"/run/load.$at.passes") times: no byte was wrong"
    rm "/mnt/$at/fio"
  done
}

passes() { [[ -e /run/load.$1.passes && $(wc -l <"/run/load.$1.passes") -ge $2 ]]; }

# emd.ko itself, without help: all that it needs besides are modules of the kernel's own.
insert_emd() {
  local file
  file=$(modinfo -n emd)
  # shellcheck disable=SC2046 # a list
  modprobe -a $(modinfo -F depends "$file" | tr , ' ')
  run insmod "$file"
}

# A bar for each task, line by line, as this may be no terminal. (On one, \`emdadm wait\` draws them in place.) BARS counts the lines;
# after so many, tasks need not go slowly any more.
ENOUGH_BARS=4
progress() {
  local bars
  BARS=0
  while bars=$(emdadm list --json | jq -r '
    def bar: if . == 0 then "" else "#" * . end;
    .sets[].volumes[] | select(.task)
    | (if .task.total_sectors == 0 then 0 else .task.done_sectors / .task.total_sectors end) as $part
    | ($part * 40 | floor) as $n
    | "      \(.device) \(.name): \(.task.kind) [\($n | bar)\("." * (40 - $n) // "")] \($part * 100 | floor)% \(.task.state)"') && [[ $bars ]]; do
    printf '%s\n' "$bars"
    BARS=$((BARS + 1))
    ((BARS != ENOUGH_BARS)) || emdadm limit >/dev/null
    sleep 0.3
  done
}

boot_1() {
  local data mirror lost device members
  mapfile -t DISKS < <(disks)

  step "1. mdadm makes a DDF set of five disks: a RAID5 volume of four, a RAID1 volume of two, one hot spare"
  md_load
  run mdadm -CR /dev/md/ddf -e ddf -n5 "${DISKS[@]}"
  run mdadm -CR /dev/md/data -l5 -n4 -c64 -z 96M "${DISKS[@]:0:4}"
  run mdadm -CR /dev/md/mirror -l1 -n2 -z 48M "${DISKS[@]:0:2}"
  md_wait data
  md_wait mirror
  expect "ext4 on the RAID5 volume" mkfs.ext4 -q -E lazy_itable_init=0 /dev/md/data
  expect "ext4 on the RAID1 volume" mkfs.ext4 -q -E lazy_itable_init=0 /dev/md/mirror
  mount_all /dev/md/data /dev/md/mirror
  write_files /mnt/data 1
  write_files /mnt/mirror 2
  say "ok: $FILES files written to each"
  umount /mnt/data /mnt/mirror
  md_stop
  modprobe -r raid456 raid1 2>/dev/null || true
  expect "mdadm has let go of all of it" test -z "$(md_nodes active)$(md_nodes inactive)"

  step "2. EMD is loaded. It finds the set and starts its arrays: no program helps it"
  insert_emd
  wait_for 10 emd_runs emd0
  wait_for 10 emd_runs emd1
  run emdadm list
  data=$(emd_node data) mirror=$(emd_node mirror)
  expect_equal "the RAID5 volume is optimal" "$(emd_state data)" optimal
  expect_equal "the RAID1 volume is optimal" "$(emd_state mirror)" optimal
  expect "fsck of the RAID5 volume" fsck.ext4 -fn "/dev/$data"
  expect "fsck of the RAID1 volume" fsck.ext4 -fn "/dev/$mirror"
  mount_all "/dev/$data" "/dev/$mirror"
  check_files "RAID5 as mdadm wrote it" /mnt/data 1
  check_files "RAID1 as mdadm wrote it" /mnt/mirror 2

  step "3. A disk of both volumes fails while fio writes and verifies. The hot spare takes its place"
  verify_load
  wait_for 60 passes data 1
  wait_for 60 passes mirror 1
  lost=${DISKS[1]}
  # So small a volume would be rebuilt before anybody has seen it.
  run emdadm limit --max 1M
  run emdadm fail "$data" "$lost"
  wait_for 10 eval 'emd_has_task data rebuild || emd_has_task mirror rebuild'
  run emdadm list
  # Both volumes use the same disks: they are rebuilt one after the other.
  progress
  expect "the rebuild was seen while it ran" test "$BARS" -ge 1
  expect "nothing runs any more" emdadm wait --timeout 90
  wait_for 60 emd_is data optimal
  wait_for 60 emd_is mirror optimal
  verify_load_ends
  run emdadm show
  for device in data mirror; do
    expect_equal "$device is optimal" "$(emd_state $device)" optimal
    members=$(emd_get $device '.members[].device')
    [[ $members == /dev/* ]] || fail "$device has no members: $members"
    expect_failure "$device uses the failed disk no more" grep -qx "$lost" <<<"$members"
  done
  expect "the spare is a member now" grep -qx "${DISKS[4]}" <(emd_get data '.members[].device')
  # What the page cache has is no proof: everything is read from the disks, and from the new member in particular.
  echo 3 >/proc/sys/vm/drop_caches
  check_files "RAID5 after the rebuild" /mnt/data 1
  check_files "RAID1 after the rebuild" /mnt/mirror 2

  step "4. The power is cut while files are written"
  write_files /mnt/data 3
  write_files /mnt/mirror 4
  say "ok: new files, made safe with sync, before the cut"
  for device in data mirror; do
    (while :; do dd if=/dev/urandom of="/mnt/$device/unsafe" bs=64k count=100 oflag=direct conv=notrunc status=none; done) &
  done
  sleep 1
  wait_for 10 emd_is_dirty data
  say "ok: the RAID5 volume is marked dirty, as it is being written"
  say "Power off."
  host powercut
}

boot_2() {
  local data mirror view name number
  mapfile -t DISKS < <(disks)

  step "5. The machine is up again. EMD finds the set and sees that it was not stopped in good order"
  insert_emd
  wait_for 20 emd_runs emd0
  wait_for 20 emd_runs emd1
  run emdadm list
  progress
  expect "nothing runs any more" emdadm wait --timeout 90
  wait_for 60 emd_settled data
  wait_for 60 emd_settled mirror
  # The events of the time before we looked are kept.
  emdadm monitor --from 0 --once --json >/run/events
  for name in data mirror; do
    number=$(emd_node $name)
    # shellcheck disable=SC2016 # of jq
    expect "$name was dirty, so its redundancy was made right again (resync)" \
      jq -es --arg a "/dev/$number" 'any(.kind == "task-started" and (.array == $a or .array == ($a | ltrimstr("/dev/"))) and .word == "resync")' /run/events
  done
  run emdadm list
  data=$(emd_node data) mirror=$(emd_node mirror)
  mount_all "/dev/$data" "/dev/$mirror"
  check_files "RAID5 after the power cut" /mnt/data 3
  check_files "RAID1 after the power cut" /mnt/mirror 4
  umount /mnt/data /mnt/mirror
  expect "fsck of the RAID5 volume" fsck.ext4 -fn "/dev/$data"
  expect "fsck of the RAID1 volume" fsck.ext4 -fn "/dev/$mirror"

  step "6. EMD is unloaded. mdadm reads what EMD wrote"
  wait_for 20 emd_settled data
  wait_for 20 emd_settled mirror
  view=$(emd_view)
  run emdadm stop --all
  run rmmod emd
  run mdadm -E "${DISKS[0]}"
  # The failed disk is out of the set; the others carry its metadata.
  expect_agreement "$view" "${DISKS[0]}" "${DISKS[@]:2}"
  md_assemble "${DISKS[0]}" "${DISKS[@]:2}"
  run cat /proc/mdstat
  for name in data mirror; do
    expect "md has nothing to resync or rebuild on $name" md_is_synced $name
    expect_equal "md checks all of $name and finds no mismatch" "$(md_mismatches $name)" 0
    expect "fsck of $name under md" fsck.ext4 -fn "/dev/md/$name"
  done
  mount_all /dev/md/data /dev/md/mirror
  check_files "RAID5 under md" /mnt/data 3
  check_files "RAID1 under md" /mnt/mirror 4
  umount /mnt/data /mnt/mirror
  md_stop

  step "The set went from mdadm to EMD, lost a disk, lost power, and went back. Nothing else was lost"
}
