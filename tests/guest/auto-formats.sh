# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The module's parameter `auto`: which sets start as their disks arrive. Disks of others are left alone, so that another driver may have them, until a scan asks for them.
# disks: 2x36M virtio, 2x36M virtio, 2x36M virtio
# cpus: 1
# emd: manual
# timeout: 90

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

# started: the names of volumes that are.
started() { emdadm show --json | jq -r '[.sets[].volumes[] | select(.device != null).name] | sort | join(" ")'; }

has_started() { [[ $(started) == "$1" ]]; }

# has_state NAME STATE: of a volume.
has_state() { [[ $(emdadm show --json | jq -r --arg name "$1" '.sets[].volumes[] | select(.name == $name).state') == "$2" ]]; }

# auto_starts AUTO NAMES: loaded so, it starts just these.
auto_starts() {
  # Long enough for the second disk of a set to be plugged in.
  expect "auto=$1" modprobe emd start_timeout_ms=20000 ${1:+auto=$1}
  wait_for 20 has_started "$2"
  # What is not asked for would be there by now.
  sleep 1
  expect_equal "started by itself" "$(started)" "$2"
}

unload() {
  expect "stopped" emdadm stop --all
  rmmod emd
}

# friend DISK: another driver can have it.
friend() { dmsetup create friend --table "0 2048 linear $1 0" && dmsetup remove --retry friend; }

boot_1() {
  local device
  mapfile -t DISKS < <(disks)
  modprobe dm_mod
  emd_load
  step "a set of each of three formats"
  expect "ddf" emdadm create --format ddf --level raid1 --name d --assume-clean "${DISKS[@]:0:2}"
  expect "imsm" emdadm create --format imsm --level raid1 --name i --assume-clean "${DISKS[@]:2:2}"
  expect "md" emdadm create --format md-1.2 --level raid1 --name m --assume-clean "${DISKS[@]:4:2}"
  unload

  step "all, as when nothing is said"
  auto_starts "" "d i m"
  unload
  auto_starts 1 "d i m"
  unload

  step "one format"
  auto_starts imsm "i"
  expect_failure "a disk that is in use cannot be had" friend "${DISKS[2]}"
  for device in "${DISKS[@]:0:2}" "${DISKS[@]:4:2}"; do expect "another driver can have $device" friend "$device"; done
  expect "asked for" emdadm scan "${DISKS[@]:0:2}"
  expect_equal "started" "$(started)" "d i"
  unload

  step "two, one of them by its family"
  auto_starts ddf,md "d m"
  expect "another driver can have a disk of the third" friend "${DISKS[2]}"
  step "disks that come later"
  expect "stopped" emdadm stop --all
  for device in disk1 disk2 disk3 disk4; do unplug $device; done
  for device in disk1 disk2 disk3 disk4; do plug $device; done
  wait_for 20 has_started "d"
  sleep 1
  expect_equal "started by themselves" "$(started)" "d"
  wait_for 20 has_state d optimal
  unload

  step "none"
  modprobe emd auto=0
  sleep 2
  expect_equal "nothing is started" "$(started)" ""
  expect "all are asked for" emdadm scan
  expect_equal "started" "$(started)" "d i m"
  step "none, and a disk of a set that runs is away for a while"
  unplug disk1
  wait_for 20 has_state d degraded
  plug disk1
  wait_for 20 has_state d optimal
  unload

  step "what is no format"
  dmesg -C
  expect_failure "is refused" modprobe emd auto=ddf,vinum
  dmesg >/run/dmesg
  expect "and named" grep "auto=ddf,vinum: 'vinum' is no format" /run/dmesg
  expect_failure "too much of it" modprobe emd "auto=$(printf 'ddf,%.0s' {1..20})ddf"
  expect_equal "the module is not there" "$([[ -d /sys/module/emd ]] && echo there)" ""
  modinfo emd >/run/modinfo
  expect "modinfo tells of it" grep "^parm: *auto:Which sets are started.*(charp)" /run/modinfo
}
