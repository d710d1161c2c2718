# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A set from its beginning to its end: refusals, a member unplugged and back, power cuts, deletion, spares, a late start.
# disks: 4x64M scsi, 2x64M virtio
# cpus: 1
# timeout: 120

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh

# holds_data DEVICE: its first 8 MiB hold what is in /run/data.
holds_data() { dd if="$1" bs=1M count=8 iflag=direct status=none | cmp -s - /run/data; }

# Writes the same over and over in the background, until /run/stop; returns when its writes arrive.
write_on() {
  local before
  before=$(emd_writes emd0)
  rm -f /run/stop
  (until [[ -e /run/stop ]]; do dd if=/run/data of=/dev/emd0 bs=1M oflag=direct conv=notrunc status=none; done) &
  WRITER=$!
  wait_for 20 emd_wrote emd0 $((before + 20))
}

role_of() { emdadm show --json | jq -r --arg d "$1" '.sets[].disks[] | select(.device == $d) | .role'; }

# exits CODE ARGUMENT...: what emdadm ends with; the test goes on when that is not 0.
exits() {
  local code=0
  emdadm "${@:2}" >/run/said 2>&1 || code=$?
  expect_equal "exit code of emdadm ${*:2}" $code "$1"
}

# answers KEYS ARGUMENT...: emdadm does it, and says so in JSON. What it says is kept until all is judged at once.
answers() {
  printf '"%s"\n%s\n' "${*:2}" "$1" >>/run/wanted
  printf '"%s"\n' "${*:2}" >>/run/answers
  emdadm --json "${@:2}" >>/run/answers || fail "emdadm --json ${*:2}"
}

set_has_disk() { emdadm show --json | jq -e --arg d "$1" 'any(.sets[].disks[]; .device == $d)'; }

# Each command that changes something prints one object with the keys that docs/emdadm.md lists; scripts may go by exit codes.
answers_of_all_commands() {
  local tasks='["done","targets"]' members='["done"]' spare last
  step "what is said in JSON, and by exit codes"
  spare=$(disk disk4) last=$(disk disk6)
  rm -f /run/wanted /run/answers
  answers "$tasks" limit --max 16K emd0
  answers "$tasks" check emd0
  wait_for 10 emd_task_is emd0 running
  exits 5 wait --timeout 0 emd0
  answers "$tasks" pause emd0
  answers "$tasks" resume emd0
  answers "$tasks" cancel emd0
  answers "$tasks" limit emd0
  wait_for 10 emd_has_task emd0 null
  answers "$tasks" repair emd0
  answers '["ended","waited","well"]' wait emd0
  answers "$tasks" resync emd0
  answers '["ended","waited","well"]' wait emd0
  answers '["done","ended","targets","waited","well"]' check --wait --check emd0
  exits 0 show --check emd0
  # It came back too late: it is part of the set, and perhaps known to be old.
  answers "$members" add emd0 "$spare"
  answers "$members" spare emd0 "$spare"
  # The spare takes its place, and is not through while this looks.
  emdadm limit --max 16K emd0 >/dev/null
  answers "$members" fail emd0 "$last"
  exits 3 show --check emd0
  exits 3 list --check
  emdadm limit emd0 >/dev/null
  answers "$members" remove emd0 "$last"
  answers "$members" add emd0 "$last"
  wait_for 30 emd_settled emd0
  answers '["name","renamed"]' rename emd0 renamed
  exits 5 monitor --timeout 0
  answers '["arrays_stopped"]' stop renamed
  exits 4 start emd0
  answers '["arrays_started","disks_seen","notes","sets"]' start renamed
  exits 4 pause renamed
  exits 4 scan --set 00112233445566778899aabbccddeeff
  exits 0 stop renamed
  exits 4 pause renamed
  answers '["changed","policy"]' policy renamed none
  expect_equal "one object each" "$(jq -c 'if type == "object" then keys else . end' /run/answers)" "$(cat /run/wanted)"
}

# Who opens this for reading is about to hibernate, and who closes it does not do so after all. The debug guest's kernel has none.
SNAPSHOT=/dev/snapshot

hibernation_refused() {
  [[ -c $SNAPSHOT ]] || return 0
  expect_failure "hibernation with an array" dd if=$SNAPSHOT of=/dev/null count=0
  dmesg >/run/dmesg
  expect "the log says why" grep "hibernation is refused while arrays run" /run/dmesg
}

none_while_hibernating() {
  [[ -c $SNAPSHOT ]] || return 0
  step "about to hibernate"
  exec 9<$SNAPSHOT
  refused EBUSY "hibernate" "no set comes to be" create --format ddf --level raid1 --force --name z "$(disk disk3)" "$(disk disk4)"
  exec 9<&-
}

boot_1() {
  step "create raid5"
  local a b c d e
  a=$(disk disk1) b=$(disk disk2) c=$(disk disk3) d=$(disk disk4) e=$(disk disk5)
  expect create emdadm create --format ddf --level raid5 --size 48M --name m "$a" "$b" "$c" "$d"
  expect wait emdadm wait emd0
  wait_for 20 emd_settled emd0
  known 1 $((8 << 20)) >/run/data
  dd if=/run/data of=/dev/emd0 bs=1M oflag=direct conv=notrunc status=none
  expect data holds_data /dev/emd0
  step "refusals"
  refused EBUSY "in use" "disk in use" create --format ddf --level raid1 --name x "$a" "$e"
  mkfs.ext4 -q -F "$e"
  refused EEXIST "ext" "signature" add emd0 "$e"
  refused EEXIST "ext" "signature, as a spare" spare emd0 "$e"
  expect "by force it is one" emdadm spare --force emd0 "$e"
  expect "taken out" emdadm remove emd0 "$e"
  refused EBUSY "active member" "remove active" remove emd0 "$a"
  exec 9</dev/emd0
  refused EBUSY "in use" "in use" stop emd0
  exec 9<&-
  hibernation_refused
  step "unplug, with writes in flight"
  write_on
  unplug disk2
  wait_for 20 emd_is emd0 degraded
  touch /run/stop
  wait "$WRITER" || fail "a write failed"
  refused EBUSY "would be lost" "one more is too much" fail emd0 "$c"
  expect data holds_data /dev/emd0
  step "return"
  plug disk2
  wait_for 30 emd_is emd0 optimal
  expect data holds_data /dev/emd0
  step "power cut"
  write_on
  host powercut 0.5
  sleep 1000
}
boot_2() {
  wait_for 30 emd_settled emd0
  step "delete"
  exits 4 delete emd7
  dd if=/dev/zero of=/dev/emd0 bs=1M count=1 oflag=direct conv=notrunc status=none
  mkfs.ext4 -q -F /dev/emd0
  refused EBUSY "ext" "holds fs" delete emd0
  expect stop emdadm stop emd0
  refused EBUSY "not started" "not started" delete m
  expect scan emdadm scan
  wait_for 10 emd_runs emd0
  step "stopped while others open it"
  rm -f /run/stop
  (until [[ -e /run/stop ]]; do dd if=/dev/emd0 of=/dev/null bs=512 count=1 status=none || true; sleep 0.02; done) 2>/dev/null &
  local opener=$!
  for _ in 1 2 3; do
    # Either it is in use, or nobody gets at it any more.
    until emdadm stop emd0 >/run/said 2>&1; do expect "in use" grep -q "in use" /run/said; done
    expect_failure "the device is gone" test -b /dev/emd0
    expect scan emdadm scan
    wait_for 10 emd_runs emd0
  done
  touch /run/stop
  wait "$opener"
  step "power cut, with a member unplugged"
  unplug disk1
  wait_for 20 emd_is emd0 degraded
  echo marker | dd of=/dev/emd0 bs=512 seek=4 conv=sync,notrunc oflag=direct status=none
  wait_for 20 emd_is_clean emd0
  host powercut
}
boot_3() {
  # The disk is there again, and known to be old: the set starts without it after its time-out.
  wait_for 40 emd_is emd0 degraded
  expect "the old disk is added" emdadm add emd0 "$(disk disk1)"
  wait_for 40 emd_settled emd0
  expect_equal "what was written last" "$(dd if=/dev/emd0 bs=512 skip=4 count=1 iflag=direct status=none | head -c 6)" marker
  step "delete, by force"
  expect "delete, of the last volume" grep -q "metadata is erased from all its disks" <<<"$(emdadm delete --force emd0)"
  exits 4 examine "$(disk disk3)"
  step "raid0, explicit scan"
  expect "create again" emdadm create --format ddf --level raid0 --force --name z "$(disk disk1)" "$(disk disk2)"
  expect stop emdadm stop --all
  expect unload rmmod emd
  expect load modprobe emd auto=0
  sleep 1
  expect_failure "nothing by itself" test -b /dev/emd0
  expect scan emdadm scan
  wait_for 10 emd_runs emd0
  unplug disk1
  wait_for 20 emd_is emd0 failed
  unplug disk2
  expect stop emdadm stop --all
  expect_equal "no disk of it is here" "$(emdadm show --json | jq '.sets | length')" 0
  none_while_hibernating
  step "missing at the start"
  expect "three disks" emdadm create --format ddf --level raid5 --size 32M --name y "$(disk disk3)" "$(disk disk4)" "$(disk disk6)" --spare "$(disk disk5)" --force
  wait_for 30 emd_settled emd0
  expect "no spare any more" emdadm spare --off emd0 "$(disk disk5)"
  expect_equal "its role" "$(role_of "$(disk disk5)")" unused
  expect "a spare again" emdadm spare emd0 "$(disk disk5)"
  expect_equal "its role" "$(role_of "$(disk disk5)")" global-spare
  known 2 $((8 << 20)) >/run/data
  dd if=/run/data of=/dev/emd0 bs=1M oflag=direct conv=notrunc status=none
  expect unload rmmod emd
  unplug disk4
  # Long enough that it is not over before this looks.
  expect load modprobe emd start_timeout_ms=4000
  expect_failure "waits" test -b /dev/emd0
  expect "it gets another name meanwhile" wait_for 3 emdadm rename y waits
  expect "and its old one" emdadm rename waits y
  wait_for 30 emd_settled emd0
  expect "the spare took its place" emd_has emd0 "$(disk disk5)"
  expect data holds_data /dev/emd0
  plug disk4
  expect "what has lost its place is added" wait_for 10 emdadm add emd0 "$(disk disk4)"
  wait_for 10 set_has_disk "$(disk disk4)"
  step "two volumes on a set"
  expect "volume two" emdadm create --set y --level raid1 --name w --size 4M "$(disk disk3)" "$(disk disk6)"
  dd if=/dev/zero of=/dev/emd1 bs=1M count=1 oflag=direct conv=notrunc status=none
  expect_equal "delete what is empty" "$(emdadm delete w)" "w: deleted"
  expect "json" emdadm show --json
  answers_of_all_commands
}
