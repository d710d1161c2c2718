# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# RAID6 in all rotations of DDF and md: verified writes, checks and rebuilds of two members at once under load, any two members lost;
# ext4 and xfs in every state; data that changes while it is written.
# disks: 5x216M virtio
# timeout: 400

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

ROTATIONS=(left-asymmetric right-asymmetric left-symmetric right-symmetric parity-first parity-last
  left-asymmetric-6 right-asymmetric-6 left-symmetric-6 right-symmetric-6 parity-first-6)

boot_1() {
  local rotation daily=(parity-first-6)
  mapfile -t DISKS < <(disks)
  LOSSES="0,1 0,2 0,3 1,2 1,3 2,3" filesystem_states files raid6 4 "${DISKS[@]}" -- --chunk 64K --size 356M
  every_loss zero ddf raid6 5 "0,1 0,2 0,3 0,4 1,2 1,3 1,4 2,3 2,4 3,4" --layout ddf-zero-restart --chunk 16K --size 3M
  every_loss continue ddf raid6 5 "0,1 1,2 0,2 0,3 1,3 1,4 2,3 2,4 3,4 0,4" --layout ddf-N-continue --chunk 64K --size 4608K
  every_loss restart ddf raid6 4 "0,1 0,2 0,3 1,2 1,3 2,3" --layout ddf-N-restart --chunk 4K --size 3M
  ! whole || scribbled changes raid6 5 --chunk 16K
  ! whole || daily=("${ROTATIONS[@]}")
  for rotation in "${daily[@]}"; do
    every_loss rotation md-1.2 raid6 4 "0,2 1,3" --layout "$rotation" --chunk 16K --size 3M
  done
}
