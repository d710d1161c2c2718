#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What tests of faults and of bad input share. To be sourced by a test, after lib-raid.sh.

declare -A ERRNO=([EPERM]=1 [EROFS]=30 [ENOENT]=2 [EIO]=5 [ENXIO]=6 [E2BIG]=7 [EAGAIN]=11 [EBUSY]=16 [EEXIST]=17 [ENODEV]=19
  [EINVAL]=22 [ENOSPC]=28 [ERANGE]=34 [ENAMETOOLONG]=36 [EUCLEAN]=117 [EOPNOTSUPP]=95 [EALREADY]=114)

# refused ERRNO REGEX TEXT EMDADM-ARGUMENT...: the kernel refuses it, with that errno and a reason that says so.
refused() {
  local name=$1 meaning=$2 text=$3 status=0 answer why
  shift 3
  emdadm "$@" --json >/run/refused.out 2>/run/refused.err || status=$?
  answer=$(</run/refused.out)
  ((status != 0)) || fail "$text: was done: emdadm $*: $answer"
  ((status == 1 || status == 4)) || fail "$text: status $status: $(</run/refused.err)"
  # Without jq: there are many of these.
  [[ $answer =~ \"text\":\ ?\"(([^\"\\]|\\.)*)\" ]] || fail "$text: no reason: $answer"
  why=${BASH_REMATCH[1]}
  [[ $answer =~ \"errno\":\ ?([0-9]+) ]] || fail "$text: no errno: $answer"
  [[ ${BASH_REMATCH[1]} == "${ERRNO[$name]}" ]] || fail "$text: errno ${BASH_REMATCH[1]}, wanted $name ($why)"
  shopt -s nocasematch
  [[ $why =~ $meaning ]] || fail "$text: the reason does not say so: $why"
  shopt -u nocasematch
  say "refused: $text: $why"
}

# unchanged TEXT CONTENTS DISK...: what `host contents` said of these disks (disk1 ...) before still holds.
unchanged() {
  local text=$1 before=$2
  shift 2
  expect_equal "$text" "$(host contents "$@")" "$before"
}

# events KIND: all of that kind since the module was loaded, one JSON object a line. Fails, and says something that is none, if the first events are kept no more.
events() {
  local all
  all=$(emdadm monitor --json --from 0 --once) || { echo "no events" && return 1; }
  [[ ${all%%$'\n'*} =~ \"seq\":\ ?1, ]] || { echo "the first events are kept no more: ${all%%$'\n'*}" && return 1; }
  kept_events "$1" <<<"$all"
}

kept_events() {
  local line
  while read -r line; do
    [[ $line != *"\"kind\":\"$1\""* ]] || printf '%s\n' "$line"
  done
}

# happened KIND: for wait_for. One that is kept has happened, whatever is kept no more.
happened() { [[ -n $(emdadm monitor --json --from 0 --once | kept_events "$1") ]]; }

# make_disks KIB COUNT: nbd0 ..., in $DISKS, whose bad sectors are good when they were written, and which can refuse writes (programs/baddisk.c).
make_disks() {
  local n
  modprobe nbd nbds_max="$2" max_part=0
  DISKS=()
  for ((n = 0; n < $2; n++)); do
    mkdir -p "/run/nbd$n"
    /emd/bin/baddisk "/dev/nbd$n" "$1" "/run/nbd$n" </dev/null >/dev/null
    DISKS+=("/dev/nbd$n")
  done
}

# range DEVICE FIRST COUNT: sectors of it.
range() { dd if="$1" bs=512 skip="$2" count="$3" iflag=direct status=none; }

# load_begins SEED [OPTION...]: passes of fio over /dev/emd0, always the same, in the background, until load_ends. Returns when its
# writes arrive. /run/load.over is there when it has ended.
load_begins() {
  local seed=$1 before
  shift
  before=$(emd_writes emd0)
  rm -f /run/load.*
  (
    spread
    status=0
    until [[ $status != 0 || -e /run/load.stop ]]; do fio_pass "$seed" write "$@" || status=$?; done
    echo "$status" >/run/load.over
    exit "$status"
  ) &
  LOAD=$!
  LOAD_LOG=/run/fio.$seed
  wait_for 20 emd_wrote emd0 $((before + 50))
}

# Whether it still writes: so what has just happened has happened under load.
load_goes_on() { [[ ! -e /run/load.over ]]; }

# load_ends: after the pass that it is at; all its writes went well.
load_ends() {
  touch /run/load.stop
  wait "$LOAD" || fail "fio: $(tail -n 20 "$LOAD_LOG")"
}

# fio_pass SEED write|verify [OPTION...]: the whole of /dev/emd0 is written once in random order (in some seconds), or what an
# earlier pass wrote is read and compared.
fio_pass() {
  local seed=$1 mode=$2
  shift 2
  local options=(--name=pass --filename=/dev/emd0 --cpus_allowed="$CPUS" --direct=1 --rw=randwrite --bs=16k --ioengine=libaio --iodepth=8 --size=100%)
  options+=(--randseed="$seed" --verify=crc32c --verify_fatal=1 --allow_file_create=0)
  case $mode in
  write) options+=(--do_verify=0 --rate=16m) ;;
  verify) options+=(--verify_only=1) ;;
  esac
  fio "${options[@]}" "$@" >"/run/fio.$seed" 2>&1
}
