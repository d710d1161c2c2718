#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What guest tests are written with. Run as `lib.sh SCRIPT N`, it runs boot_N of the script.
# tests/guest/README.md has the whole of it with examples.

say() { printf '    %s\n' "$*"; }

# A heading; what follows belongs to it, and a failure names it.
step() {
  EMD_STEP=$*
  printf '%s\n' "== $*"
}

# Ends the test.
fail() {
  printf 'FAILED: %s\n' "$*"
  printf '%s' "${EMD_STEP:+$EMD_STEP: }$*" | tr '\n' ' ' >/run/failure
  # At the prompt of `make shell` only the command ends.
  [[ $- == *i* ]] && return 1
  exit 1
}

# whole: is this a run of everything (make test-whole)? The daily one takes of each matrix what has every level and every state in it.
whole() { [[ -n ${EMD_WHOLE:-} ]]; }

# expect TEXT COMMAND...: the command must succeed. Its output is shown only if it does not.
expect() {
  local text=$1 status=0 output=/run/expect.$BASHPID.${#FUNCNAME[@]}
  shift
  # To a file: for $( ) the shell would have to make a copy of itself, which takes longer than many programs.
  "$@" >"$output" 2>&1 || { status=$? && output=$(head -c 600 "$output") && fail "$text (status $status: $*)${output:+: $output}"; }
  say "ok: $text"
}

# expect_failure TEXT COMMAND...: the command must fail.
expect_failure() {
  local text=$1
  shift
  if "$@" >/run/expect.out 2>&1; then fail "$text (succeeded: $*)"; fi
  say "ok: $text"
}

# expect_equal TEXT GOT WANTED
expect_equal() {
  [[ $2 == "$3" ]] || fail "$1: got '$2', wanted '$3'"
  say "ok: $1"
}

# wait_for SECONDS COMMAND...: until the command succeeds. SECONDS is what an idle machine may need; a busy one gets several times that.
PATIENCE=${EMD_PATIENCE:-4}
exec {NEVER}<> <(:)
wait_for() {
  local seconds=$1 end
  shift
  end=$((SECONDS + seconds * PATIENCE))
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || fail "not within $((seconds * PATIENCE)) s: $*"
    # Nothing is ever written there. (A program that sleeps would have to start each time.)
    read -rt 0.1 -u "$NEVER" || true
  done
}

# disk NAME: the device of a declared disk (disk1 ...), found by its serial number. Fails if it is not plugged in.
disk() {
  local block serial
  # Where it was when this boot began, it is mostly still.
  for block in ${KNOWN_DISKS[$1]-} /sys/block/[vs]d*; do
    serial_of "$block"
    if [[ $serial == "$1" && -b /dev/${block##*/} ]]; then
      echo "/dev/${block##*/}"
      return
    fi
  done
  return 1
}

# serial_of FOLDER: of a device in /sys/block, in `serial`. Without a program: it is asked for often.
serial_of() {
  local page
  serial=
  if [[ -r $1/serial ]]; then
    read -r serial <"$1/serial" || true
  elif [[ -r $1/device/vpd_pg80 ]]; then
    # 0, page, 0, length, serial number
    mapfile -d '' page <"$1/device/vpd_pg80"
    serial=${page[2]-}
    serial=${serial:1}
  fi
}

# Where each disk is now: {name: folder in /sys/block}.
declare -A KNOWN_DISKS=()
know_disks() {
  local block serial
  for block in /sys/block/[vs]d*; do
    serial_of "$block"
    [[ -z $serial ]] || KNOWN_DISKS[$serial]=$block
  done
}

# disks [NAME...]: the devices of these, or of all that were plugged in at boot.
disks() {
  local name
  # shellcheck disable=SC2086 # a list
  (($#)) || set -- $EMD_DISKS
  for name; do disk "$name" || fail "no $name"; done
}

# unplug NAME, plug NAME: as `host` does, and waits until the kernel has noticed.
unplug() {
  host unplug "$1"
  wait_for 10 disk_gone "$1"
}

plug() {
  host plug "$1"
  wait_for 10 disk "$1"
}

disk_gone() { ! disk "$1"; }

# With several processors the shell and its programs stay on the first: a guest without KVM takes twice as long for programs that move about. The
# kernel's own threads are on all of them, and so are loads:
# spread: what this (sub)shell starts from now on is on all processors.
read -r CPUS </sys/devices/system/cpu/online
spread() { [[ $CPUS == 0 ]] || taskset -cp "$CPUS" "$BASHPID" >/dev/null; }

run_boot() { # SCRIPT N
  set -Eeuo pipefail
  trap 'fail "line $LINENO of ${BASH_SOURCE[0]##*/}: status $?: $BASH_COMMAND"' ERR
  # How fast things are shall not depend on it.
  [[ $CPUS == 0 || $1 == */tests/bench/* ]] || taskset -cp 0 $$ >/dev/null
  # shellcheck disable=SC1090
  source "$1"
  declare -F "boot_$2" >/dev/null || fail "there is no boot_$2 in ${1##*/}"
  know_disks
  "boot_$2"
  trap - ERR
  # A further boot that nothing has asked for yet comes after an orderly reboot.
  if declare -F "boot_$(($2 + 1))" >/dev/null; then exit 100; fi
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  run_boot "$@"
fi
