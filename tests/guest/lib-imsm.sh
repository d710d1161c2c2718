#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What tests of Intel's metadata share: lib-peer.sh, with mdadm's and EMD's view of such sets. To be sourced by a test.

# shellcheck source=tests/guest/lib-peer.sh
source /emd/tests/guest/lib-peer.sh

# There is no Intel firmware to ask what it can do.
export IMSM_NO_PLATFORM=1

# md_assemble DISK...: all disks at once, spares too (they belong to no set, so `mdadm -I` would leave them alone).
md_assemble() {
  md_load
  rm -f /dev/md/*
  mdadm -A /dev/md/imsm "$@" >/run/mdadm.out 2>&1 || fail "mdadm -A: $(</run/mdadm.out)"
  mdadm -IR /dev/md/imsm >>/run/mdadm.out 2>&1 || fail "mdadm -IR: $(</run/mdadm.out)"
}

# mdadm_view DISK: what mdadm reads there, one line for each volume and each disk.
# The serial number of a lost disk has a mark; which disk is "Failed disk" is told by the slots, too.
mdadm_view() {
  mdadm -E "$1" | awk '
    { text = $0; sub(/^[^:]*: */, "", text); sub(/ +$/, "", text) }
    /^ *Disk.* Serial :/ { serial = text; sub(/(:0)+$/, "", serial); next }
    serial != "" && / State :/ { print "disk " serial ": " text; serial = ""; next }
    /^\[.*\]:$/ { name = substr($0, 2, length($0) - 3) }
    / RAID Level :/ { level = text; sub(/ .*/, "", level) }
    / Slots :/ { slots = text; sub(/ .*/, "", slots) }
    / Sector Size :/ { sector = text }
    / Array Size :/ { size = text; sub(/ .*/, "", size); size *= sector / 512 }
    / Chunk Size :/ { chunk = text }
    / Migrate State :/ { migrates = text }
    / Map State :/ { map = text; sub(/ .*/, "", map) }
    / Dirty State :/ { print "volume " name ": RAID" level " " slots " " size " sectors, " map ", " migrates ", " text }' | sort
}

# md_recorded DISK: for wait_for: mdmon has recorded there that all volumes are whole and nothing is under way. (The kernel is through with it before. mdmon may miss the end of what lasts some
# hundredths of a second: md_speed.)
md_recorded() {
  mdadm -E "$1" | awk '
    / Map State :/ { maps++; if (/degraded/) other = 1 }
    / Migrate State :/ && !/ : idle/ { other = 1 }
    END { exit other || !maps }'
}

# emd_view: the same of what EMD says, in mdadm's words.
emd_view() {
  emdadm show --json | jq -r '
    {optimal: "normal", degraded: "degraded", failed: "failed"} as $state
    | {member: "active", "global-spare": "spare", "dedicated-spare": "spare", unused: ""} as $role
    | {online: "", failed: " failed", stale: " failed", missing: " failed"} as $disk
    | .sets[] | select(.format == "imsm")
    | (.volumes[] | "volume \(.name): \(.level | ascii_upcase) [\([.members[] | if .state == "in-sync" then "U" else "_" end] | join(""))] \(.size_sectors) sectors, \($state[.state]), \(.task.kind // "idle"), \(.consistency)"),
      (.disks[] | select(.state != "stale" or .role == "member") | "disk \(.label | sub("(:0)+$"; "")): \($role[.role])\($disk[.state])")' | sort
}

# The set's identifier, as EMD gives it.
emd_set() { emdadm show --json | jq -r '[.sets[] | select(.format == "imsm").id][0]'; }
