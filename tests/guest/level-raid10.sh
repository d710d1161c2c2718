# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# RAID10 and RAID1E, all layouts of DDF and md: verified writes, filesystems, checks and rebuilds under load, every loss that they bear.
# disks: 5x216M virtio
# timeout: 300

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

boot_1() {
  mapfile -t DISKS < <(disks)
  LOSSES="0 1 2 3 0,2 0,3 1,2 1,3" filesystem_states files raid10 4 "${DISKS[@]}" -- --chunk 64K --size 356M
  ! whole || LOSSES="0 1 2 3 0,2 1,3" filesystem_states files raid1e 4 "${DISKS[@]}" -- --layout offset=2 --chunk 64K --size 356M
  every_loss ten ddf raid10 4 "0 1 2 3 0,2 0,3 1,2 1,3" --chunk 64K --size 4M
  every_loss far md-1.2 raid10 3 "0 1 2" --layout far=2 --chunk 16K --size 3M
  every_loss offset md-1.2 raid10 4 "0 1 2 3 0,2 1,3" --layout offset=2 --chunk 16K --size 3M
  ! whole || every_loss three md-1.2 raid10 4 "0,1 0,2 0,3 1,2 1,3 2,3" --layout near=3 --chunk 16K --size 3M
  every_loss adjacent ddf raid1e 4 "0,2 0,3 1,2 1,3" --layout near=2 --chunk 16K --size 3M
  ! whole || every_loss oddly ddf raid1e 3 "0 1 2" --layout near=2 --chunk 16K --size 3M
  every_loss round ddf raid1e 4 "0,2 1,3" --layout offset=2 --chunk 4K --size 3M
}
