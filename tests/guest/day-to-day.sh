# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The scripts behind the units of tools/systemd: arrays are compared one after the other, and losses are mailed.
# disks: 2x36M virtio, 2x36M virtio
# cpus: 1
# emd: manual
# timeout: 60

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

mailed() { grep -q "$1" /run/mails; }

# monitor_listens: emdadm has /dev/emd open.
monitor_listens() {
  local pid file
  pid=$(pgrep -x emdadm) || return
  for file in "/proc/$pid/fd"/*; do [[ ! $file -ef /dev/emd ]] || return 0; done
  return 1
}

checks_done() { grep -c '"kind":"task-done"' <<<"$(emdadm monitor --from 0 --once --json)"; }

boot_1() {
  local mailer
  mapfile -t DISKS < <(disks)
  mkdir -p /usr/local/sbin
  install -m 755 /emd/tools/systemd/emd-check /emd/tools/systemd/emd-mail /usr/local/sbin
  # shellcheck disable=SC2016 # of the script
  printf '#!/bin/bash\n{ echo "mail $*"; cat; } >>/run/mails\n' >/usr/local/sbin/mail
  chmod 755 /usr/local/sbin/mail
  : >/run/mails
  emd_load
  step "emd-check"
  expect "without arrays" /usr/local/sbin/emd-check
  expect "a RAID 1" emdadm create --format ddf --level raid1 --name one --assume-clean "${DISKS[@]:0:2}"
  expect "a RAID 0" emdadm create --format ddf --level raid0 --name zero "${DISKS[@]:2:2}"
  wait_for 10 emd_settled emd0
  expect "compares what has redundancy, and leaves the other" /usr/local/sbin/emd-check
  expect_equal "checks that were done" "$(checks_done)" 1

  step "emd-mail"
  /usr/local/sbin/emd-mail admin 1 &
  mailer=$!
  # It hears what is told from now on; until then nothing is lost.
  wait_for 10 monitor_listens
  expect "a member is failed" emdadm fail emd0 "${DISKS[1]}"
  # The text comes after the head, at once.
  wait_for 10 mailed degraded
  expect "a loss is mailed" mailed "^mail -s EMD on .*: member-failed admin$"
  expect "with what is the matter" grep -qE "^[0-9].* member-failed emd0( |:|\$)" /run/mails
  expect "and how arrays are" grep -q "degraded" /run/mails
  # Else it holds the module.
  kill "$mailer" && pkill -x emdadm
}
