# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Disks that take data and not metadata. One that can be done without is failed; one that cannot is written again and waited for, stays, and catches up; when no disk takes
# metadata, writes wait, and everything else comes to an end: what is asked is refused, what is stopped stops. Nothing that was acknowledged is lost, and people are told.
# cpus: 1
# emd: manual
# timeout: 120

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh

KIB=40960 # of each disk

# fix_metadata MEMBER_KIB: what lies beside the member is what may refuse to be written (see `refuses`).
fix_metadata() {
  local slot disk first sectors=$(($1 * 2))
  for slot in 0 1 2; do
    disk=$(emd_member_device emd0 $slot)
    first=$(emd_get emd0 ".members[$slot].offset_sectors")
    {
      head -c "$first" /dev/zero | tr '\0' x
      head -c $sectors /dev/zero
      head -c $((KIB * 2 - first - sectors)) /dev/zero | tr '\0' x
    } | dd of="/run/${disk#/dev/}/fixed" conv=notrunc bs=64k iflag=fullblock status=none
  done
}

# refuses DISK COUNT: so many writes of metadata from now on. 255: all; 0: none any more.
refuses() { printf '%b' "\\x$(printf %x "$2")" 1<>"/run/${1#/dev/}/refusals"; }

# all_refuse 0|1: all disks at the same time. One after the other, a record could come in between, and call those lost that still refuse.
all_refuse() { printf '%b' "\\x0$1" 1<>/run/refused; }

# left DISK: refusals that are left.
left() { printf '%d\n' "'$(LC_ALL=C head -c 1 "/run/${1#/dev/}/refusals")"; }

# written SEED: 64 KiB at another place each time, on disk when this returns; what the whole of it has to be is in /run/wanted.
written() {
  known "$1" 65536 >/run/new
  dd if=/run/new of=/run/wanted bs=64k seek="$1" conv=notrunc status=none
  expect "a write is acknowledged" dd if=/run/new of=/dev/emd0 bs=64k seek="$1" oflag=direct conv=notrunc status=none
}

right() { expect "all that was acknowledged is there" cmp <(dd if=/dev/emd0 bs=256k iflag=direct status=none) /run/wanted; }

# complaints DISK: how often it was told that it does not take its metadata.
complaints() {
  local line count=0
  while read -r line; do
    [[ $line != *"\"$1\""* ]] || count=$((count + 1))
  done < <(events metadata-error)
  echo $count
}

# on_disk DISK FILTER: what its metadata says, alone: jq's FILTER of the set.
on_disk() { emdadm examine --json "/run/${1#/dev/}/data" | jq -r ".sets[0] | $2"; }

# calls_lost FORMAT DISK: the member in slot 1, which is not looked at.
calls_lost() {
  case $1 in
  md*) mdadm -E "$2" | grep -q 'Array State : A\.A ' ;;
  *) [[ $(on_disk "$2" '.volumes[0].members[1].state') == failed ]] ;;
  esac
}

told() { happened "$1" && [[ $(events "$1") == *"$2"* ]]; }

boot_1() {
  make_disks $KIB 3
  emd_load start_timeout_ms=500
  only_one_is_told
  takes_no_log
  flushed_once
  takes_no_metadata ddf
  ! whole || takes_no_metadata md-1.2
}

# What a plan has for one disk only does not come to it: the others go on. A spare of md's is such a disk when it is taken out.
only_one_is_told() {
  local a=/dev/nbd0 b=/dev/nbd1 c=/dev/nbd2
  step "md-1.2: a spare that takes no metadata is taken out"
  expect "created" emdadm create -e md-1.2 -l raid1 -n data --size 4M --assume-clean $a $b
  wait_for 10 emd_runs emd0
  expect "a spare" emdadm add emd0 $c
  fill /dev/emd0 1 >/run/sum
  dd if=/dev/emd0 of=/run/wanted bs=256k iflag=direct status=none
  wait_for 10 emd_is_clean emd0
  head -c $((KIB * 2)) /dev/zero | tr '\0' x | dd of="/run/nbd2/fixed" conv=notrunc bs=64k iflag=fullblock status=none
  refuses $c 255
  expect "it is taken out" emdadm remove emd0 $c
  wait_for 10 told metadata-error "\"$c\""
  written 1
  wait_for 10 emd_is_clean emd0
  expect_equal "nobody else is lost" "$(emd_state emd0): $(emd_members emd0)" "optimal: in-sync in-sync"
  right
  refuses $c 0
  expect "deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')"
  # Its superblock could not be erased.
  dd if=/dev/zero of=$c bs=64k count=1 oflag=direct status=none
}

# A disk that takes no writes any more is found at a clean start by its log, which is to be emptied: where redundancy bears it, that is a loss like any other.
takes_no_log() {
  local a=/dev/nbd0 b=/dev/nbd1 c=/dev/nbd2
  step "md-1.2: a member does not take that its log is empty"
  expect "created" emdadm create -e md-1.2 -l raid5 -n data --chunk 16K --size 4M --assume-clean --log $a $b $c
  wait_for 10 emd_runs emd0
  fill /dev/emd0 1 >/run/sum
  dd if=/dev/emd0 of=/run/wanted bs=256k iflag=direct status=none
  wait_for 10 emd_is_clean emd0
  expect "stopped" emdadm stop --all
  expect "unloaded" rmmod emd
  refuses_all $b
  emd_load start_timeout_ms=500
  wait_for 10 emd_runs emd0
  expect_equal "it is started without that one" "$(emd_state emd0): $(emd_members emd0)" "degraded: in-sync failed in-sync"
  right
  written 1
  refuses $b 0
  reloaded
  expect "deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')"
  # Of the set it was none any more, perhaps, and kept its superblock.
  dd if=/dev/zero of=$b bs=64k count=1 oflag=direct status=none
}

# A disk tells of what its cache lost once, to the set perhaps, when a mark is recorded: the next one who asks hears of it all the same.
flushed_once() {
  local a=/dev/nbd0 b=/dev/nbd1
  step "a mirror's last member, told to flush by the set, does not"
  expect "created" emdadm create -e md-1.2 -l raid1 -n data --size 4M --assume-clean $a $b
  wait_for 10 emd_runs emd0
  expect "one is failed" emdadm fail emd0 $b
  wait_for 10 emd_is_clean emd0
  : >/run/wanted
  not_flushed $a 1
  written 1
  expect_equal "the set was told, with the mark" "$(not_flushed $a)" 0
  hears_once
  wait_for 10 emd_is_clean emd0
  expect "stopped" emdadm stop --all
  expect "unloaded" rmmod emd
  modprobe emd clean_ms=3000 start_timeout_ms=500
  wait_for 10 emd_runs emd0
  written 2
  not_flushed $a 1
  wait_for 20 emd_is_clean emd0
  expect_equal "the set was told, as it called the array clean" "$(not_flushed $a)" 0
  expect_equal "it stays" "$(emd_state emd0) $(emd_member_device emd0 0)" "degraded $a"
  hears_once
  expect "deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')"
  rmmod emd
  dd if=/dev/zero of=$b bs=64k count=1 oflag=direct status=none
  emd_load start_timeout_ms=500
}

# not_flushed DISK [COUNT]: so many flushes are refused from now on; or how many are left.
not_flushed() {
  local left=/run/${1#/dev/}/unflushed
  if (($# > 1)); then printf '%b' "\\x$(printf %x "$2")" 1<>"$left"; else printf '%d\n' "'$(LC_ALL=C head -c 1 "$left")"; fi
}

flushed() { dd if=/dev/null of=/dev/emd0 conv=fsync,notrunc status=none; }

hears_once() {
  expect_failure "who flushes then is told" flushed
  expect "once" flushed
}

takes_no_metadata() { # FORMAT
  local format=$1 a=/dev/nbd0 b=/dev/nbd1 c=/dev/nbd2 before writer
  step "$format: one of three does not take metadata"
  expect "created" emdadm create -e "$format" -l raid5 -n data --chunk 16K --size 4M --assume-clean $a $b $c
  wait_for 10 emd_runs emd0
  fix_metadata 2048
  fill /dev/emd0 1 >/run/sum
  dd if=/dev/emd0 of=/run/wanted bs=256k iflag=direct status=none
  wait_for 10 emd_is_clean emd0
  refuses $b 255
  written 1
  wait_for 10 emd_is emd0 degraded
  expect_equal "it is failed" "$(emd_members emd0)" "in-sync failed in-sync"
  wait_for 10 told metadata-error "\"$b\""
  wait_for 10 happened member-failed
  right
  wait_for 10 emd_is_clean emd0
  for disk in $a $c; do expect "$disk says so" calls_lost "$format" "$disk"; done

  step "$format: one that cannot be done without does not at first"
  before=$(complaints $c)
  refuses $c 2
  written 2
  expect_equal "it was written again until it did" "$(left $c)" 0
  wait_for 10 emd_is_clean emd0
  (($(complaints $c) > before)) || fail "it is not told"
  expect_equal "it stays" "$(emd_members emd0)" "in-sync failed in-sync"
  right

  step "$format: it does not at all, for a while"
  refuses $c 255
  written 3
  right
  wait_for 10 emd_is_clean emd0
  written 4
  right
  expect_equal "it stays" "$(emd_state emd0): $(emd_members emd0)" "degraded: in-sync failed in-sync"
  wait_for 10 emd_is_clean emd0
  refuses "$c" 0
  written 5
  wait_for 10 emd_is_clean emd0
  expect_equal "both are of one generation" "$(on_disk $a .generation)" "$(on_disk $c .generation)"
  reloaded

  step "$format: it does not, and the array is stopped"
  refuses $c 255
  written 6
  wait_for 10 emd_is_clean emd0
  written 7
  reloaded
  refuses "$c" 0
  comes_back_too_early "$format" "$a" "$b" "$c"

  step "$format: the failed one is replaced by itself"
  refuses "$b" 0
  expect "added" emdadm add emd0 $b
  wait_for 30 emd_settled emd0
  right

  step "$format: a change that none of them takes"
  wait_for 10 emd_is_clean emd0
  all_refuse 1
  refused EIO "written to no disk" "a new name" rename emd0 other
  expect_equal "in memory it is called so" "$(emd_get emd0 .name)" other
  expect "that is told" told volume-renamed '"other"'
  expect_equal "nobody is failed for it" "$(emd_members emd0)" "in-sync in-sync in-sync"
  all_refuse 0
  expect_equal "on disk it is not" "$(on_disk $a '.volumes[0].name')" data
  written 12
  wait_for 10 emd_is_clean emd0
  for disk in "$a" "$b" "$c"; do expect_equal "what is recorded next has it: $disk" "$(on_disk "$disk" '.volumes[0].name')" other; done

  step "$format: none of them takes that a disk is taken out"
  expect "failed" emdadm fail emd0 "$b"
  wait_for 10 emd_is_clean emd0
  all_refuse 1
  refused EIO "written to no disk" "it is taken out" remove emd0 "$b"
  expect_equal "nobody is failed for it" "$(emd_members emd0)" "in-sync missing in-sync"
  expect "that is told" told disk-removed "\"$b\""
  refused EBUSY "" "until that is written it stays claimed" create -e "$format" -l raid0 -n other "$b"
  all_refuse 0
  written 13
  right
  wait_for 20 emdadm add emd0 "$b"
  wait_for 30 emd_settled emd0
  right

  step "$format: none of them takes metadata"
  all_refuse 1
  known 8 65536 >/run/new
  dd if=/run/new of=/run/wanted bs=64k seek=8 conv=notrunc status=none
  dd if=/run/new of=/dev/emd0 bs=64k seek=8 oflag=direct conv=notrunc status=none &
  writer=$!
  wait_for 10 told metadata-error "writes have to wait"
  expect "reads go on" dd if=/dev/emd0 of=/dev/null bs=64k count=4 iflag=direct status=none
  refused EIO "written to no disk" "a member is to be failed" fail emd0 $a
  refused EBUSY "in use" "it is to be stopped" stop emd0
  expect_failure "the module stays" rmmod emd
  kill -0 $writer || fail "the write did not wait"
  expect_equal "nobody is failed for it" "$(emd_members emd0)" "in-sync in-sync in-sync"
  all_refuse 0
  wait $writer || fail "the write failed"
  say "ok: the write was acknowledged"
  right
  wait_for 10 emd_settled emd0

  step "$format: none takes that the last volume is deleted"
  all_refuse 1
  refused EIO "written to no disk" "it is to be deleted" delete --force emd0
  all_refuse 0
  # The set was let go of, and is what its disks say.
  expect "a scan" emdadm scan
  wait_for 10 emd_runs emd0
  wait_for 10 emd_settled emd0
  right

  # What becomes of it has nothing to do with the format.
  if [[ $format == ddf ]]; then gives_up "$format" "$a" "$b" "$c"; fi

  step "$format: none takes that it is clean"
  expect "stopped" emdadm stop --all
  expect "unloaded" rmmod emd
  # It is dirty until it is stopped.
  modprobe emd clean_ms=60000 start_timeout_ms=500
  wait_for 10 emd_runs emd0
  written 9
  all_refuse 1
  expect "stopped" emdadm stop emd0
  wait_for 10 told metadata-error "stays marked as dirty"
  expect "unloaded" rmmod emd
  all_refuse 0
  emd_load start_timeout_ms=500
  wait_for 10 emd_runs emd0
  wait_for 10 happened task-started
  wait_for 30 emd_settled emd0
  right
  expect "deleted" emdadm delete --force "$(emdadm show --json | jq -r '.sets[0].id')"
}

# comes_back_too_early FORMAT A B C: a disk that the set is without cannot come back while that cannot be recorded. (It is let go then, which lockdep looks at.)
comes_back_too_early() {
  local format=$1 a=$2 b=$3 c=$4 writer
  step "$format: one is to come back while none takes metadata"
  expect "stopped" emdadm stop emd0
  expect "unloaded" rmmod emd
  emd_load auto=0
  expect "scanned without it" emdadm scan --degraded "$a" "$c"
  wait_for 10 emd_runs emd0
  all_refuse 1
  again 7 &
  writer=$!
  wait_for 10 told metadata-error "writes have to wait"
  refused EIO "written to no disk" "it is to come back" add emd0 "$b"
  all_refuse 0
  wait $writer || fail "the write failed"
  reloaded
}

# gives_up FORMAT A B C: more is lost than redundancy bears, and no disk takes metadata. What waits for it fails: nobody will record the first loss, and no data comes of waiting.
gives_up() {
  local format=$1 a=$2 b=$3 c=$4 first second
  step "$format: more is lost than it bears, and none of them takes metadata"
  expect "stopped" emdadm stop --all
  expect "unloaded" rmmod emd
  # It is dirty until it is stopped.
  modprobe emd clean_ms=60000 start_timeout_ms=500
  wait_for 10 emd_runs emd0
  fix_metadata 2048
  written 9
  written 10
  all_refuse 1
  refuses_all "$b"
  # (What fails there, as it should, is no failure of the test.)
  { again 9 || exit 1; } &
  first=$!
  wait_for 10 told metadata-error "writes have to wait"
  refused EIO "written to no disk" "a failed member is to be taken out" remove emd0 "$b"
  kill -0 $first || fail "the write did not wait"
  refuses_all "$c"
  { again 10 || exit 1; } &
  second=$!
  wait $second && fail "a write without two members is acknowledged"
  wait $first && fail "a write whose loss is not recorded is acknowledged"
  expect_equal "it is given up" "$(emd_state emd0)" failed
  again 11 && fail "a write of a failed array is acknowledged"
  expect "stopped" emdadm stop emd0
  all_refuse 0
  refuses "$b" 0
  refuses "$c" 0
  expect "unloaded" rmmod emd
  emd_load start_timeout_ms=500
  run emdadm scan --degraded --force
  wait_for 10 emd_runs emd0
  wait_for 30 emd_settled emd0
  right
  fix_metadata 2048
}

# again SEED: what is there already is written once more.
again() { dd if=/run/wanted of=/dev/emd0 bs=64k skip="$1" seek="$1" count=1 oflag=direct conv=notrunc status=none; }

# refuses_all DISK: every write.
refuses_all() {
  head -c $((KIB * 2)) /dev/zero | tr '\0' x | dd of="/run/${1#/dev/}/fixed" conv=notrunc bs=64k iflag=fullblock status=none
  refuses "$1" 255
}

# After a restart it runs as before.
reloaded() {
  emd_reload start_timeout_ms=500
  wait_for 10 emd_runs emd0
  expect_equal "after a restart" "$(emd_state emd0)" degraded
  right
}
