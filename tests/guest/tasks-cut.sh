# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Power is cut twice, and the machine is restarted in good order, in the middle of initialisations, rebuilds, checks, repairs and a resync: each goes on
# (initialisations and rebuilds at least from what their disks said before; after the restart, from where they were), and in the end data and redundancy are right.
# disks: 21x52M virtio, 1x1M virtio, 14x52M scsi
# cpus: 1
# emd: manual
# timeout: 240

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

# Rounds of four boots; the first is that of every day. A line for each volume, on disks of its own so that none waits for another: name, format, level, first disk, disks, what is under way, options.
# One of md-0.90 a round: it has no name there.
# marked: a resync where no regions tell what is left, but a mark; with that it counts as an initialisation.
ROUNDS=(
  "i5 ddf raid5 1 3 initialise --chunk 64K
   r5 ddf raid5 4 3 rebuild --chunk 64K
   s1 ddf raid1 7 2 resync
   sm1 md-1.2 raid1 26 2 marked
   mi1 md-1.2 raid1 9 2 initialise
   mr6 md-1.2 raid6 11 4 rebuild --chunk 16K
   o10 md-0.90 raid10 15 4 rebuild --chunk 16K
   c5 ddf raid5 23 3 check --chunk 64K
   mc5 md-1.2 raid5 28 3 check --chunk 64K
   mp1 md-1.2 raid1 31 2 repair"
  "p6 ddf raid6 1 4 repair --chunk 16K
   p1 ddf raid1 5 3 repair
   mi10 md-1.0 raid10 8 3 initialise --chunk 16K
   ai1 asr raid1 11 2 initialise
   ar10 asr raid10 13 4 rebuild --chunk 64K
   ii1 imsm raid1 17 2 initialise
   ir1 imsm raid1 19 2 rebuild
   ir5 imsm raid5 23 3 rebuild --chunk 64K
   r10 ddf raid10 33 4 rebuild --chunk 16K
   ac10 asr raid10 26 4 check --chunk 64K
   ap1 asr raid1 30 2 repair"
)
CASES=()
# Of a DDF volume as small as these, in sectors; what is spoilt is in the first one. SWEPT: when it is recorded as clean at the latest.
REGION=8192 SPOILT=4096 SWEPT=0

begins() { # ROUND
  mapfile -t CASES <<<"${ROUNDS[$1]}"
}

# each FUNCTION [ARGUMENT...]: for every case of the round, with its parts in these variables.
each() {
  local line key name format level first count kind options
  [[ -v DISKS ]] || mapfile -t DISKS < <(disks)
  for line in "${CASES[@]}"; do
    read -r name format level first count kind options <<<"$line"
    key=$name
    [[ $format != md-0.90 ]] || name=$(nameless)
    MINE=("${DISKS[@]:first - 1:count}")
    "$@"
  done
}

# The array without a name, once it is there: emdN.
nameless() { emdadm list --json | jq -r '[.sets[] | select(.format == "md-0.90").volumes[0].device // empty | ltrimstr("/dev/")][0] // "-"'; }

# A module that records often, with tasks so slow that none ends by itself.
slow_emd() { # [CHECKPOINT_MS CLEAN_MS]: other times
  modprobe emd auto=0 checkpoint_ms="${1:-300}" clean_ms="${2:-500}"
  expect "slow" emdadm limit --max 16K
  expect "scanned" emdadm scan
}

# recorded: how far the task of the case got, as its first disk has it. (Only a resync is not to be seen there.)
recorded() {
  case $kind in
  initialise | marked) examined .consistent_sectors ;;
  rebuild) examined '[.members[] | select(.state == "rebuilding") | .done_sectors] | min' ;;
  esac
}

# examined FILTER: of the volume, as all its disks say, while EMD writes to them.
examined() {
  local called=$name
  [[ $format != md-0.90 ]] || called=
  emdadm examine --json "${MINE[@]}" | jq -r --arg a "$called" "[.sets[].volumes[] | select(.name == \$a)][0] | $1 // 0"
}

recorded_is() { (($(recorded) >= $1)); }

# --- What is remembered over boots, of the case: lines "name what value" on a disk of their own.

note() {
  printf '%s\n' "$key $*" >>/run/notes
  dd if=/run/notes of="$(disk disk22)" bs=64k count=1 conv=sync oflag=direct status=none
}

# noted WHAT: the last value.
noted() { awk -v name="$key" -v what="$1" '$1 == name && $2 == what { value = $3 } END { print value }' /run/notes; }

remember() { dd if="$(disk disk22)" bs=64k count=1 iflag=direct status=none | tr -d '\0' >/run/notes; }

# --- What is done with each case

make() {
  local device size=16 assume=(--assume-clean) called=(-n "$name")
  [[ $format != md-0.90 ]] || called=()
  case $level in
  raid5) size=32 ;;
  raid6 | raid10) size=32 ;;
  esac
  if [[ $kind == initialise ]]; then
    assume=()
    # What is there now is the data: an initialisation does not change it.
    for device in "${MINE[@]}"; do /emd/bin/pattern fill "$device" $RANDOM 20480 >/dev/null; done
  fi
  # shellcheck disable=SC2086 # options
  expect "$name: $format, $level, $kind" emdadm create -e "$format" -l "$level" "${called[@]}" --force $options --size "${size}M" "${assume[@]}" "${MINE[@]}"
  [[ $format != md-0.90 ]] || name=$(nameless)
  if [[ $kind == initialise ]]; then
    hold
    note sum "$(sum "/dev/$(emd_node "$name")")"
    return
  fi
  expect "$name: written" fill "/dev/$(emd_node "$name")" 5
  if [[ $kind == rebuild ]]; then
    expect "a member is failed" emdadm fail "$(emd_node "$name")" "${MINE[1]}"
    expect "and comes back" emdadm add "$(emd_node "$name")" "${MINE[1]}"
    wait_for 20 emd_has_task "$name" rebuild
    hold
  elif is_scrub; then
    [[ $kind == check ]] || spoil
    expect "a $kind" emdadm "$kind" "$(emd_node "$name")"
    hold
  fi
}

has_its_task() {
  if [[ $kind != marked ]]; then
    emd_has_task "$name" "$kind"
  else
    emd_has_task "$name" resync || emd_has_task "$name" initialise
  fi
}

is_scrub() { [[ $kind == check || $kind == repair ]]; }

# Near the end of its first member there is other data, behind the array's back. (Here others tell which one is right. Of two copies the
# first is taken, so it is the second one there.)
spoil() { # [SECTOR]: elsewhere
  local member=0 device
  [[ $level != raid1 || $count != 2 ]] || member=1
  device=$(emd_member_device "$name" $member)
  known 77 4096 | dd of="$device" bs=512 seek=$(($(emd_get "$name" ".members[$member].offset_sectors") + ${1:-32000})) oflag=direct conv=notrunc status=none
}

# It is under way, not anew; `from` is what was noted.
goes_on() {
  is_under_way
  hold
}

is_under_way() {
  local from at
  from=$(noted mark)
  wait_for 20 emd_node "$name"
  wait_for 20 has_its_task
  wait_for 20 emd_task_is "$name" running
  at=$(emd_done "$name")
  ((at >= ${from:-0})) || fail "$name: $kind starts anew: $at sectors are done, $from were"
  say "ok: $name: $kind goes on at $at, noted were ${from:-0}"
}

# It gets further, and that is recorded; then it is held, so that none ends however slow this machine is. (After a restart it goes on
# by itself.)
moves() {
  local from goal
  has_its_task || return 0
  from=$(noted mark)
  goal=$((${from:-0} + 400))
  expect "$name: let go, faster" emdadm limit --max 256K "$(emd_node "$name")"
  expect "$name: let go" emdadm resume "$(emd_node "$name")"
  if is_scrub; then
    goal=$(emd_done "$name")
    wait_for 30 emd_has_done "$name" $((goal + 400))
    hold
    # What the metadata says of it is not to be seen from here (power_is_cut).
    note mark "$(emd_done "$name")"
  elif [[ $kind == resync ]]; then
    # What is left of it is not to be seen from here, only that it is not over: the first of its regions is done.
    expect "$name: faster still" emdadm limit --max 1M "$(emd_node "$name")"
    wait_for 30 emd_has_done "$name" $((REGION + 600))
    hold
    # Nobody looks there again.
    spoil $SPOILT
    SWEPT=$((SECONDS + 10))
  else
    wait_for 30 recorded_is $goal
    hold
    note mark "$(recorded)"
  fi
}

hold() { expect "$name: held" emdadm pause "$(emd_node "$name")"; }

# It gets far beyond what is recorded of it, while all are let go.
moves_on() {
  local from
  from=$(noted mark)
  wait_for 30 emd_has_done "$name" $((${from:-0} + 1500))
}

# What a stop, and a restart, have to keep. Intel's metadata counts whole units of up to 512 sectors.
note_live() {
  local unit=1
  [[ $format != imsm ]] || unit=512
  [[ $kind == resync ]] || note mark $(($(emd_done "$name") / unit * unit))
}

# Every second one. The others are left to the machine's restart.
is_stopped() {
  STOPPED=$((1 - ${STOPPED:-0}))
  ((!STOPPED)) || expect "$name: stopped" emdadm stop "$(emd_node "$name")"
}

hurry() {
  expect "$name: fast" emdadm limit --max 1G "$(emd_node "$name")"
  expect "$name: let go" emdadm resume "$(emd_node "$name")"
}

ends_well() {
  expect "$name: to its end" emdadm wait "$(emd_node "$name")"
  # What it found before the restart nobody knows any more.
  [[ $kind != check ]] || wait_for 10 is_known_in_part
  [[ $kind != repair ]] || expect_equal "$name: places that were put right" "$(emd_get "$name" '.mismatches | length')" 1
  wait_for 60 emd_is "$name" optimal
  [[ $kind != resync ]] || regions_were_left
  if [[ $kind == initialise ]]; then
    expect_equal "$name: the data" "$(sum "/dev/$(emd_node "$name")")" "$(noted sum)"
  else
    expect "$name: the data" /emd/bin/pattern verify "/dev/$(emd_node "$name")" 5
  fi
  expect "$name: a check" emdadm check --wait "$(emd_node "$name")"
  expect_equal "$name: places that do not agree" "$(emd_get "$name" '.mismatches | length')" 0
}

is_known_in_part() {
  jq -se --arg device "/dev/$(emd_node "$name")" '[.[] | select(.kind == "task-done" and .text == "check" and .array == $device)][0].part' /run/events >/dev/null
}

# A region that the resync was through with, and nobody wrote to, was not gone over again: what was spoilt there is the only place that differs.
regions_were_left() {
  expect "$name: a check" emdadm check --wait "$(emd_node "$name")"
  expect_equal "$name: places that do not agree" "$(emd_get "$name" '.mismatches | length')" 1
  expect_equal "$name: it is the one in a region that was done" "$(emd_get "$name" ".mismatches[0] | (.first_sector <= $SPOILT and .first_sector + .sectors > $SPOILT)")" true
  expect "$name: a repair" emdadm repair --wait "$(emd_node "$name")"
}

is_clean() { [[ $kind == initialise ]] || wait_for 20 emd_is_clean "$name"; }

# --- The boots of a round

tasks_begin() { # ROUND
  local device
  begins "$1"
  step "tasks begin, power is cut"
  # What the round before left.
  (($1 == 0)) || for device in $(disks); do blkdiscard -f -z "$device" 2>/dev/null; done
  slow_emd
  each make
  each moves
  # What is degraded and dirty would not start by itself.
  each is_clean
  each is_written
  power_is_cut
}

# Marks of scrubs are written several times a second; the last ones may be on their way. Regions that are done become clean with a sweep, every five seconds.
power_is_cut() {
  sleep 2
  ((SECONDS >= SWEPT)) || sleep $((SWEPT - SECONDS))
  host powercut
}

# What is to be resynced: its regions.
is_written() {
  local device
  [[ $kind == resync || $kind == marked ]] || return 0
  device=/dev/$(emd_node "$name")
  expect "$name: its regions are written" /emd/bin/pattern write "$device" 5
  # Again and again, up to the cut: all of it may be in flight then.
  (while /emd/bin/pattern write "$device" 5; do :; done) &
  wait_for 10 emd_is_dirty "$name"
}

they_go_on_and_are_cut() { # ROUND
  begins "$1"
  step "they go on; power is cut again"
  remember
  slow_emd
  each goes_on
  each moves
  power_is_cut
}

they_go_on_and_are_stopped() { # ROUND
  begins "$1"
  step "they go on; a restart in good order"
  remember
  # Nothing is recorded of how far they get, until they are stopped or the machine restarts.
  slow_emd 600000 60000
  each is_under_way
  expect "faster" emdadm limit --max 512K
  each moves_on
  expect "slow" emdadm limit --max 16K
  each note_live
  each is_stopped
  [[ $1 != 0 ]] || in_use_to_the_end
}

# Nobody stops it: as a root filesystem, it is written until the machine restarts.
in_use_to_the_end() {
  expect "a mirror of a format without regions" emdadm create -e asr -l raid1 -n quiet --force --assume-clean "${DISKS[@]:18:2}"
  /emd/bin/pattern write "/dev/$(emd_node quiet)" 5
  wait_for 10 emd_is_dirty quiet
}

was_ended_well() {
  expect "it is clean" emd_is_clean quiet
  expect_failure "no resync" emd_has_task quiet resync
}

they_end() { # ROUND
  begins "$1"
  step "they go on, to their end"
  remember
  slow_emd
  each goes_on
  [[ $1 != 0 ]] || was_ended_well
  emdadm monitor --json >/run/events &
  local monitor=$!
  each hurry
  each ends_well
  kill "$monitor"
}

# (A boot is found by the name of its function.)
if whole; then last=${#ROUNDS[@]}; else last=1; fi
for ((round = 0; round < last; round++)); do
  eval "
    boot_$((4 * round + 1))() { tasks_begin $round; }
    boot_$((4 * round + 2))() { they_go_on_and_are_cut $round; }
    boot_$((4 * round + 3))() { they_go_on_and_are_stopped $round; }
    boot_$((4 * round + 4))() { they_end $round; }"
done
