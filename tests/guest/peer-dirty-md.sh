# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# As peer-dirty: md's own arrays, each level with the versions of the superblock that peer-dirty has not; with no bitmap.
# run: whole
# disks: 18x36M scsi
# cpus: 1
# emd: manual
# timeout: 450

# shellcheck source=tests/guest/lib-dirty.sh
source /emd/tests/guest/lib-dirty.sh

# What a line says is told in lib-dirty.sh.
ROUNDS=(
  "mw 1.0 mdadm 1 3 4 written
   mv 1.0 mdadm 4 3 5 written
   mu 1.0 mdadm 7 4 6 written
   mt 1.0 mdadm 11 4 10 written
   ms 0.90 mdadm 15 3 4 written"
  "mw 1.1 mdadm 1 2 1 written
   mv 1.1 mdadm 3 3 4 written
   mu 1.1 mdadm 6 3 5 written
   mt 1.1 mdadm 9 4 6 written
   ms 1.2 mdadm 13 4 10 written
   mr 1.0 mdadm 17 2 1 written"
  "mw 1.0 emd 1 3 4 written
   mv 1.0 emd 4 3 5 written
   mu 1.0 emd 7 4 6 written
   mt 1.0 emd 11 4 10 written
   ms 0.90 emd 15 4 10 written"
  "mw 1.1 emd 1 3 4 written
   mv 1.1 emd 4 3 5 written
   mu 1.1 emd 7 4 6 written
   mt 1.1 emd 11 4 10 written
   ms 0.90 emd 15 4 6 written"
  # What lacks a member.
  "mw 1.0 mdadm 1 4 10 lost
   mv 1.0 mdadm 5 2 1 lost
   mu 1.1 mdadm 7 3 4 lost
   mt 1.1 mdadm 10 4 6 lost
   ms 1.2 mdadm 14 3 5 lost"
  "mw 1.1 emd 1 4 10 lost
   mv 1.1 emd 5 2 1 lost
   mu 1.0 emd 7 3 4 lost
   mt 1.2 emd 10 4 6 lost
   ms 1.0 emd 14 3 5 lost"
  # Copies that are elsewhere.
  "mw 1.2 mdadm 1 4 10f written
   mv 1.1 mdadm 5 3 10o written
   mu 1.2 emd 8 4 10o written
   mt 1.0 emd 12 3 10f written"
)

three_boots_each ${#ROUNDS[@]}
