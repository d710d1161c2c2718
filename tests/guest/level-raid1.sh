# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# RAID1 of two and of three copies: verified writes, ext4 and xfs in every state, a lost member, a rebuild under load, another lost member.
# disks: 4x432M virtio
# timeout: 180

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

boot_1() {
  mapfile -t DISKS < <(disks)
  level two raid1 2 "${DISKS[@]}" -- --size 12M
  level three raid1 3 "${DISKS[@]}" -- --size 12M
  filesystem_states files raid1 2 "${DISKS[@]}" -- --size 384M
}
