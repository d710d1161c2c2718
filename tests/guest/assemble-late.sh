# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Disks that come when their set runs already: one that was used apart from it, and may hold what nobody else does, is left alone; those of a volume that waits for
# them bring it up with their data; one that was left out is rebuilt. What a disk holds of a volume without redundancy, which others recorded as lost, counts by force.
# disks: 4x64M virtio
# emd: manual
# timeout: 180

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh
# shellcheck source=tests/guest/lib-assemble.sh
source /emd/tests/guest/lib-assemble.sh

SIZE=$((24 << 20))

# write_and_read DEVICE SEED: known data over all of it, on the disks when this returns.
written() {
  known "$2" $SIZE | dd of="$1" bs=1M iflag=fullblock oflag=direct conv=notrunc status=none
  expect "$1: what is written is there" holds "$1" "$2"
}

holds() { cmp <(known "$2" $SIZE) <(dd if="$1" bs=1M iflag=direct status=none | head -c $SIZE); }

# alone DISK SEED: the set runs on one disk, and is written.
alone() {
  load
  wait_for 10 emd_runs emd0
  expect_equal "on $1 alone" "$(emd_state emd0)" degraded
  [[ -z $2 ]] || written /dev/emd0 "$2"
  wait_for 10 emd_is_clean emd0
}

is_left_alone() { events note | grep -q 'left alone'; }

# apart FORMAT: both halves of a mirror were used without the other one.
apart() {
  local before
  step "$1: each half was used alone; the older one runs when the newer one comes"
  modprobe emd clean_ms=200 auto=0
  emdadm create --format "$1" --force --level raid1 --name data --size $((SIZE >> 20))M --assume-clean "$(disk disk1)" "$(disk disk2)" >/dev/null
  written /dev/emd0 1
  wait_for 10 emd_is_clean emd0
  unload
  unplug disk2
  alone disk1 2
  unload
  unplug disk1
  plug disk2
  alone disk2 3
  # More updates than the other one has had.
  local n
  for n in 4 5 6; do
    written /dev/emd0 $n
    wait_for 10 emd_is_clean emd0
  done
  unload
  unplug disk2
  plug disk1
  alone disk1 ""
  plug disk2

  before=$(host contents disk2)
  wait_for 20 is_left_alone
  sleep 1
  expect_equal "the array" "$(emd_state emd0)" degraded
  unchanged "nothing was written to the disk that came" "$before" disk2
  expect "what the running half has" holds /dev/emd0 2
  step "$1: a person gives up what the other half holds"
  expect_failure "not without force" emdadm add emd0 "$(disk disk2)"
  unchanged "nothing was written to it" "$before" disk2
  expect "add" emdadm add --force emd0 "$(disk disk2)"
  wait_for 40 emd_settled emd0
  expect "what the running half has" holds /dev/emd0 2
  emdadm delete --force "$(emd_get emd0 .id)" >/dev/null
  rmmod emd
}

stripes_wait() { ! [[ -b /dev/emd1 ]]; }

# slipped FORMAT: a mirror and stripes on the same disks; one of these is away for a moment, and the mirror goes on without it.
slipped() {
  local set
  step "$1: a disk that slipped out is lost to the mirror, and to the stripes on it, too"
  load
  emdadm create --format "$1" --force --level raid1 --name mirror --size 8M --assume-clean "$(disk disk1)" "$(disk disk2)" >/dev/null
  set=$(emdadm show --json | jq -r '.sets[0].id')
  emdadm create --set "$set" --level raid0 --name stripes --size 24M "$(disk disk1)" "$(disk disk2)" >/dev/null
  written /dev/emd1 12
  unplug disk2
  wait_for 10 emd_is emd0 degraded
  known 13 $((4 << 20)) | dd of=/dev/emd0 bs=1M iflag=fullblock oflag=direct conv=notrunc status=none
  plug disk2
  wait_for 20 is_left_alone
  expect_failure "not while the stripes run without it" emdadm add --force emd0 "$(disk disk2)"
  expect "stop" emdadm stop emd1
  expect_failure "not without force" emdadm add emd0 "$(disk disk2)"
  expect "by force" emdadm add --force emd0 "$(disk disk2)"
  wait_for 10 emd_runs emd1
  expect "the stripes have their data" holds /dev/emd1 12
  wait_for 40 emd_settled emd0
  expect_equal "the mirror is rebuilt" "$(emd_state emd0)" optimal

  step "$1: the same over a restart"
  unload
  unplug disk2
  load
  wait_for 10 emd_is emd0 degraded
  known 14 $((4 << 20)) | dd of=/dev/emd0 bs=1M iflag=fullblock oflag=direct conv=notrunc status=none
  unload
  plug disk2
  load
  wait_for 10 emd_runs emd0
  expect "the stripes do not run" stripes_wait
  expect "a scan starts" emdadm scan
  expect "no stripes" stripes_wait
  expect "by force" emdadm scan --force
  wait_for 10 emd_runs emd1
  expect "the stripes have their data" holds /dev/emd1 12
  wait_for 40 emd_settled emd0
  expect_equal "the mirror is rebuilt" "$(emd_state emd0)" optimal
  expect "what the mirror had" cmp -n $((4 << 20)) <(known 14 $((4 << 20))) /dev/emd0
  emdadm delete --force "$set" >/dev/null
  rmmod emd
}

# back_while_stopped FORMAT [auto=0]: with the set read from the other disk meanwhile. Whether EMD has seen by itself that it is back makes no difference.
back_while_stopped() {
  local set
  step "$*: a disk that is back while its volume is stopped is taken without force, and rebuilt at the next start"
  load "${@:2}"
  emdadm create --format "$1" --force --level raid1 --name data --size 24M --assume-clean "$(disk disk1)" "$(disk disk2)" >/dev/null
  written /dev/emd0 15
  set=$(emdadm show --json | jq -r '.sets[0].id')
  unplug disk2
  wait_for 10 emd_is emd0 degraded
  emdadm stop emd0 >/dev/null
  plug disk2
  expect "add" emdadm add "$set" "$(disk disk2)"
  unload
  load
  wait_for 20 emd_runs emd0
  # DDF has it as a disk in no use, the others know what it is for.
  [[ $1 != ddf ]] || expect "add it to the volume" emdadm add emd0 "$(disk disk2)"
  wait_for 40 emd_settled emd0
  expect_equal "it is rebuilt" "$(emd_state emd0)" optimal
  expect "the data" holds /dev/emd0 15
  emdadm delete --force "$set" >/dev/null
  rmmod emd
}

# waits [TIMES]: a disk does, and so often it was said.
waits() { (($(events note | grep -c 'waits for the other disks' || true) == ${1:-1})); }

waits_no_more() { events note | grep -q 'waits no more for the other disks'; }

both_run() { emd_runs emd0 && emd_runs emd1 && emd_is emd0 optimal && emd_is emd1 optimal; }

boot_1() {
  apart ddf
  apart imsm
  ! whole || apart md-1.2
  slipped ddf
  slipped imsm

  local format
  for format in imsm ddf md-1.2; do
    back_while_stopped $format
    if [[ $format == ddf ]] || whole; then back_while_stopped $format auto=0; fi
  done

  step "two volumes of a set on disks of their own; one waits for its disks while the other one runs"
  load
  emdadm create --format ddf --force --set-name shelf "$(disk disk1)" "$(disk disk2)" "$(disk disk3)" "$(disk disk4)" >/dev/null
  emdadm create --set shelf --level raid1 --name one --size 24M --assume-clean "$(disk disk1)" "$(disk disk2)" >/dev/null
  emdadm create --set shelf --level raid1 --name two --size 24M --assume-clean "$(disk disk3)" "$(disk disk4)" >/dev/null
  written /dev/emd0 7
  written /dev/emd1 8
  wait_for 10 both_run
  unload
  unplug disk3
  unplug disk4
  load
  wait_for 10 emd_runs emd0
  expect_equal "the first volume" "$(emd_state emd0)" optimal
  expect_failure "the second one does not run" test -b /dev/emd1
  written /dev/emd0 9
  plug disk3
  wait_for 20 waits
  local before
  before=$(host contents disk3)
  expect_failure "who waits is not taken for anything else: added" emdadm add shelf "$(disk disk3)"
  expect_failure "as a spare" emdadm spare shelf "$(disk disk3)"
  expect_failure "nor by force: all that there is of a volume" emdadm add --force shelf "$(disk disk3)"
  unchanged "nothing was written to it" "$before" disk3
  step "one that waits and is overwritten keeps no other disk out"
  save waiting disk3
  wipe disk3
  unplug disk2
  wait_for 10 emd_is emd0 degraded
  plug disk2
  wait_for 40 emd_settled emd0
  expect "it waits no more" waits_no_more
  restore waiting disk3
  emdadm scan "$(disk disk3)" >/dev/null 2>&1 || true
  wait_for 10 waits 2
  step "with the last of its disks the volume starts"
  plug disk4
  wait_for 20 both_run
  expect "its data" holds /dev/emd1 8
  expect "the data of the one that ran" holds /dev/emd0 9
  expect_equal "nothing else had to be rebuilt" "$(events task-started | wc -l)" 1
  written /dev/emd1 10
  unload
  load
  wait_for 10 both_run
  expect "both are known as they are" holds /dev/emd1 10

  step "a volume was not to be started without a disk that could be lost: that one comes in as it is"
  unload
  unplug disk4
  load auto=0
  emdadm scan >/dev/null
  wait_for 10 emd_runs emd0
  expect_failure "the second volume does not run" test -b /dev/emd1
  plug disk4
  emdadm scan >/dev/null
  wait_for 10 both_run
  expect_failure "nothing had to be rebuilt" happened task-started
  expect "its data" holds /dev/emd1 10

  step "by a person it is started without it, also when what was here comes late"
  unload
  unplug disk3
  unplug disk4
  load auto=0
  emdadm scan >/dev/null
  wait_for 10 emd_runs emd0
  plug disk3
  emdadm scan >/dev/null
  expect_failure "the second volume does not run" test -b /dev/emd1
  emdadm scan --degraded >/dev/null
  wait_for 10 emd_runs emd1
  expect_equal "it" "$(emd_state emd1)" degraded
  expect "its data" holds /dev/emd1 10
  plug disk4
  emdadm scan >/dev/null
  expect_equal "it" "$(emd_state emd1)" degraded
  expect "the disk that was left out is added" emdadm add emd1 "$(disk disk4)"
  wait_for 40 emd_settled emd1

  step "a disk that goes while its set runs is rebuilt when it is back"
  unplug disk3
  wait_for 10 emd_is emd1 degraded
  written /dev/emd1 11
  plug disk3
  wait_for 40 emd_settled emd1
  expect "the data" holds /dev/emd1 11
}
