# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What cannot be done is refused with errno and reason, and nothing is written to any disk.
# disks: 5x64M virtio, 1x512K virtio, 1x20M virtio
# cpus: 1
# emd: manual
# timeout: 90

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh

# Levels with members; disks, volumes, bytes of names, spans; smallest, largest and usual chunk in sectors; what there is a place for.
FORMATS="ddf: concat 1-64, raid0 1-64, raid1 2-64, raid10 4-64, raid1e 3-64, raid4 3-64, raid5 3-64, raid6 4-64; 256 128 16 16; 1 131072 128; global dedicated checkpoints rebuild-checkpoints regions bad-ranges log raid4 raid5 raid6
asr: raid0 2-40, raid1 2-2, raid10 4-40; 40 20 16 1; 8 2048 128; global dedicated checkpoints rebuild-checkpoints
imsm: raid0 2-16, raid1 2-2, raid10 4-16, raid5 3-16; 255 2 16 1; 8 2048 256; global checkpoints rebuild-checkpoints bad-ranges log raid5
md-1.2: concat 1-64, raid0 1-64, raid1 2-64, raid10 2-64, raid4 3-64, raid5 3-64, raid6 4-64; 256 1 32 1; 8 1048576 1024; global dedicated checkpoints rebuild-checkpoints regions bad-ranges log raid5
md-1.1: concat 1-64, raid0 1-64, raid1 2-64, raid10 2-64, raid4 3-64, raid5 3-64, raid6 4-64; 256 1 32 1; 8 1048576 1024; global dedicated checkpoints rebuild-checkpoints regions bad-ranges log raid5
md-1.0: concat 1-64, raid0 1-64, raid1 2-64, raid10 2-64, raid4 3-64, raid5 3-64, raid6 4-64; 256 1 32 1; 8 1048576 1024; global dedicated checkpoints rebuild-checkpoints regions bad-ranges log raid5
md-0.90: concat 1-27, raid0 1-27, raid1 2-27, raid10 2-27, raid4 3-27, raid5 3-27, raid6 4-27; 27 1 0 1; 8 1048576 1024; global dedicated checkpoints rebuild-checkpoints regions"

boot_1() {
  modprobe emd clean_ms=200
  local a b c d e tiny small all before state
  a=$(disk disk1) b=$(disk disk2) c=$(disk disk3) d=$(disk disk4) e=$(disk disk5)
  tiny=$(disk disk6) small=$(disk disk7)
  all=(disk1 disk2 disk3 disk4 disk5 disk6 disk7)

  step "what the formats can do"
  # By hand from docs/formats/: the SNIA's levels, Intel's and Adaptec's option ROMs, md.
  local formats text can line
  formats=$(emdadm formats --json)
  can=$(jq -r '.formats[] | .name + ": " + ([.levels[] | .level + " " + (.members_min | tostring) + "-" + (.members_max | tostring)]
    | unique | join(", ")) + "; " + ([.disks_max, .volumes_max, .name_bytes_max, .spans_max] | map(tostring) | join(" "))
    + "; " + ([.chunk_sectors_min, .chunk_sectors_max, .chunk_sectors_default] | map(tostring) | join(" "))
    + "; " + ([if .spares_global then "global" else empty end, if .spares_dedicated then "dedicated" else empty end,
        if .checkpoints then "checkpoints" else empty end, if .rebuild_checkpoints then "rebuild-checkpoints" else empty end,
        if .region_log then "regions" else empty end, if .bad_ranges then "bad-ranges" else empty end, if .hole_log then "log" else empty end,
        ([.levels[] | select(.hole_log) | .level] | unique[])] | join(" "))' <<<"$formats")
  # Others may come.
  while read -r line; do
    expect_equal "${line%%:*}: levels, members, disks, volumes, names, spans, chunks, and what there is a place for" "$(grep "^${line%%:*}:" <<<"$can")" "$line"
  done <<<"$FORMATS"
  expect_equal "usual layouts of RAID 5" \
    "$(jq -r --arg known "$(cut -d : -f 1 <<<"$FORMATS" | xargs)" '[.formats[] | select(.name | IN($known | split(" ")[])).levels[] | select(.level == "raid5" and .usual).layout] | join(" ")' <<<"$formats")" \
    "left-symmetric left-asymmetric left-symmetric left-symmetric left-symmetric left-symmetric"
  text=$(emdadm formats)
  expect_equal "people are shown each format" "$(grep -oE '^[a-z][^ ]+' <<<"$text" | xargs)" "$(jq -r '[.formats[].name] | join(" ")' <<<"$formats")"
  expect_equal "for which levels there is a log" "$(sed -n 's/.*write-hole log: \(.*\); spans.*/\1/p' <<<"$text" | xargs -d '\n')" \
    "$(jq -r '[.formats[] | [.levels[] | select(.hole_log).level] | unique | join(", ") | if . == "" then "no" else . end] | join(" ")' <<<"$formats")"
  expect_equal "and each level and layout" "$(grep -cE '^ +(raid|concat)' <<<"$text")" "$(jq '[.formats[].levels[]] | length' <<<"$formats")"

  step "new sets"
  mkfs.ext4 -q "$e"
  before=$(host contents "${all[@]}")
  local new=(create --format ddf --name v)
  refused EINVAL "needs 3 to" "RAID5 of two disks" "${new[@]}" --level raid5 "$a" "$b"
  refused EINVAL "needs 2 to" "RAID1 of one disk" "${new[@]}" --level raid1 "$a"
  refused EINVAL "chunk" "a chunk that is no power of two" "${new[@]}" --level raid5 --chunk 48K "$a" "$b" "$c"
  refused EINVAL "chunk" "a chunk that is too large" "${new[@]}" --level raid5 --chunk 512M "$a" "$b" "$c"
  refused EINVAL "layout" "a layout of another level" "${new[@]}" --level raid5 --layout near=2 "$a" "$b" "$c"
  refused EOPNOTSUPP "knows raid0, raid1, raid10, raid5" "a level that the format does not have" create --format imsm --level raid6 --name v "$a" "$b" "$c" "$d"
  refused EOPNOTSUPP "imsm does not know raid6; it knows raid0, raid1, raid10, raid5" "a level by its number" create --format imsm --level 6 "$a" "$b" "$c" "$d"
  refused EOPNOTSUPP "imsm does not know concat" "md's name of a level" create --format imsm --level linear "$a" "$b"
  refused EINVAL "spans" "two levels by their number" create --format imsm --level 50 "$a" "$b" "$c"
  refused EINVAL "spans" "members that do not divide into spans" "${new[@]}" --level raid50 --spans 2 "$a" "$b" "$c"
  refused EOPNOTSUPP "imsm has no place for a log of the regions" "regions where the format keeps none" create --format imsm --level raid1 --name v --regions yes "$a" "$b"
  refused EOPNOTSUPP "asr has no place for a log of the regions" "regions where another keeps none" create --format asr --level raid1 --name v --regions yes "$a" "$b"
  refused EOPNOTSUPP "no redundancy" "regions without redundancy" "${new[@]}" --level raid0 --regions yes "$a" "$b"
  refused EOPNOTSUPP "always have a log of regions" "none where they are always kept" "${new[@]}" --level raid1 --regions no "$a" "$b"
  refused EOPNOTSUPP "no log for raid6 in md-1.2" "a log for a level that has none" create --format md-1.2 --level raid6 --name v --log "$a" "$b" "$c" "$d"
  refused EOPNOTSUPP "no log for raid5 in md-0.90" "a log where the format has none" create --format md-0.90 --level raid5 --log "$a" "$b" "$c"
  refused EOPNOTSUPP "no bitmap beside" "md's bitmap beside its log" create --format md-1.2 --level raid5 --name v --regions yes --log "$a" "$b" "$c"
  refused EINVAL "level" "a level that nobody has" "${new[@]}" --level raid77 "$a" "$b" "$c"
  refused EOPNOTSUPP "no format" "a format that nobody has" create --format vinum --level raid1 "$a" "$b"
  refused EINVAL "too small" "a disk below all limits" "${new[@]}" --level raid1 "$a" "$tiny"
  refused ENOSPC "small|room|fit" "a disk that metadata fills" "${new[@]}" --level raid1 "$a" "$small"
  refused EINVAL "twice" "a disk twice" "${new[@]}" --level raid1 "$a" "$a"
  refused EINVAL "twice|both" "a member that is a spare too" "${new[@]}" --level raid1 "$a" "$b" --spare "$a"
  refused EINVAL "at least|disk|member" "no disk at all" "${new[@]}" --level raid1 missing missing
  refused EINVAL "missing|members|lost" "less than holds the data" "${new[@]}" --level raid5 "$a" missing missing
  refused ENOSPC "at most" "more than fits" "${new[@]}" --level raid1 --size 10G "$a" "$b"
  refused EINVAL "name" "a name that is too long" create --format ddf --level raid1 --name "$(printf 'x%.0s' {1..30})" "$a" "$b"
  refused EINVAL "name" "a name with control characters" create --format ddf --level raid1 --name $'a\nb' "$a" "$b"
  refused EEXIST "ext.*force" "a file system, not mounted" "${new[@]}" --level raid1 "$a" "$e"
  expect_failure "a device that is none" emdadm "${new[@]}" --level raid1 "$a" /dev/nothing
  expect_failure "a plain file" emdadm "${new[@]}" --level raid1 "$a" /etc/passwd

  unchanged "nothing was written" "$before" "${all[@]}"
  expect_equal "there is no set" "$(emdadm list --json | jq '.sets | length')" 0

  step "disks that others use"
  modprobe -a dm_mod raid1
  before=$(host contents disk1 disk2 disk3 disk4)
  mount "$e" /mnt
  refused EBUSY "in use" "a mounted disk" "${new[@]}" --level raid1 "$a" "$e"
  refused EBUSY "in use" "a mounted disk by force" "${new[@]}" --level raid1 --force "$a" "$e"
  refused EBUSY "in use" "a mounted disk as spare" "${new[@]}" --level raid1 --force "$a" "$b" --spare "$e"
  umount /mnt
  dmsetup create other --table "0 4096 linear $e 0"
  refused EBUSY "in use" "a disk below device-mapper" "${new[@]}" --level raid1 --force "$a" "$e"
  dmsetup remove --retry other
  wipefs -aq "$e"
  sfdisk -q "$e" <<<'2048,'
  wait_for 5 test -b "${e}1"
  mkfs.ext4 -qF "${e}1"
  mount "${e}1" /mnt
  refused EBUSY "in use" "a disk with a mounted partition" "${new[@]}" --level raid1 --force "$a" "$e"
  umount /mnt
  refused EEXIST "partition table.*force" "a partition table" "${new[@]}" --level raid1 "$a" "$e"
  expect "e2fsck of the partition" e2fsck -fn "${e}1"
  wipefs -aq "${e}1"
  wipefs -aq "$e"
  unchanged "nothing was written" "$before" disk1 disk2 disk3 disk4

  step "a second volume, and another set"
  expect "a RAID5" emdadm create --format ddf --level raid5 --name data --size 24M --assume-clean "$a" "$b" "$c"
  wait_for 10 emd_settled emd0
  before=$(host contents "${all[@]}") state=$(emdadm show --json)
  refused EEXIST "name.*data|data.*name|exists|taken" "a name that is taken" \
    create --set emd0 --level raid1 --name data --size 1M "$a" "$b"
  refused ENOSPC "most|room|fit" "more than is left" create --set emd0 --level raid1 --name more --size 1G "$a" "$b"
  refused ENOENT "not part of the set|add it" "a disk that is not of the set" create --set emd0 --level raid1 --name more "$a" "$d"
  refused EINVAL "is of format ddf|no format|format" "another format" create --set emd0 --format imsm --level raid1 --name more "$a" "$b"
  refused EBUSY "in use" "a member of an array" "${new[@]}" --level raid1 "$a" "$d"
  refused EBUSY "in use" "a member of an array by force" "${new[@]}" --level raid1 --force "$a" "$d"
  refused EEXIST "member already" "adding a member" add emd0 "$a"
  refused EBUSY "in use|member" "a member as spare" spare emd0 "$a"
  refused EINVAL "is for an array|which array" "a dedicated spare for nothing" \
    spare --dedicated "$(jq -r '.sets[0].id' <<<"$state")" "$d"
  refused ENOENT "not part" "failing a stranger" fail emd0 "$d"
  refused ENOENT "not part" "removing a stranger" remove emd0 "$d"
  refused EBUSY "active member" "removing a member that works" remove emd0 "$a"
  refused ENOENT "no|not" "an array that is not there" stop emd77
  expect_failure "a set that is not there" emdadm delete 00000000-0000-0000-0000-000000000001
  refused EINVAL "name" "a new name that is too long" rename emd0 "$(printf 'x%.0s' {1..30})"
  # Nothing is written to it later, while it is mounted.
  mkfs.ext4 -qF -E lazy_itable_init=0,lazy_journal_init=0 "$d"
  before=$(host contents "${all[@]}")
  refused EEXIST "ext" "adding a disk with a file system" add emd0 "$d"
  mount "$d" /mnt
  before=$(host contents "${all[@]}")
  refused EBUSY "in use" "adding a mounted disk" add emd0 "$d"
  refused EBUSY "in use" "adding a mounted disk by force" add --force emd0 "$d"
  refused EBUSY "in use" "a mounted disk as spare" spare emd0 "$d"
  refused EBUSY "in use" "a mounted disk as spare by force" spare --force emd0 "$d"
  unchanged "nothing was written" "$before" "${all[@]}"
  umount /mnt
  wipefs -aq "$d"
  expect_equal "the set is as it was" "$(emdadm show --json)" "$state"

  step "arrays in use"
  mkfs.ext4 -qF /dev/emd0
  mount /dev/emd0 /mnt
  refused EBUSY "in use|mounted" "stopping a mounted array" stop emd0
  refused EBUSY "in use|mounted" "stopping all" stop --all
  refused EBUSY "in use|mounted" "deleting a mounted array" delete --force emd0
  refused EBUSY "in use|mounted" "deleting its set" delete --force "$(jq -r '.sets[0].id' <<<"$state")"
  echo works >/mnt/file
  umount /mnt
  refused EBUSY "ext|force" "deleting an array with a file system" delete emd0
  wait_for 10 emd_settled emd0

  step "the last redundancy"
  expect "the first may fail" emdadm fail emd0 "$a"
  wait_for 10 emd_is emd0 degraded
  wait_for 10 emd_is_clean emd0
  before=$(host contents "${all[@]}")
  refused EBUSY "would be lost" "failing the second" fail emd0 "$b"
  refused EBUSY "active member" "removing the second" remove emd0 "$b"
  refused EBUSY "would be lost" "removing the second by force" remove --force emd0 "$b"
  refused EALREADY "not count as working" "failing the first again" fail emd0 "$a"
  refused ENOSPC "small|fit|room" "a disk that is too small instead" add emd0 "$small"
  unchanged "nothing was written" "$before" "${all[@]}"
  mount /dev/emd0 /mnt
  expect_equal "the file" "$(</mnt/file)" works
  umount /mnt

  step "a set that is stopped"
  emdadm stop --all
  before=$(host contents "${all[@]}")
  refused EEXIST "ddf.*force" "its disks for another set" "${new[@]}" --level raid1 "$b" "$c"
  unchanged "nothing was written" "$before" "${all[@]}"
}
