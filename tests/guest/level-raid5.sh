# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# RAID5 and RAID4 in all rotations of DDF and md: verified writes, checks and rebuilds under load, each member lost; ext4 and xfs in every state;
# data that changes while it is written.
# disks: 5x176M virtio
# timeout: 240

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-levels.sh
source /emd/tests/guest/lib-levels.sh

boot_1() {
  mapfile -t DISKS < <(disks)
  LOSSES="0 1 2 3" filesystem_states files raid5 4 "${DISKS[@]}" -- --chunk 64K --size 384M
  ! whole || LOSSES="0 1 2 3" filesystem_states four raid4 4 "${DISKS[@]}" -- --layout parity-last --chunk 64K --size 384M
  level ls raid5 4 "${DISKS[@]}" -- --layout left-symmetric --chunk 64K --size 12M
  every_loss la ddf raid5 3 "0 1 2" --layout left-asymmetric --chunk 16K --size 3M
  every_loss ra ddf raid5 3 "0 1 2" --layout right-asymmetric --chunk 128K --size 4M
  every_loss rs ddf raid5 4 "0 1 2 3" --layout right-symmetric --chunk 4K --size 3M
  ! whole || every_loss first md-1.2 raid5 3 "0 1 2" --layout parity-first --chunk 16K --size 3M
  ! whole || every_loss last md-1.2 raid5 3 "0 1 2" --layout parity-last --chunk 16K --size 3M
  ! whole || every_loss four-first ddf raid4 4 "0 1 2 3" --layout parity-first --chunk 16K --size 3M
  every_loss four ddf raid4 3 "0 1 2" --layout parity-last --chunk 64K --size 4M
  scribbled changes raid5 4 --chunk 16K
  ! whole || every_loss md-four md-1.2 raid4 3 "0 1 2" --chunk 16K --size 3M
}
