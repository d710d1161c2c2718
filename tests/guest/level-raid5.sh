# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# RAID5 in all four rotations: verified writes, ext4 and xfs in every state, a lost member, a rebuild under load, another lost member.
# disks: 5x176M virtio
# timeout: 240

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

boot_1() {
  mapfile -t DISKS < <(disks)
  level ls raid5 4 "${DISKS[@]}" -- --layout left-symmetric --chunk 64K --size 24M
  level la raid5 3 "${DISKS[@]}" -- --layout left-asymmetric --chunk 16K --size 12M
  level ra raid5 3 "${DISKS[@]}" -- --layout right-asymmetric --chunk 128K --size 12M
  filesystem_states files raid5 4 "${DISKS[@]}" -- --chunk 64K --size 384M
  level rs raid5 4 "${DISKS[@]}" -- --layout right-symmetric --chunk 4K --size 12M
}
