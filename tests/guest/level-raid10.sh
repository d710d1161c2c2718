# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# RAID10 and RAID1E: verified writes, filesystems, a lost member, a rebuild under load, another lost member.
# disks: 5x72M virtio
# timeout: 300

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

boot_1() {
  mapfile -t DISKS < <(disks)
  level ten raid10 4 "${DISKS[@]}" -- --chunk 64K --size 24M
  level adjacent raid1e 3 "${DISKS[@]}" -- --layout near=2 --chunk 16K --size 12M
  level offset raid1e 4 "${DISKS[@]}" -- --layout offset=2 --chunk 4K --size 12M
}
