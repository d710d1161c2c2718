# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Nothing that a program may throw at /dev/emd changes a set, breaks the kernel, or is let in without CAP_SYS_ADMIN.
# The program in docs/ioctl.md does what it is there for.
# disks: 3x80M virtio
# emd: manual
# timeout: 90

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh

HOSTILE=/emd/bin/ioctl-hostile
SEED=${SEED:-20260501} CALLS=${CALLS:-50000}

ended() { ! kill -0 "$1" 2>/dev/null; }

boot_1() {
  ! whole || CALLS=300000
  modprobe emd clean_ms=200
  local a b before state numbers=() device
  a=$(disk disk1) b=$(disk disk2)
  emdadm create --format ddf --level raid1 --name data --size 16M --assume-clean "$a" "$b"
  wait_for 10 emd_settled emd0
  for device in "$a" "$b"; do numbers+=("$(<"/sys/block/${device##*/}/dev")"); done
  before=$(host contents disk1 disk2 disk3) state=$(emdadm show --json)

  step "each thing wrong that can be"
  $HOSTILE wrong || fail "see above"
  expect "who may not" "$HOSTILE" powerless
  unchanged "nothing was written" "$before" disk1 disk2 disk3
  expect_equal "the set is as it was" "$(emdadm show --json)" "$state"

  step "the same while there is something to start"
  expect "stopped" emdadm stop emd0
  before=$(host contents disk1 disk2 disk3)
  $HOSTILE wrong || fail "see above"
  expect_failure "nothing was started" test -b /dev/emd0
  unchanged "nothing was written" "$before" disk1 disk2 disk3
  expect "it starts when it is asked for" emdadm scan
  wait_for 10 emd_settled emd0
  before=$(host contents disk1 disk2 disk3) state=$(emdadm show --json)

  step "$CALLS random calls, seed $SEED"
  $HOSTILE random "$SEED" "$CALLS" "${numbers[@]}" || fail "see above"
  unchanged "nothing was written" "$before" disk1 disk2 disk3
  expect_equal "the set is as it was" "$(emdadm show --json)" "$state"

  step "events"
  /emd/bin/ioctl-events 0 || fail "see above"
  say "ok: poll and read wake up, no gaps, the lost are counted"
  expect "the array works" fill /dev/emd0 5

  step "the program in docs/ioctl.md"
  expect "deleted" emdadm delete --force emd0
  expect "created" emdadm create --format ddf --level raid5 --name listed --size 16M --assume-clean "$a" "$b" "$(disk disk3)"
  /emd/bin/ioctl-example >/run/said 2>&1 &
  wait_for 10 grep -q "^/dev/emd0: listed, raid5, 32768 sectors, state 1$" /run/said
  say "ok: it lists the array"
  expect "one member fails" emdadm fail emd0 "$a"
  expect "and another" emdadm fail --force emd0 "$b"
  wait_for 20 ended $!
  wait $! || fail "it ended with $?: $(tail -n 3 /run/said)"
  expect "it told of events until the array had failed" grep -q "^[0-9]*: kind [0-9]*, value [0-9]*" /run/said
}
