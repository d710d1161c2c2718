# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What tools/udev makes of arrays under systemd's udev: links by which /etc/fstab and boot loaders name filesystems, and none to what members of a mirror show of them.
# And that mdadm, as udev runs it, leaves EMD's disks alone if its configuration says what README.md says.
# disks: 3x64M virtio, 2x64M virtio, 2x64M virtio
# extra: udev
# emd: manual
# timeout: 120

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

FIVE=11111111-2222-4333-8444-555555555555
ONE=66666666-7777-4888-8999-aaaaaaaaaaaa
PART=bbbbbbbb-cccc-4ddd-8eee-ffffffffffff

# udev_runs: systemd's udevd, with the rules that come with it and ours, as `make install` puts them.
udev_runs() {
  unset MDADM_NO_UDEV
  mkdir -p /run/udev /etc/udev/rules.d
  cp /emd/tools/udev/60-emd.rules /usr/lib/udev/rules.d/
  install -m 755 /emd/tools/udev/emd-id /usr/lib/udev/emd-id
  SYSTEMD_LOG_TARGET=console bash -c 'exec -a systemd-udevd udevadm' </dev/null >/run/udevd.log 2>&1 &
  wait_for 20 test -S /run/udev/control
  udevadm control --ping
}

# all_again: as if all disks had just come.
all_again() {
  udevadm trigger --subsystem-match=block --action=add
  udevadm settle
}

# leads LINK DEVICE: the link in /dev/disk is there, and leads to the device.
leads() { [[ -e /dev/disk/$1 && $(readlink -f "/dev/disk/$1") == "$2" ]]; }

# stopped_or_in_use ARRAY: for wait_for: it is stopped; the only reason not to is that somebody has it open.
stopped_or_in_use() {
  emdadm stop "$1" >/run/said 2>&1 && return
  grep -q "in use" /run/said || fail "$1 is not stopped: $(</run/said)"
  return 1
}

no_link() { [[ ! -L /dev/disk/$1 ]]; }

md_took() { # DISK: md has it
  local holder
  for holder in /sys/block/"${1#/dev/}"/holders/md*; do [[ ! -e $holder ]] || return 0; done
  return 1
}

links_of_five() {
  wait_for 20 leads by-uuid/$FIVE /dev/emd0
  expect "by label" wait_for 20 leads by-label/fivefs /dev/emd0
  expect "by the volume's id" wait_for 20 leads "by-id/emd-id-$(emd_get emd0 .id)" /dev/emd0
  expect "by the volume's name" wait_for 20 leads by-id/emd-name-five /dev/emd0
}

links_of_one() {
  wait_for 20 leads by-uuid/$ONE /dev/emd1p1
  expect "partition: by partition UUID" wait_for 20 leads by-partuuid/$PART /dev/emd1p1
  expect "partition: by partition label" wait_for 20 leads by-partlabel/onepart /dev/emd1p1
  expect "partition: by the volume's name" wait_for 20 leads by-id/emd-name-one-part1 /dev/emd1p1
  expect "partition: by the volume's id" wait_for 20 leads "by-id/emd-id-$(emd_get emd1 .id)-part1" /dev/emd1p1
}

boot_1() {
  local device
  mapfile -t DISKS < <(disks)
  udev_runs
  emd_load
  step "links appear when filesystems are made"
  expect "a RAID 5" emdadm create --format ddf --level raid5 --name five --assume-clean "${DISKS[@]:0:3}"
  # What is written before udev knows of a disk it looks at with the disk's next event.
  udevadm settle
  expect "a filesystem on it" mkfs.ext4 -q -U $FIVE -L fivefs /dev/emd0
  links_of_five
  expect "a RAID 1" emdadm create --format ddf --level raid1 --name one --assume-clean "${DISKS[@]:3:2}"
  expect "a filesystem on all of it" mkfs.ext4 -q -U $ONE /dev/emd1
  # udev may look at it just now, which a stop waits for only so long.
  wait_for 20 stopped_or_in_use emd1
  say "ok: stopped"
  # As an initramfs without links asks.
  expect_equal "no member is taken for it" "$(blkid -c /dev/null -l -t UUID=$ONE -o device || true)" ""
  expect "started" emdadm scan
  wait_for 20 emd_runs emd1
  expect_equal "but the array" "$(blkid -c /dev/null -l -t UUID=$ONE -o device)" /dev/emd1
  wait_for 20 leads by-uuid/$ONE /dev/emd1
  wipefs -aq /dev/emd1
  expect "partitions on it" sfdisk -q /dev/emd1 <<<"label: gpt
start=2048, uuid=$PART, name=onepart"
  wait_for 20 test -b /dev/emd1p1
  udevadm settle
  expect "a filesystem in one" mkfs.ext4 -q -U $ONE /dev/emd1p1
  links_of_one
  step "they go with the array, and come back with it"
  for device in emd0 emd1; do wait_for 20 emd_is_clean $device; done
  udevadm settle
  expect "stopped" emdadm stop --all
  wait_for 20 no_link by-uuid/$FIVE
  wait_for 20 no_link by-id/emd-name-five
  wait_for 20 no_link by-uuid/$ONE
  expect "started" emdadm scan
  links_of_five
  links_of_one
  udevadm settle
  expect "stopped" emdadm stop --all
  rmmod emd
  step "a set of md's, which is not for EMD"
  md_load
  expect "made" mdadm -CR /dev/md0 -e 1.2 -l 1 -n 2 --assume-clean --bitmap=none "${DISKS[@]:5:2}"
  expect "stopped" mdadm -S /dev/md0
}

boot_2() {
  local device
  mapfile -t DISKS < <(disks)
  # They are made while the kernel looks at the disks; the mirror's members show the array's.
  expect "a member shows the array's partition" test -b "${DISKS[3]}1"
  mkdir -p /etc/mdadm
  md_load
  udev_runs

  step "without EMD: members of the mirror are taken for the array: else this test proves nothing"
  echo "AUTO -all" >/etc/mdadm/mdadm.conf
  all_again
  expect "a link leads to a member" eval "leads by-uuid/$ONE ${DISKS[3]}1 || leads by-uuid/$ONE ${DISKS[4]}1"
  for device in "${DISKS[@]}"; do expect_failure "mdadm, told to leave all, has left ${device#/dev/}" md_took "$device"; done

  step "with EMD: no link leads to a member, started or not"
  modprobe emd auto=0
  all_again
  expect "none before the array starts" no_link by-uuid/$ONE
  expect "started" emdadm scan "${DISKS[@]:0:5}"
  wait_for 20 emd_runs emd0
  wait_for 20 emd_runs emd1
  links_of_five
  links_of_one
  all_again
  links_of_one
  expect "mounted by its UUID" mount "/dev/disk/by-uuid/$ONE" /mnt
  umount /mnt
  udevadm settle
  for device in emd0 emd1; do wait_for 20 emd_is_clean $device; done
  expect "stopped" emdadm stop --all
  rmmod emd

  step "mdadm, told to leave what is not its own"
  echo "AUTO +1.x -all" >/etc/mdadm/mdadm.conf
  all_again
  for device in "${DISKS[@]:0:5}"; do expect_failure "it has left ${device#/dev/}" md_took "$device"; done
  expect "it has its own" md_took "${DISKS[5]}"
  md_stop
  udevadm settle
  step "and not told: else this test proves nothing"
  rm /etc/mdadm/mdadm.conf
  all_again
  expect "it has a disk of the RAID 5" md_took "${DISKS[0]}"
}
