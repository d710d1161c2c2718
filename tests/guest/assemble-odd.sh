# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sets whose disks are stale, doubled, late, missing or in use: what is clear is started, the rest is shown with its reason, and
# nothing is written to disks of what is not started.
# disks: 3x64M virtio, 1x64M virtio, 1x80M virtio, 1x48M virtio
# cpus: 1
# emd: manual
# timeout: 170

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh
# shellcheck source=tests/guest/lib-assemble.sh
source /emd/tests/guest/lib-assemble.sh

# left_alone TIMES: so often it was said, since the module is loaded, that a disk is.
left_alone() { (($(emdadm monitor --json --from 0 --once | grep -c 'left alone: it was left out' || true) == $1)); }

boot_1() {
  local before
  make_set

  step "one disk is missing: after the time-out, degraded"
  wipe disk2
  # Long enough that it is not over before this looks.
  modprobe emd clean_ms=200 start_timeout_ms=4000
  started && fail "started at once"
  wait_for 10 emd_runs emd0
  expect_equal "state" "$(emd_state emd0)" degraded
  data_is_right
  known 4 $((4 << 20)) | dd of=/dev/emd0 bs=1M seek=8 iflag=fullblock oflag=direct conv=notrunc status=none
  wait_for 10 emd_is_clean emd0
  unload
  save without2

  step "a stale disk that is set read-only stays as it is: its set is not started"
  restore good disk2
  before=$(host contents "${ALL[@]}")
  blockdev --setro "$(disk disk2)"
  load
  # The time-out is over, and some more.
  sleep 1.6
  started && fail "was started"
  refused_scan "disk [0-9:]+ is set read-only" --degraded
  unchanged "nothing was written" "$before" "${ALL[@]}"
  unload
  blockdev --setrw "$(disk disk2)"

  step "a stale disk is not trusted"
  # disk2 as it was is behind the others: it has to be rebuilt, or left alone, before it counts.
  restore good disk2
  before=$(host contents "${ALL[@]}")
  modprobe emd auto=0
  says "a stale disk" "^disk .* was left out of the last updates$"
  expect_equal "the disk is called stale, and its member is not one to read" stale-failed \
    "$(emdadm scan --dry-run --json | jq -r --arg d "$(disk disk2)" '.sets[] | "\(.disks[] | select(.device == $d).state)-\(.volumes[0].members[1].state)"')"
  rmmod emd
  unchanged "nothing was written" "$before" "${ALL[@]}"
  load take_back=2
  wait_for 10 emd_runs emd0
  expect "what was written without it" cmp <(known 4 $((4 << 20))) <(dd if=/dev/emd0 bs=1M skip=8 count=4 iflag=direct status=none)
  wait_for 30 emd_settled emd0
  expect "another disk may fail" emdadm fail emd0 "$(disk disk1)"
  data_is_right
  expect "what was written without it, from it" cmp <(known 4 $((4 << 20))) <(dd if=/dev/emd0 bs=1M skip=8 count=4 iflag=direct status=none)
  unload

  step "a stale disk that is in use keeps nobody down"
  restore without2 disk1 disk3
  restore good disk2
  before=$(host contents disk2)
  modprobe dm_mod
  # Without the end, where the metadata is: that would be here twice.
  dmsetup create held --table "0 2048 linear $(disk disk2) 0"
  load
  wait_for 10 emd_runs emd0
  expect_equal "state" "$(emd_state emd0)" degraded
  expect "it is told" grep -qE "goes on without disk .* in use" <(events note)
  data_is_right
  dmsetup remove --retry held
  unchanged "nothing was written to it" "$before" disk2
  unload

  step "a stale disk is left as it is until somebody adds it"
  restore without2 disk1 disk3
  restore good disk2
  before=$(host contents disk2)
  load
  wait_for 10 emd_runs emd0
  wait_for 10 emd_is_clean emd0
  expect_equal "the array" "$(emd_state emd0)" degraded
  expect "why" grep -q "was left out of the last updates" <(emdadm show)
  expect "it is told, once" left_alone 1
  unchanged "nothing was written to it" "$before" disk2
  unplug disk2
  plug disk2
  wait_for 10 left_alone 2
  unchanged "nor when it is pulled out and put in again" "$before" disk2
  expect_equal "the array" "$(emd_state emd0)" degraded
  unload
  unplug disk2
  load
  wait_for 10 emd_runs emd0
  plug disk2
  wait_for 10 left_alone 1
  unchanged "nor when it comes late" "$before" disk2
  expect "it is added" emdadm add emd0 "$(disk disk2)"
  wait_for 30 emd_settled emd0

  step "one that goes while the set runs and is back is rebuilt, unless that is not wished"
  unplug disk2
  wait_for 10 emd_is emd0 degraded
  plug disk2
  wait_for 30 emd_settled emd0
  expect "another disk may fail" emdadm fail emd0 "$(disk disk1)"
  data_is_right
  unload
  restore good "${MEMBERS[@]}"
  load take_back=0
  wait_for 10 emd_settled emd0
  unplug disk2
  wait_for 10 emd_is emd0 degraded
  before=$(host contents disk2)
  plug disk2
  wait_for 10 left_alone 1
  unchanged "nothing was written to it" "$before" disk2
  expect_equal "the array" "$(emd_state emd0)" degraded
  unload

  step "one disk is missing, and not waited for"
  restore good "${MEMBERS[@]}"
  wipe disk2
  modprobe emd clean_ms=200 start_timeout_ms=600000
  sleep 1
  started && fail "was started"
  expect "scan" emdadm scan
  started && fail "was started by a scan that was not asked to"
  expect "scan --degraded" emdadm scan --degraded
  wait_for 5 emd_runs emd0
  data_is_right
  step "it comes late"
  restore good disk2
  emdadm scan "$(disk disk2)" >/dev/null
  expect_equal "the array" "$(emd_state emd0)" degraded
  expect "it is added" emdadm add emd0 "$(disk disk2)"
  wait_for 30 emd_settled emd0
  data_is_right
  unload

  step "dirty and degraded"
  restore good "${MEMBERS[@]}"
  modprobe emd clean_ms=60000
  wait_for 10 emd_runs emd0
  dd if=/dev/zero of=/dev/emd0 bs=64k seek=200 count=1 oflag=direct conv=notrunc status=none
  save dirty
  unload
  restore dirty "${MEMBERS[@]}"
  wipe disk3
  before=$(host contents "${ALL[@]}")
  load
  # The scan that this does asks for nothing that is degraded.
  not_started "dirty and degraded" "^1 of 3 members are missing$" "$before"
  emdadm scan --degraded >/dev/null 2>&1 || true
  started && fail "was started without force"
  says "dirty and degraded" "^degraded, and writes were in flight when it stopped: "
  expect "scan --force" emdadm scan --degraded --force
  wait_for 5 emd_runs emd0
  data_is_right
  wait_for 10 emd_is_clean emd0
  unload

  step "two disks are missing"
  restore good "${MEMBERS[@]}"
  wipe disk1 disk2
  before=$(host contents "${ALL[@]}")
  load
  not_started "two of three are missing" "^2 of 3 members are lost, more than raid5 bears$" "$before"
  unload

  step "two disks claim one slot"
  restore good "${MEMBERS[@]}"
  dd if="$(disk disk2)" of="$(disk disk4)" bs=1M oflag=direct status=none
  before=$(host contents "${ALL[@]}")
  load
  not_started "a copy of a disk" "^two disks claim to be its member " "$before"
  unload
  wipe disk4

  step "two histories of one set: disk1 and disk3 were used without disk2, disk2 without disk1"
  restore good "${MEMBERS[@]}"
  wipe disk1
  modprobe emd clean_ms=200 auto=0
  emdadm scan --degraded >/dev/null
  wait_for 10 emd_runs emd0
  known 5 $((4 << 20)) | dd of=/dev/emd0 bs=1M seek=8 iflag=fullblock oflag=direct conv=notrunc status=none
  wait_for 10 emd_is_clean emd0
  unload
  save without1
  restore without2 disk1 disk3
  restore without1 disk2
  before=$(host contents "${ALL[@]}")
  load
  not_started "two histories" "were used apart: each calls the other one lost$" "$before"
  emdadm scan --degraded >/run/scan 2>&1 || true
  started && fail "was started when asked for degraded ones"
  unchanged "nothing was written" "$before" "${ALL[@]}"
  unload

  step "disks that are set read-only: all of a set that is dirty, then one"
  restore dirty "${MEMBERS[@]}"
  blockdev --setro "$(disk disk1)" "$(disk disk2)" "$(disk disk3)"
  before=$(host contents "${ALL[@]}")
  load
  # The time-out is over, and some more.
  sleep 1.6
  started && fail "was started"
  refused_scan "disk [0-9:]+ is set read-only"
  blockdev --setrw "$(disk disk1)" "$(disk disk2)"
  refused_scan "disk [0-9:]+ is set read-only"
  unchanged "nothing was written" "$before" "${ALL[@]}"
  blockdev --setrw "$(disk disk3)"
  expect "scan" emdadm scan
  wait_for 5 emd_runs emd0
  data_is_right
  unload

  step "a disk that is in use"
  restore good "${MEMBERS[@]}"
  dmsetup create held --table "0 $(blockdev --getsz "$(disk disk1)") linear $(disk disk1) 0"
  before=$(host contents "${ALL[@]}")
  modprobe emd clean_ms=200 auto=0
  refused_scan "in use|held" "$(disk disk1)" "$(disk disk2)" "$(disk disk3)"
  unchanged "nothing was written" "$before" "${ALL[@]}"
  dmsetup remove --retry held
  expect "scan" emdadm scan "$(disk disk1)" "$(disk disk2)" "$(disk disk3)"
  wait_for 5 emd_runs emd0
  expect_equal "state" "$(emd_state emd0)" optimal
  data_is_right
  unload

  step "a disk that is in use until its set waits no more: a scan in vain makes it wait no more either"
  dmsetup create held --table "0 $(blockdev --getsz "$(disk disk1)") linear $(disk disk1) 0"
  # Long enough that it is not over before the first try.
  modprobe emd clean_ms=200 start_timeout_ms=3000
  wait_for 10 told_in_use 2
  refused_scan "in use|held"
  dmsetup remove --retry held
  # What is done when a disk is gone, as that one, is done, and the time-out is over, and some more.
  sleep 2
  started && fail "was started some time after the scan"
  expect "scan" emdadm scan
  wait_for 5 emd_runs emd0
  data_is_right
  unload

  step "a disk that is in use for a moment: what is complete is tried twice"
  dmsetup create held --table "0 $(blockdev --getsz "$(disk disk1)") linear $(disk disk1) 0"
  # Long enough that it is not over before the disk is let go.
  modprobe emd clean_ms=200 start_timeout_ms=5000
  wait_for 10 is_in_use
  dmsetup remove --retry held
  wait_for 15 emd_runs emd0
  expect_equal "state" "$(emd_state emd0)" optimal
  data_is_right
  unload

  step "so is what lacks a disk"
  restore good "${MEMBERS[@]}"
  wipe disk2
  dmsetup create held --table "0 $(blockdev --getsz "$(disk disk1)") linear $(disk disk1) 0"
  modprobe emd clean_ms=200 start_timeout_ms=2500
  wait_for 10 is_in_use
  dmsetup remove --retry held
  wait_for 15 emd_runs emd0
  expect_equal "state" "$(emd_state emd0)" degraded
  data_is_right
  unload

  pulled_before_scan
  scanned_while_it_waits
  in_use_when_back
  two_sets
  read_again
}

# has_read DEVICE: it was read, by whomever.
has_read() {
  local stat
  read -ra stat <"/sys/block/$1/stat" && ((stat[0] > 0))
}

# A set that does not run has what was read of a disk. A scan that begins before that disk's end was looked into does not count on it.
pulled_before_scan() {
  local first second
  step "a scan right after a disk is pulled out"
  restore good "${MEMBERS[@]}"
  modprobe emd clean_ms=200 auto=0
  expect "its set is known" emdadm scan --dry-run "$(disk disk1)" "$(disk disk2)" "$(disk disk3)"
  dmsetup create held --table "0 $(blockdev --getsz "$(disk disk4)") linear $(disk disk4) 0"
  [[ -b /dev/mapper/held ]] || dmsetup mknodes
  # That a disk has come is looked into, and over when this scan is: nothing else is left to do.
  wait_for 10 has_read dm-0
  expect "all is looked into" emdadm scan --dry-run "$(disk disk1)"
  # One operation at a time: the first one waits for its disk, the second one for the first, and what is done about the disk's end for both.
  dmsetup suspend --noflush --nolockfs held
  emdadm scan /dev/mapper/held >/run/scan.first 2>&1 &
  first=$!
  wait_for 10 waits_in_call "$first"
  emdadm scan --degraded >/run/scan.second 2>&1 &
  second=$!
  wait_for 10 waits_in_call "$second"
  unplug disk2
  dmsetup resume held
  wait "$first" || fail "the first scan: $(</run/scan.first)"
  wait "$second" || fail "the second scan: $(</run/scan.second)"
  wait_for 10 emd_runs emd0
  expect_equal "state" "$(emd_state emd0)" degraded
  data_is_right
  unload
  dmsetup remove --retry held
  plug disk2
}

# has_disks COUNT: so many of the set's disks are here.
has_disks() { [[ $(emdadm show --json | jq '[.sets[].disks[] | select(.device)] | length') == "$1" ]]; }

# Who asks for what is complete does not keep what is not from starting when its time is over.
scanned_while_it_waits() {
  step "a set that waits for a disk is scanned, and starts after the time-out all the same"
  restore good "${MEMBERS[@]}"
  wipe disk2
  modprobe emd clean_ms=200 start_timeout_ms=4000
  wait_for 10 has_disks 2
  expect "scan" emdadm scan
  wait_for 15 emd_runs emd0
  expect_equal "state" "$(emd_state emd0)" degraded
  data_is_right
  unload
}

# A disk that its running set saw go is looked at again and again when it is back and cannot be had.
in_use_when_back() {
  step "a disk that is back, and in use for a moment, is taken a moment later"
  restore good "${MEMBERS[@]}"
  load
  wait_for 10 emd_settled emd0
  unplug disk2
  wait_for 10 emd_is emd0 degraded
  discovery_waits
  plug disk2
  # Without the end, where the metadata is: that would be here twice.
  dmsetup create held --table "0 2048 linear $(disk disk2) 0"
  discovery_goes_on
  # Several tries are over by then, and more are left.
  sleep 1
  expect_equal "it is not had" "$(emd_state emd0) $(emd_members emd0)" "degraded in-sync missing in-sync"
  dmsetup remove --retry held
  wait_for 30 emd_settled emd0
  expect "another disk may fail" emdadm fail emd0 "$(disk disk1)"
  data_is_right
  unload
}

# through TARGET [OPTION...]: what is behind the device "over" from now on.
through() {
  dmsetup suspend --noflush --nolockfs over
  dmsetup load over --table "0 131072 $*"
  dmsetup resume over
}

goes_without() { grep -q "goes on without disk" <(events note); }

# What was read of a disk is not what its set finds there when it starts. Member 2 is read through device-mapper, from a disk that is longer: by itself that has no metadata.
read_again() {
  modprobe -a dm_mod dm_zero
  restore good "${MEMBERS[@]}"
  dmsetup create over --table "0 131072 linear $(disk disk5) 0"
  [[ -b /dev/mapper/over ]] || dmsetup mknodes
  OVER=$(readlink -f /dev/mapper/over)
  dd if="$(disk disk2)" of="$OVER" bs=1M oflag=direct status=none
  wipe disk2
  cannot_be_read_again
  holds_what_is_older
  seemed_complete
  dmsetup remove --retry over
}

# All members are there as they were at first.
over_is_good() {
  restore good disk1 disk3
  through linear "$(disk disk5)" 0
  dd if=/run/good.disk2 of="$OVER" bs=1M seek=$((64 - TAIL_MIB)) oflag=direct conv=notrunc status=none
}

# all_are_read: and the set is not started.
all_are_read() {
  local last
  modprobe emd clean_ms=200 auto=0
  expect_equal "all are here" "$(would_start "$(disk disk1)" "$OVER" "$(disk disk3)")" "1 of 1"
  # That disks were there when the module was loaded is looked into a moment later. When that is over for one that came last it is for all.
  dmsetup create last --table "0 131072 zero"
  [[ -b /dev/mapper/last ]] || dmsetup mknodes
  last=dm-$(dmsetup info -c --noheadings -o minor last)
  wait_for 10 has_read "$last"
  expect "all is looked into" emdadm scan --dry-run "$(disk disk1)"
  dmsetup remove --retry last
}

cannot_be_read_again() {
  local before
  step "a disk that cannot be read again when its set starts: the set goes on without it, if it may"
  over_is_good
  all_are_read
  through error
  before=$(host contents disk1 disk3)
  # The others are not looked at for that, but for the start.
  refused_scan "1 of 3 members are missing" "$(disk disk1)"
  expect "it is told" goes_without
  unchanged "nothing was written" "$before" disk1 disk3
  expect "scan --degraded" emdadm scan --degraded "$(disk disk1)"
  wait_for 5 emd_runs emd0
  expect_equal "the array" "$(emd_state emd0) $(emd_members emd0)" "degraded in-sync missing in-sync"
  data_is_right
  unload
}

holds_what_is_older() {
  local before
  step "one that holds what is older by then: it is not trusted"
  over_is_good
  dd if="$(disk disk5)" of="$(disk disk4)" bs=1M count=64 oflag=direct status=none
  modprobe emd clean_ms=200 auto=0
  expect "scan" emdadm scan "$(disk disk1)" "$OVER" "$(disk disk3)"
  wait_for 10 emd_settled emd0
  known 6 $((4 << 20)) | dd of=/dev/emd0 bs=1M seek=8 iflag=fullblock oflag=direct conv=notrunc status=none
  wait_for 10 emd_is_clean emd0
  unload
  all_are_read
  before=$(host contents disk4)
  through linear "$(disk disk4)" 0
  expect "scan --degraded" emdadm scan --degraded "$(disk disk1)"
  wait_for 5 emd_runs emd0
  expect_equal "the array" "$(emd_state emd0)" degraded
  expect "what was written" cmp <(known 6 $((4 << 20))) <(dd if=/dev/emd0 bs=1M skip=8 count=4 iflag=direct status=none)
  data_is_right
  unchanged "nothing was written to it" "$before" disk4
  unload
  wipe disk4
}

seemed_complete() {
  step "what seemed complete until a disk could not be read again starts when its time is over"
  over_is_good
  unplug disk3
  # Long enough that it is not over before this looks.
  modprobe emd clean_ms=200 start_timeout_ms=5000
  wait_for 10 has_disks 2
  through error
  plug disk3
  wait_for 10 goes_without
  started && fail "was started at once"
  wait_for 15 emd_runs emd0
  expect_equal "the array" "$(emd_state emd0) $(emd_members emd0)" "degraded in-sync missing in-sync"
  data_is_right
  unload
}

# would_start OPTION...: how many arrays a scan would start, and of how many sets it speaks.
would_start() { emdadm scan --dry-run --json "$@" | jq -r '"\(.arrays_started) of \(.sets | length)"'; }

# The disk that the array lacks is gone for good: it is taken out of the set by its index, and is a stranger when it comes back.
forgotten() {
  local gone here
  gone=$(emdadm show data --json | jq '.sets[0].disks[] | select(.device == null) | .index')
  here=$(emd_get data '.members[0].disk')
  expect_failure "one that is a member stays" emdadm remove data --disk "$here"
  expect_failure "there is no such disk" emdadm remove data --disk 99
  expect "one that is away is taken out" emdadm remove data --disk "$gone"
  expect_equal "disks of the set" "$(emdadm show data --json | jq '.sets[0].disks | length')" 2
  restore good disk2
  emdadm scan "$(disk disk2)" >/dev/null
  expect_equal "it is left alone" "$(emd_state emd0) $(emd_members emd0)" "degraded in-sync missing in-sync"
  expect_failure "it carries something" emdadm add data "$(disk disk2)"
  expect "it is a new one" emdadm add --force data "$(disk disk2)"
  wait_for 30 emd_settled emd0
  data_is_right
}

# No disk is forgotten that a stopped array may need.
remembered() {
  local gone
  wipe disk1 disk2
  modprobe emd clean_ms=200 auto=0
  emdadm scan --degraded >/dev/null 2>&1 || true
  gone=$(emdadm show data --json | jq '[.sets[0].disks[] | select(.device == null) | .index][0]')
  expect_failure "what brings an array back is not taken out" emdadm remove data --disk "$gone"
  expect "it says why" grep -q "may come back" <<<"$(emdadm remove data --disk "$gone" 2>&1)"
  rmmod emd
}

# runs NAME...: the arrays of just these names run.
runs() { expect_equal "what runs" "$(emdadm list --json | jq -r '[.sets[].volumes[] | select(.device) | .name] | sort | join(" ")')" "$*"; }

# Two sets that lack a member each: what is asked for with some disks is for the set of these, and for no other one.
two_sets() {
  local before mine other
  step "a scan of some disks is for their set"
  restore good "${MEMBERS[@]}"
  modprobe emd clean_ms=200 auto=0
  expect "another set, of md's: it is called like its volume" emdadm create --format md-1.0 --level raid1 --name other --size 8M --assume-clean --force "$(disk disk4)" "$(disk disk5)"
  unload
  wipe disk2 disk5
  mine=("$(disk disk1)" "$(disk disk3)") other=$(disk disk4)
  before=$(host contents disk4)
  modprobe emd clean_ms=200 auto=0
  expect_equal "without a word nothing would be started" "$(would_start)" "0 of 2"
  expect "why not" grep -q "of 3 members are missing" <<<"$(emdadm scan --dry-run)"
  expect_equal "degraded ones would" "$(would_start --degraded)" "2 of 2"
  expect_equal "one of them, of its disks" "$(would_start --degraded "${mine[@]}")" "1 of 1"
  expect "scan --degraded of disks" emdadm scan --degraded "${mine[@]}"
  runs data
  unchanged "nothing was written to the other set" "$before" disk4
  data_is_right
  expect "stopped" emdadm stop data
  expect "scan --force of the other one's disk" emdadm scan --force "$other"
  runs other
  expect "stopped" emdadm stop other
  expect "scan of a disk without metadata" emdadm scan --force "$(disk disk6)"
  runs
  expect "scan of all" emdadm scan --degraded
  runs data other
  forgotten
  unload
  wipe disk4
  remembered
}

# told_in_use TIMES: so often it was told that a set is not started for that.
told_in_use() { (($(events note | grep -c "in use" || true) == $1)); }

# A set is not started for that.
is_in_use() { emdadm show --json | jq -r '.sets[].notes[]' | grep -q "in use"; }
