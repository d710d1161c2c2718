# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A power cut leaves volumes dirty under EMD, and md resyncs what it must and nothing else; then another leaves them dirty under md, and EMD does.
# Volumes that nobody wrote to stay as they are, and with a bitmap all regions but the dirty one. Those that lack a member are started by either, with parity only by force.
# disks: 18x36M scsi, 2x101G scsi unplugged
# cpus: 1
# emd: manual
# timeout: 450

# shellcheck source=tests/guest/lib-dirty.sh
source /emd/tests/guest/lib-dirty.sh

# What a line says is told in lib-dirty.sh. The first round is that of every day.
ROUNDS=(
  "dw ddf mdadm 1 2 1 written
   iw imsm emd 3 3 5 written
   da ddf emd 11 2 1 lost
   mp 1.2 emd 13 3 5 lost
   mr 1.2 mdadm 6 3 5 regions
   mb 1.2 emd 16 3 5 regions"
  # Further ones on the same disks.
  "dw ddf mdadm 1 2 1 written
   dl ddf mdadm 1 2 1 left
   iw imsm emd 3 3 5 written
   il imsm emd 3 3 5 left"
  "dw ddf emd 1 3 5 written
   dl ddf emd 1 3 5 left
   iw imsm mdadm 4 2 1 written
   il imsm mdadm 4 2 1 left
   mr 1.0 mdadm 6 2 1 regions
   mw 0.90 mdadm 8 3 5 written
   ip imsm mdadm 11 3 5 lost
   mb 1.2 emd 19 2 1 regions"
  "dw ddf mdadm 1 4 6 written
   dl ddf mdadm 1 4 4 left
   iw imsm emd 5 4 10 written
   il imsm emd 5 4 5 left
   db ddf emd 13 4 1e written
   ma 1.2 mdadm 11 2 1 lost
   mr 0.90 mdadm 9 2 1 regions"
  "iw imsm mdadm 1 4 10 written
   il imsm mdadm 1 4 5 left
   mw 1.1 emd 9 2 1 written
   mv 1.0 emd 11 2 1 written
   mr 1.1 mdadm 5 4 10 regions
   mb 1.0 emd 13 3 5 regions"
  "dw ddf emd 1 4 10 written
   dl ddf emd 1 4 6 left
   mw 1.2 emd 8 3 5 written
   mr 1.2 mdadm 5 3 4 regions
   mb 0.90 emd 11 4 10 regions"
  # What is written and has all its members, in each level.
  "dw ddf mdadm 1 3 4 written
   dl ddf mdadm 1 3 5 written
   iw imsm emd 4 2 1 written
   mw 0.90 emd 6 3 4 written
   mv 1.2 mdadm 9 4 6 written
   mu 1.2 emd 13 3 4 written
   mt 0.90 emd 16 2 1 written"
  "dw ddf emd 1 4 6 written
   dl ddf emd 1 4 4 written
   iw imsm mdadm 5 3 5 written
   mw 0.90 mdadm 8 4 6 written
   mv 1.2 emd 12 4 10 written
   mu 1.2 mdadm 16 2 1 written"
  "dw ddf mdadm 1 4 10 written
   dl ddf mdadm 1 4 5 left
   mw 0.90 mdadm 5 4 10 written
   mv 1.2 emd 9 4 6 written
   mu 0.90 emd 13 3 5 written
   da ddf emd 16 2 1 written"
  # What lacks a member.
  "dw ddf emd 1 4 6 lost
   dl ddf emd 1 4 5 lost-left
   iw imsm mdadm 5 4 10 lost
   il imsm mdadm 5 4 5 lost
   mw 0.90 emd 9 3 5 lost
   mv 0.90 mdadm 12 4 6 lost
   mu 0.90 mdadm 16 2 1 lost"
  "dw ddf mdadm 1 3 5 lost
   dl ddf mdadm 1 3 4 lost
   iw imsm emd 4 2 1 lost
   mw 1.2 mdadm 6 4 6 lost
   mv 1.2 emd 10 3 4 lost
   mu 0.90 mdadm 13 3 4 lost
   da ddf mdadm 16 2 1 lost"
  "dw ddf mdadm 1 4 10 lost
   dl ddf mdadm 1 4 6 lost
   iw imsm emd 5 3 5 lost
   mw 1.2 mdadm 8 4 10 lost
   mv 0.90 emd 12 4 10 lost
   mu 1.1 mdadm 16 3 5 lost"
  "dw ddf emd 1 4 10 lost
   dl ddf emd 1 4 4 lost
   iw imsm emd 5 4 5 lost
   il imsm emd 5 4 10 lost-left
   mw 1.0 emd 9 4 6 lost
   mv 1.2 emd 13 4 10 lost"
  # What is being rebuilt. (Not DDF, of which mdmon 4.4 does not always go on with it.)
  "iw imsm mdadm 6 3 5 rebuilding
   mw 1.2 mdadm 11 2 1 rebuilding"
  "iw imsm emd 5 2 1 rebuilding
   mw 1.2 emd 9 3 5 rebuilding
   mv 0.90 mdadm 14 3 5 rebuilding"
  "iw imsm emd 1 4 10 rebuilding
   mw 1.0 emd 7 4 10 rebuilding
   mv 1.2 mdadm 13 4 6 rebuilding"
)

if whole; then last=${#ROUNDS[@]}; else last=1; fi
three_boots_each "$last"
