# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sectors that nobody reads go bad: a check or repair comes by, writes them again from redundancy, and they can be read. Where too much is lost, just these sectors fail;
# those that a rebuild could not fill are remembered over a restart, or where the metadata has no place for them the rebuild does not count as done. A write puts them right.
# cpus: 1
# emd: manual
# timeout: 120

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh

NAMES=(one five six ten)

# bad NAME SLOT SECTOR COUNT: sectors of a member cannot be read. What was there is lost: other bytes are.
bad() {
  local disk first
  disk=$(emd_member_device "$1" "$2")
  first=$(($(emd_get "$1" ".members[$2].offset_sectors") + $3))
  known 9 $(($4 * 512)) | dd of="/run/${disk#/dev/}/data" bs=512 seek=$first conv=notrunc status=none
  head -c "$4" /dev/zero | tr '\0' 'x' | dd of="/run/${disk#/dev/}/bad" bs=1 seek=$first conv=notrunc status=none
  expect_failure "$1, slot $2: sector $3 cannot be read" range "$disk" $first 1
}

# wrong NAME SLOT SECTOR: a sector of a member is wrong, and nobody says so.
wrong() {
  local disk first
  disk=$(emd_member_device "$1" "$2")
  first=$(($(emd_get "$1" ".members[$2].offset_sectors") + $3))
  known 10 512 | dd of="/run/${disk#/dev/}/data" bs=512 seek=$first conv=notrunc status=none
}

# How many sectors of all disks cannot be read.
all_bad() { cat /run/nbd*/bad | tr -d '\0' | wc -c; }

right() { expect_equal "$1: all of it" "$(sum "/dev/$(emd_node "$1")")" "${SUMS[$1]}"; }

# lost NAME SECTOR...: just these sectors of a volume cannot be read, and all others are right.
lost() {
  local name=$1 device block sector found=()
  device=/dev/$(emd_node "$name")
  shift
  while read -r block; do
    for ((sector = block * 8; sector < block * 8 + 8; sector++)); do
      if range "$device" $sector 1 >/run/sector 2>/dev/null; then
        cmp -s /run/sector <(range_of "/run/$name" $sector) || fail "$name: sector $sector is other data"
      else
        found+=("$sector")
      fi
    done
  done < <(blocks_that_differ "$device" "/run/$name")
  expect_equal "$name: what cannot be read" "${found[*]}" "$*"
}

# blocks_that_differ DEVICE FILE: of 4 KiB. What cannot be read is zeroes there.
blocks_that_differ() {
  { dd if="$1" bs=4k iflag=direct conv=noerror,sync status=none 2>/dev/null || true; } | { cmp -l - "$2" || true; } | awk '{ print int(($1 - 1) / 4096) }' | uniq
}

range_of() { dd if="$1" bs=512 skip="$2" count="${3:-1}" status=none; }

# rewritten NAME FIRST COUNT: sectors are written with what they held.
rewritten() {
  local size=$(($3 * 512))
  range_of "/run/$1" "$2" "$3" >/run/again
  expect "$1: $3 sectors at $2 are written" dd if=/run/again of="/dev/$(emd_node "$1")" bs=$size seek=$(($2 * 512)) oflag=direct,seek_bytes conv=notrunc status=none
}

# Sectors in bad ranges.
bad_ranges() { emdadm show --json | jq '[.sets[].bad_ranges[].sectors] | add // 0'; }

# repaired NAME: the slots whose sectors were written again.
repaired() { events read-repaired | jq -r "select(.array == \"/dev/$(emd_node "$1")\") | .slot" | sort -u | xargs; }

# under_load NAME SLOTS: sectors go bad while all of it is read, and written over and over with one thing and another: what is written again
# is what is there, and nothing older.
under_load() {
  local name=$1 slots=$2 device size disk round writer
  device=/dev/$(emd_node "$name")
  size=$(blockdev --getsize64 "$device")
  known 11 "$size" >/run/image.0
  known 12 "$size" >/run/image.1
  rm -f /run/over
  (
    passes=0
    until [[ -e /run/over ]]; do
      dd if="/run/image.$((passes % 2))" of="$device" bs=8k oflag=direct conv=notrunc status=none || exit 1
      passes=$((passes + 1))
    done
    echo $(((passes - 1) % 2)) >/run/last
  ) &
  writer=$!
  for ((round = 0; round < 8; round++)); do
    disk=$(emd_member_device "$name" $((round % slots)))
    printf 'xx' | dd of="/run/${disk#/dev/}/bad" bs=1 conv=notrunc status=none \
      seek=$(($(emd_get "$name" ".members[$((round % slots))].offset_sectors") + 16 + round * 120))
    dd if="$device" of=/dev/null bs=32k iflag=direct status=none || fail "$name: a read failed"
  done
  touch /run/over
  wait $writer || fail "$name: a write failed"
  expect "$name: the last thing that was written is there" cmp "/run/image.$(</run/last)" <(dd if="$device" bs=64k iflag=direct status=none)
  expect "a check" emdadm check --wait "$name"
  expect_equal "$name: nothing differs" "$(emd_get "$name" '.mismatches | length')" 0
  expect "$name is as before" dd if="/run/$name" of="$device" bs=64k oflag=direct conv=notrunc status=none
}

members_stay() {
  local name
  for name in "${NAMES[@]}"; do
    emd_settled "$name" || fail "$name: $(emd_state "$name") $(emd_members "$name")"
  done
  expect_equal "no member was failed" "$(events member-failed)" ""
}

boot_1() {
  local a b c d e name errors
  declare -gA SUMS
  make_disks 40960 5
  a=/dev/nbd0 b=/dev/nbd1 c=/dev/nbd2 d=/dev/nbd3 e=/dev/nbd4
  modprobe emd clean_ms=200
  emdadm create -e ddf -l raid6 -n six --chunk 16K --size 1M --assume-clean $a $b $c $d
  emdadm create --set emd0 -l raid1 -n one --size 512K --assume-clean $a $b
  emdadm create --set emd0 -l raid5 -n five --chunk 16K --size 1M --assume-clean $a $b $c
  emdadm create --set emd0 -l raid10 -n ten --chunk 16K --size 1M --assume-clean $a $b $c $d
  for name in "${NAMES[@]}"; do
    wait_for 20 emd_node "$name"
    SUMS[$name]=$(fill "/dev/$(emd_node "$name")" 7)
    dd if="/dev/$(emd_node "$name")" of="/run/$name" bs=64k iflag=direct status=none
  done
  for name in "${NAMES[@]}"; do wait_for 10 emd_is_clean "$name"; done

  step "a check, or a repair, comes by sectors that cannot be read"
  # Data and parity; one in a place, and as many as the level bears.
  bad one 0 100 3
  bad one 1 700 1
  bad five 0 10 2
  bad five 1 200 8
  bad five 2 40 1
  bad six 0 65 1
  bad six 3 65 1
  bad six 1 300 9
  bad ten 0 33 2
  bad ten 3 500 1
  expect "a check" emdadm check --wait one
  expect "a repair" emdadm repair --wait five
  expect "a check" emdadm check --wait six
  expect "a repair" emdadm repair --wait ten
  expect_equal "all can be read again" "$(all_bad)" 0
  expect_equal "it is told of each member" "$(repaired one), $(repaired five), $(repaired six), $(repaired ten)" "0 1, 0 1 2, 0 1 3, 0 3"
  errors=$(events read-error | wc -l)
  for name in "${NAMES[@]}"; do
    right "$name"
    expect "a check" emdadm check --wait "$name"
    expect_equal "$name: nothing differs" "$(emd_get "$name" '.mismatches | length')" 0
  done
  expect_equal "nobody meets an error any more" "$(events read-error | wc -l)" "$errors"
  members_stay

  step "sectors go bad while they are read and written"
  errors=$(events read-error | wc -l)
  under_load one 2
  under_load five 3
  (($(events read-error | wc -l) > errors + 3)) || fail "hardly anybody met them"
  expect_equal "all can be read again" "$(all_bad)" 0
  for name in "${NAMES[@]}"; do wait_for 10 emd_is_clean "$name"; done
  members_stay

  step "beside a sector that cannot be read, the others are wrong"
  # Those from which it is worked out: the other copy, and parity, each a little further on.
  bad one 0 100 1
  wrong one 1 108
  bad five 0 10 1
  wrong five 2 18
  for name in one five; do right "$name"; done
  expect_equal "all can be read again" "$(all_bad)" 0
  rewritten one 108 1
  expect "a repair" emdadm repair --wait five
  for name in one five; do
    right "$name"
    expect "a check" emdadm check --wait "$name"
    expect_equal "$name: nothing differs" "$(emd_get "$name" '.mismatches | length')" 0
  done

  step "too much is lost for a repair"
  # Left-symmetric, in row 0: data, data, parity.
  bad one 0 100 2
  bad one 1 100 1
  bad five 0 10 1
  bad five 1 10 2
  expect "a repair" emdadm repair --wait one
  expect "a repair" emdadm repair --wait five
  lost one 100
  lost five 10 42
  members_stay
  rewritten one 100 1
  # Parity is made of both.
  rewritten five 0 64
  right one
  right five
  expect_equal "all can be read again" "$(all_bad)" 0

  step "too much is lost for a rebuild"
  bad one 1 100 3
  bad five 1 10 3
  bad ten 1 20 2
  # Here one more can be lost.
  bad six 1 50 2
  # It takes the place in all of them.
  expect "a spare" emdadm spare emd0 $e
  emdadm fail emd0 $a
  for name in "${NAMES[@]}"; do wait_for 10 emd_has "$name" $e && wait_for 30 emd_settled "$name"; done
  not_filled
  step "after a restart"
  # shellcheck disable=SC2119
  emd_reload
  for name in "${NAMES[@]}"; do wait_for 20 emd_settled "$name"; done
  not_filled
  expect "a check" emdadm check --wait five
  expect_equal "a check does not see them as different" "$(emd_get five '.mismatches | length')" 0
  step "they are written"
  rewritten one 100 3
  rewritten five 0 64
  rewritten ten 16 8
  for name in "${NAMES[@]}"; do right "$name"; done
  expect_equal "bad ranges" "$(bad_ranges)" 0
  # Its Q, which no rebuild of one member reads.
  expect "a check" emdadm check --wait six
  expect_equal "all can be read again" "$(all_bad)" 0
  # shellcheck disable=SC2119
  emd_reload
  for name in "${NAMES[@]}"; do
    wait_for 20 emd_settled "$name"
    right "$name"
  done
  expect_equal "bad ranges" "$(bad_ranges)" 0
  expect "deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')"

  healed_at_once

  step "the metadata has no place for bad ranges"
  withheld asr raid1 -n m
  # It has one, of which mdadm knows nothing.
  withheld mdadm raid1
  ! whole || withheld md-0.90 raid5 --chunk 16K
}

not_filled() {
  local name
  expect_equal "bad ranges" "$(bad_ranges)" 8
  lost one 100 101 102
  # What could not be read, and what was to be worked out from it.
  lost five 10 11 12 42 43 44
  lost ten 20 21
  right six
  expect_equal "no member was failed" "$(for name in "${NAMES[@]}"; do emd_members "$name"; done | tr ' ' '\n' | sort -u)" in-sync
}

# More is healed by one write than may wait to be recorded: blocks of 512 bytes, in several lanes at a time.
healed_at_once() {
  local name=emd0
  step "a write heals 1024 blocks at once"
  expect "created" emdadm create -e ddf -l raid1 -n m --size 1M --assume-clean --force "${DISKS[@]:0:2}"
  wait_for 20 emd_node $name
  SUMS[$name]=$(fill /dev/emd0 8)
  dd if=/dev/emd0 of=/run/$name bs=64k iflag=direct status=none
  wait_for 10 emd_is_clean $name
  bad $name 1 512 1024
  emdadm fail emd0 "${DISKS[0]}"
  wait_for 10 emd_is $name degraded
  expect "a spare" emdadm add emd0 "${DISKS[4]}"
  wait_for 60 emd_settled $name
  expect_equal "bad ranges" "$(bad_ranges)" 1024
  expect_failure "a read of it" range /dev/emd0 1000 1
  rewritten $name 512 1024
  right $name
  expect_equal "bad ranges" "$(bad_ranges)" 0
  # shellcheck disable=SC2119
  emd_reload
  wait_for 20 emd_settled $name
  right $name
  expect "deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')"
}

# withheld FORMAT LEVEL OPTION...: of two or three members; the first is lost, the second has sectors that cannot be read. FORMAT mdadm: DDF, made by mdadm.
withheld() {
  local format=$1 level=$2 name=emd0 members=2 wanted=(100 101 102) first=96 count=8
  shift 2
  [[ $level == raid1 ]] || members=3 wanted=(10 11 12 42 43 44) first=0 count=64
  step "$format: a rebuild that does not count as done"
  if [[ $format == mdadm ]]; then
    made_by_mdadm
  else
    expect "created" emdadm create -e "$format" -l "$level" --size 1M --assume-clean --force "$@" "${DISKS[@]:0:members}"
  fi
  wait_for 20 emd_node $name
  fill /dev/emd0 8 >/run/sum
  SUMS[$name]=$(</run/sum)
  dd if=/dev/emd0 of=/run/$name bs=64k iflag=direct status=none
  wait_for 10 emd_is_clean $name
  bad $name 1 $((members == 2 ? 100 : 10)) 3
  emdadm fail emd0 "$(emd_member_device $name 0)"
  wait_for 10 emd_is $name degraded
  expect "a spare" emdadm add emd0 "${DISKS[4]}"
  wait_for 30 is_withheld
  lost $name "${wanted[@]}"
  step "$format: after a restart"
  # shellcheck disable=SC2119
  emd_reload
  wait_for 30 is_withheld
  lost $name "${wanted[@]}"
  step "$format: they are written"
  rewritten $name $first $count
  wait_for 20 emd_settled $name
  right $name
  # shellcheck disable=SC2119
  emd_reload
  wait_for 20 emd_settled $name
  right $name
  expect_no_emd_task
  expect "deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')"
}

# A mirror of the first two disks.
made_by_mdadm() {
  rmmod emd
  modprobe raid1
  expect "a container" mdadm -CR /dev/md/ddf -e ddf -n 2 "${DISKS[@]:0:2}"
  md_create m 1 2 1M --assume-clean
  md_stop
  emd_load
}

# The rebuild has ended, people know why it does not count, and it does not begin anew.
is_withheld() {
  happened task-stopped && emd_is emd0 degraded && emd_has_task emd0 null &&
    [[ $(emd_get emd0 '.reason') == *"has no place to remember them" && " $(emd_members emd0) " == *" rebuilding "* && $(events task-started | wc -l) == 1 ]]
}
