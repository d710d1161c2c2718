# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Tasks: check and repair find every place that does not agree and put it right (RAID6 and three copies know which member is wrong);
# tasks are held, let go and cancelled, keep to limits and get their least beside users; a rebuild goes on from its checkpoint after a stop; after a power cut only what was being written is resynced.
# disks: 6x72M virtio
# cpus: 1
# emd: manual
# timeout: 360

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh

mismatches() { emd_get "$1" '.mismatches | length'; }

# What a repair wrote, place by place: slot and reason.
chosen() { emd_get "$1" '.mismatches | sort_by(.first_sector)[] | "\(.slot) \(.reason)"'; }

offset_of() { emd_get "$1" ".members[$2].offset_sectors"; }

# spoil NAME SLOT SECTOR: eight sectors of a member change behind the array's back.
spoil() {
  known 77 4096 | dd of="$(emd_member_device "$1" "$2")" bs=512 seek=$(($(offset_of "$1" "$2") + $3)) oflag=direct conv=notrunc status=none
}

# The array as a whole is read and compared with what was written.
right() { expect_equal "$1" "$(sum "/dev/$(emd_node "$2")")" "$3"; }

check_and_repair() {
  local sums disk
  step "check and repair: RAID5"
  expect "created" emdadm create -e ddf -l raid5 -n five --chunk 64K --size 32M --assume-clean --force "${DISKS[@]:0:4}"
  sums=$(fill "/dev/$(emd_node five)" 1)
  expect "a check" emdadm check --wait five
  expect_equal "nothing differs" "$(mismatches five)" 0
  # Stripe 10: its parity is in slot 4 - 1 - 10 % 4 (left-symmetric).
  spoil five 1 $((10 * 128 + 16))
  local code=0
  emdadm check --wait --check five >/run/said || code=$?
  expect_equal "a check that finds something, by its exit code" $code 3
  expect "and in words" grep -q "check done, [1-9][0-9]* sectors did not agree" /run/said
  expect_equal "one place differs" "$(mismatches five)" 1
  expect_equal "it is where it was spoilt" "$(emd_get five '.mismatches[0] | (.first_sector <= 1296 and .first_sector + .sectors > 1296)')" true
  right "RAID5 cannot know that it was the parity; it was" five "$sums"
  expect "the place is listed for people" emdadm show --mismatches five
  emdadm show --mismatches five >/run/said
  expect "with nothing written" grep -qE '^ +[0-9]+ +[0-9]+ +- +- *$' /run/said
  expect "a repair" emdadm repair --wait five
  expect_equal "it says what it chose, and why" "$(chosen five)" "1 parity-rewritten"
  emdadm show --mismatches five >/run/said
  expect "and to people" grep -qE '^ +[0-9]+ +[0-9]+ +slot 1 +parity-rewritten *$' /run/said
  expect "a check, by its exit code" emdadm check --wait --check five
  expect_equal "nothing differs any more" "$(mismatches five)" 0
  right "the data" five "$sums"
  emdadm show --mismatches five >/run/said
  expect "to people too" grep -q "no place is known that does not agree" /run/said
  expect "deleted" emdadm delete --force five

  step "check and repair: RAID6 knows which member is wrong"
  expect "created" emdadm create -e ddf -l raid6 -n six --chunk 16K --size 24M --assume-clean --force "${DISKS[@]:0:5}"
  sums=$(fill "/dev/$(emd_node six)" 2)
  for slot in 0 1 2 3 4; do spoil six $slot $((slot * 320 + 8)); done
  expect "a check" emdadm check --wait six
  expect_equal "five places" "$(mismatches six)" 5
  expect "a repair" emdadm repair --wait six
  # Two of them hold parity there.
  chosen six >/run/chosen
  expect_equal "it names each member that was spoilt" "$(cut -d ' ' -f 1 /run/chosen | xargs)" "0 1 2 3 4"
  expect_equal "it says why" "$(cut -d ' ' -f 2 /run/chosen | sort -u | xargs)" "parity-rewritten syndromes-named-it"
  expect "a check" emdadm check --wait six
  expect_equal "nothing differs any more" "$(mismatches six)" 0
  right "the data, whichever member was spoilt" six "$sums"
  # Two members in different sectors of one stripe, of slots 0 to 4 in turn.
  for stripe in 20 21 22 23 24; do
    spoil six $((stripe % 5)) $((stripe * 32 + 8))
    spoil six $(((stripe + 1) % 5)) $((stripe * 32 + 24))
  done
  expect "a repair" emdadm repair --wait six
  expect_equal "it names both in each stripe, and where" "$(emd_get six '.mismatches | sort_by(.first_sector)[] | "\(.first_sector) \(.slot)"' | xargs)" \
    "648 0 664 1 680 1 696 2 712 2 728 3 744 3 760 4 776 4 792 0"
  expect "a check" emdadm check --wait six
  expect_equal "nothing differs any more" "$(mismatches six)" 0
  right "the data, though no one member explains a stripe" six "$sums"
  expect "deleted" emdadm delete --force six

  step "check and repair: three copies vote"
  expect "created" emdadm create -e ddf -l raid1 -n three --size 24M --assume-clean --force "${DISKS[@]:0:3}"
  sums=$(fill "/dev/$(emd_node three)" 3)
  for slot in 0 1 2; do spoil three $slot $((slot * 512)); done
  expect "a repair" emdadm repair --wait three
  expect_equal "three places, and no more" "$(mismatches three) $(emd_get three .mismatches_more)" "3 false"
  expect_equal "it says which copies lost the vote" "$(chosen three | xargs)" "0 outvoted 1 outvoted 2 outvoted"
  expect "a check" emdadm check --wait three
  expect_equal "nothing differs any more" "$(mismatches three)" 0
  right "the data, whichever copy was spoilt" three "$sums"
  spoil three 0 2048
  spoil three 1 $((2048 + 64))
  expect "a repair" emdadm repair --wait three
  expect_equal "each place is told of by itself" "$(emd_get three '.mismatches | sort_by(.first_sector)[] | "\(.first_sector) \(.sectors) \(.slot) \(.reason)"' | xargs)" \
    "2048 8 0 outvoted 2112 8 1 outvoted"
  expect "a check" emdadm check --wait three
  expect_equal "nothing differs any more" "$(mismatches three)" 0
  right "the data, though no two copies of a lane agreed" three "$sums"
  expect "deleted" emdadm delete --force three

  step "check and repair: RAID10"
  expect "created" emdadm create -e ddf -l raid10 -n ten --chunk 16K --size 32M --assume-clean --force "${DISKS[@]:0:4}"
  fill "/dev/$(emd_node ten)" 4 >/dev/null
  spoil ten 1 64
  spoil ten 3 960
  expect "a check" emdadm check --wait ten
  expect_equal "two places" "$(mismatches ten)" 2
  expect "a repair" emdadm repair --wait ten
  expect "a check" emdadm check --wait ten
  expect_equal "nothing differs any more" "$(mismatches ten)" 0
  expect "deleted" emdadm delete --force ten

  step "a check that finds more places than one answer has"
  for disk in "${DISKS[@]:0:2}"; do blkdiscard -f -z "$disk" 2>/dev/null; done
  expect "created" emdadm create -e ddf -l raid1 -n many --size 36M --assume-clean --force "${DISKS[@]:0:2}"
  # Every second lane of a copy, 270 of them.
  awk 'BEGIN { a = "a"; b = "b"; while (length(a) < 65536) { a = a a; b = b b }; for (i = 0; i < 270; i++) { printf "%s", a; printf "%s", b } }' | tr b '\0' |
    dd of="$(emd_member_device many 1)" bs=1M iflag=fullblock seek=$(($(offset_of many 1) * 512)) oflag=direct,seek_bytes conv=notrunc status=none
  emdadm check --wait many >/run/said
  expect "all are counted" grep -q "done, $((270 * 128)) sectors did not agree" /run/said
  expect_equal "who asks once has the first" "$(mismatches many)" 256
  expect_equal "all are listed" "$(emd_get many '"\(.mismatches | length) \(.mismatches[-1].first_sector) \(.mismatches_more)"')" "270 $((269 * 256)) false"
  expect "deleted" emdadm delete --force many

  step "a check that finds thousands of places, and a repair of them"
  local places=3072
  for disk in "${DISKS[@]:0:5}"; do blkdiscard -f -z "$disk" 2>/dev/null; done
  expect "created" emdadm create -e ddf -l raid6 -n many --chunk 4K --size 72M --assume-clean --force "${DISKS[@]:0:5}"
  sums=$(sum "/dev/$(emd_node many)")
  # Every second row of a member, which has data in it or a parity.
  awk -v places=$places 'BEGIN { a = "a"; b = "b"; while (length(a) < 4096) { a = a a; b = b b }; for (i = 0; i < places; i++) { printf "%s", a; printf "%s", b } }' | tr b '\0' |
    dd of="$(emd_member_device many 1)" bs=1M iflag=fullblock seek=$(($(offset_of many 1) * 512)) oflag=direct,seek_bytes conv=notrunc status=none
  emdadm check --wait many >/run/said
  expect "all are counted" grep -q "done, $((places * 8)) sectors did not agree" /run/said
  local each="[.mismatches[] | [.first_sector, .sectors]] == [range(0; $places) | [. * 16, 8]] and (.mismatches_more | not)"
  expect_equal "every place is listed" "$(emd_get many "$each")" true
  expect_equal "nothing was written" "$(emd_get many '[.mismatches[].slot] | unique == [null]')" true
  emdadm show --mismatches many >/run/said
  expect_equal "to people too" "$(awk '$2 == 8 && $1 == n * 16 { n++ } END { print n }' /run/said)" $places
  expect "a repair" emdadm repair --wait many
  expect_equal "it put every place right" "$(emd_get many "$each")" true
  expect_equal "it names the one member, everywhere" "$(emd_get many '[.mismatches[].slot] | unique == [1]')" true
  expect_equal "it says why, everywhere" "$(emd_get many '[.mismatches[].reason] | unique == ["parity-rewritten", "syndromes-named-it"]')" true
  right "the data" many "$sums"
  expect "a check" emdadm check --wait --check many
  expect_equal "nothing differs any more" "$(emd_get many '"\(.mismatches | length) \(.mismatches_more)"')" "0 false"
  expect "deleted" emdadm delete --force many
}

hold_and_limit() {
  step "tasks are limited, held, let go, cancelled"
  expect "created" emdadm create -e ddf -l raid1 -n one --size 36M --assume-clean --force "${DISKS[@]:0:2}"
  expect "a limit" emdadm limit --max 512K one
  expect "a check" emdadm check one
  wait_for 10 emd_task_is one running
  expect_failure "a second task is refused" emdadm repair one
  expect "held" emdadm pause one
  wait_for 10 emd_task_is one paused
  expect_equal "the limits in force: its own, and what is usual" "$(emd_get one '"\(.rate_min_kib_s) \(.rate_max_kib_s)"')" "1000 512"
  local before code=0
  sleep 0.3
  before=$(emd_done one)
  sleep 1
  expect_equal "it stands still" "$(emd_done one)" "$before"
  expect "let go" emdadm resume one
  wait_for 20 moved_on one "$before"
  # What people see while they wait: a bar on a terminal, a line elsewhere.
  TERM=linux script -qc "stty cols 80; emdadm wait --timeout 2 one" /run/terminal >/dev/null </dev/null || true
  tr '\r' '\n' </run/terminal >/run/lines
  expect "a bar on a terminal" grep -aqE 'emd[0-9]+ .*(█|░).* check [0-9]' /run/lines
  expect "monitor has one too" wait_for 10 monitor_has_bar
  expect_failure "and no line says what the bar shows" grep -aq task-progress /run/lines
  expect "elsewhere lines do" wait_for 10 monitor_tells_progress
  emdadm wait --timeout 1 one >/run/lines 2>/dev/null || code=$?
  expect_equal "time ran out" $code 5
  expect_equal "a line elsewhere" "$(head -n 1 /run/lines | cut -d : -f 2 | cut -c 1-6)" " check"
  expect "cancelled" emdadm cancel one
  wait_for 10 emd_has_task one null
  expect "no limit" emdadm limit one
  expect "a check, at full speed" emdadm check --wait one
  expect_failure "there is nothing to hold" emdadm pause one
  expect "deleted" emdadm delete --force one
}

# For wait_for: three seconds are not much for a program to start in. What it said is in /run/lines.
monitor_has_bar() {
  TERM=linux script -qc "stty cols 80; timeout 3 emdadm monitor" /run/terminal >/dev/null </dev/null || true
  tr '\r' '\n' </run/terminal >/run/lines
  grep -aqE 'emd[0-9]+ .*(█|░).* check [0-9]' /run/lines
}

monitor_tells_progress() {
  timeout 3 emdadm monitor >/run/lines || true
  grep -q task-progress /run/lines
}

# does ARRAY SECONDS: what its task does in so long, or a little longer: DID sectors in TOOK ms.
does() {
  local from began=${EPOCHREALTIME/./}
  from=$(emd_done "$1")
  sleep "$2"
  DID=$(($(emd_done "$1") - from)) TOOK=$(((${EPOCHREALTIME/./} - began) / 1000))
}

# keeps_to KIB TEXT: what it does in three seconds is not more than so much a second, but a quarter at least. It sends whole lanes, of 128 sectors, and what it had sent is
# counted when it is back: four of them beyond the limit say nothing. After a standstill it makes up for a second at most, which may be within the three: so there are two tries.
keeps_to() {
  once_in 2 keeps_within "$1" || fail "$2: it goes faster, or far slower"
  expect_equal "it still runs" "$(emd_task one)" check
  say "ok: $2"
}

keeps_within() {
  does one 3
  say "$DID sectors in $TOOK ms; $1 KiB/s are $(($1 * 2 * TOOK / 1000))"
  ((DID <= $1 * 2 * TOOK / 1000 + 4 * 128 && DID >= $1 * TOOK / 2000))
}

# tells_rate KIB: what people are told of a task that goes as fast as this limit: its rate, and how long it will still take, within a third. (Where this machine stood still it was slower.)
tells_rate() {
  local done_sectors total rate eta left
  read -r done_sectors total rate eta < <(emd_get one '.task | "\(.done_sectors) \(.total_sectors) \(.rate_kib_s) \(.eta_seconds)"')
  left=$(((total - done_sectors) / 2 / $1))
  say "$rate KiB/s, $eta s left of $left at $1 KiB/s"
  ((rate >= $1 / 2 && rate <= $1 + 76 && eta >= left * 2 / 3 && eta <= left * 3 / 2))
}

# checks_beside_users LEAST: what a check with such a least does in a second and a half. It may be through before.
checks_beside_users() {
  expect "a least: $1" emdadm limit --min "$1" --max 20M one
  expect "a check" emdadm check one
  wait_for 10 moved_on_or_over one
  does one 1.5
  ((DID >= 0)) || DID=$((DID + 36 * 2048))
  say "$DID sectors in $TOOK ms"
  emdadm cancel one >/dev/null || true
  wait_for 20 emd_has_task one null
}

# is_slowed_below LEAST_KIB: with next to nothing as its least it moves, but more slowly than two thirds of this. What it did is in SLOW.
is_slowed_below() {
  checks_beside_users 1K
  SLOW=$DID
  ((DID > 0 && DID < $1 * 4 * TOOK / 3000))
}

# gets_least LEAST_KIB: two thirds of it, and more than SLOW.
gets_least() {
  checks_beside_users "$1K"
  say "the least are $(($1 * 2 * TOOK / 1000))"
  ((DID >= $1 * 4 * TOOK / 3000 && DID > SLOW))
}

limits_are_kept() {
  local users node least before
  step "what a task does is what its limits say"
  expect "created" emdadm create -e ddf -l raid1 -n one --size 36M --assume-clean --force "${DISKS[@]:0:2}"
  expect "a limit" emdadm limit --max 1M one
  expect "a check" emdadm check one
  wait_for 10 moved_on one 0
  keeps_to 1024 "the limit of an array is kept"
  once_in 3 tells_rate 1024 || fail "rate and time left are told wrong"
  say "ok: its rate and the time left are told"
  expect "a limit of all" emdadm limit --max 2M
  keeps_to 1024 "it goes before that of all arrays"
  expect "no limit of its own" emdadm limit one
  keeps_to 2048 "the limit of all arrays is kept"
  expect "cancelled" emdadm cancel one
  wait_for 10 emd_has_task one null
  expect "no limit" emdadm limit

  step "beside users a task gets its least, and not much more"
  node=$(emd_node one)
  read -r before _ <"/sys/block/$node/stat"
  fio --name=users --filename="/dev/$node" --rw=randread --bs=4k --size=4M --direct=1 --ioengine=psync --thinktime=2000 --time_based --runtime=120 >/dev/null &
  users=$!
  wait_for 20 has_read "$node" $((before + 50))
  # Beside users a task does two lanes in 20 ms, which are 6400 KiB/s at most; at full speed far more than 20 MiB/s, were there no such limit. Its least is twice that; two thirds of it come only from the limit.
  least=$((12 << 10))
  # Users count as busy for 20 ms: each time that this machine stands still for longer the check goes as it likes for a while.
  once_in 3 is_slowed_below $least || fail "it stands still, or users are no hindrance"
  say "ok: users are a hindrance"
  once_in 3 gets_least $least || fail "it does not get its least"
  say "ok: it gets its least"
  kill "$users"
  wait "$users" || true
  expect "deleted" emdadm delete --force one
}

rebuild_comes_first() {
  step "a rebuild waits for no check, and for none that is held"
  expect "created" emdadm create -e ddf -l raid6 -n six --chunk 16K --size 24M --assume-clean --force "${DISKS[@]:0:4}"
  local sums
  sums=$(fill "/dev/$(emd_node six)" 6)
  expect "a member is failed" emdadm fail six "${DISKS[3]}"
  expect "a limit" emdadm limit --max 1M six
  expect "a check" emdadm check six
  wait_for 10 emd_task_is six running
  expect "held" emdadm pause six
  wait_for 10 emd_task_is six paused
  expect "a new disk" emdadm add six "${DISKS[4]}"
  wait_for 20 emd_has_task six rebuild
  wait_for 20 emd_task_is six running
  expect "no limit" emdadm limit six
  wait_for 60 emd_settled six

  step "a check that is held does not outlive the loss of a member"
  expect "a limit" emdadm limit --max 1M six
  expect "a check" emdadm check six
  expect "held" emdadm pause six
  expect "a member is failed" emdadm fail six "${DISKS[0]}"
  wait_for 20 emd_has_task six null
  expect "a check of what is left" emdadm check six
  wait_for 20 emd_task_is six running
  expect "a new disk, in the middle of the check" emdadm add six "${DISKS[5]}"
  wait_for 20 emd_has_task six rebuild
  expect "no limit" emdadm limit six
  wait_for 60 emd_settled six
  right "the data" six "$sums"
  expect "deleted" emdadm delete --force six
}

takes_turns() {
  local disk a=${DISKS[0]} b=${DISKS[1]}
  step "arrays on partitions of the same disks take turns"
  for disk in "$a" "$b"; do printf 'label: dos\nsize=32MiB\nsize=32MiB\n' | sfdisk -q --wipe always "$disk"; done
  expect "one" emdadm create -e md-1.2 -l raid1 -n left --size 24M --assume-clean --force "${a}1" "${b}1"
  expect "another" emdadm create -e md-1.2 -l raid1 -n right --size 24M --assume-clean --force "${a}2" "${b}2"
  local left right
  left=/dev/$(emd_node left) right=/dev/$(emd_node right)
  expect "a limit" emdadm limit --max 512K "$left"
  expect "a check" emdadm check "$left"
  wait_for 10 emd_task_is left running
  expect "a check of the other one" emdadm check "$right"
  sleep 1
  expect_equal "it waits" "$(emd_get right '"\(.task.kind) \(.task.state)"')" "check waiting"
  expect "a member of the other one is lost" emdadm fail "$right" "${b}2"
  expect "it is taken out" wait_for 10 emdadm remove "$right" "${b}2"
  expect "a limit" emdadm limit --max 512K "$right"
  expect "and put in again" emdadm add --force "$right" "${b}2"
  # A rebuild waits for no check.
  wait_for 20 emd_has_task right rebuild
  expect "the check that waits is cancelled, and not the rebuild" emdadm cancel "$right"
  expect "people are told" told_of_end "$right" check
  expect_failure "the rebuild cannot be" emdadm cancel "$right"
  expect "no limit" emdadm limit "$right"
  wait_for 20 emd_is right optimal
  expect "a check of it again" emdadm check "$right"
  sleep 1
  expect_equal "the check still waits" "$(emd_get right '"\(.task.kind) \(.task.state)"')" "check waiting"
  expect "it is held before it begins" emdadm pause "$right"
  expect "the first one is cancelled" emdadm cancel "$left"
  wait_for 10 emd_has_task left null
  sleep 1
  expect_equal "it is held" "$(emd_get right '"\(.task.kind) \(.task.state)"')" "check paused"
  expect "it goes on" emdadm resume "$right"
  wait_for 20 ended right

  step "who holds a check that waits holds no rebuild"
  expect "a check" emdadm check "$left"
  wait_for 10 emd_task_is left running
  expect "a check of the other one" emdadm check "$right"
  expect "it is held before it begins" emdadm pause "$right"
  expect "a member of the other one is lost" emdadm fail "$right" "${b}2"
  expect "it is taken out" wait_for 10 emdadm remove "$right" "${b}2"
  expect "and put in again" emdadm add --force "$right" "${b}2"
  wait_for 20 emd_is right optimal
  wait_for 10 emd_has_task right check
  expect_equal "the check is held" "$(emd_get right '"\(.task.kind) \(.task.state)"')" "check paused"
  expect "the check is cancelled" emdadm cancel "$right"
  expect "the first one is cancelled" emdadm cancel "$left"
  wait_for 10 emd_has_task left null
  wait_for 10 emd_has_task right null
  expect_failure "there is nothing to hold" emdadm pause "$right"
  expect "deleted" emdadm delete --force "$(emd_get left .id)"
  expect "deleted" emdadm delete --force "$(emd_get right .id)"
  for disk in "$a" "$b"; do sfdisk -q --delete "$disk"; done
}

has_read() {
  local reads
  read -r reads _ <"/sys/block/$1/stat"
  ((reads > $2))
}

makes_room() {
  local users node before set
  step "a task makes room for users of another array on the same disks"
  expect "one" emdadm create -e ddf -l raid1 -n used --size 4M --assume-clean --force "${DISKS[@]:0:2}"
  set=$(emdadm show --json | jq -r '.sets[] | select(.volumes[].name == "used").id')
  expect "another" emdadm create --set "$set" -l raid1 -n checked --size 28M --assume-clean "${DISKS[@]:0:2}"
  node=$(emd_node used)
  read -r before _ <"/sys/block/$node/stat"
  # Without a pause: where this machine stands still, what was in flight comes back first, and the task sees that there are users.
  fio --name=users --filename="/dev/$node" --rw=randread --bs=4k --size=4M --direct=1 --ioengine=libaio --iodepth=2 --time_based --runtime=120 >/dev/null &
  users=$!
  wait_for 20 has_read "$node" $((before + 50))
  once_in 3 takes_its_time || fail "it did not make room"
  say "ok: it made room"
  kill "$users"
  wait "$users" || true
  expect "deleted" emdadm delete --force "$set"
}

# 448 lanes, two of them in 20 ms; more each time that this machine stands still for longer.
takes_its_time() {
  local began=${EPOCHREALTIME/./} took
  expect "a check beside them" emdadm check --wait checked
  took=$(((${EPOCHREALTIME/./} - began) / 1000))
  say "it took $took ms"
  ((took >= 3000))
}

# told_of_end DEVICE WORD: a task of that kind of the array ended before it was done.
told_of_end() {
  emdadm monitor --json --from 0 --once | jq -es --arg a "$1" --arg w "$2" 'any(.[]; .kind == "task-stopped" and .array == $a and .text == $w)'
}

# ended NAME: a check of it was done, and nothing is to be done any more.
ended() { emd_has_task "$1" null && grep -q "$(emd_node "$1"): check is done" <<<"$(dmesg | tail -n 20)"; }

# How many rebuilds began since the machine did.
rebuilds() { dmesg | grep -c "emd[0-9]*: rebuild started" || true; }

both_are_rebuilt() { ask "$1" members && [[ $REPLY == *rebuilding*rebuilding* ]]; }

joins_in_the_middle() {
  local sums before mark
  step "a disk that is added in the middle of a rebuild joins it, and is caught up from the start"
  expect "created" emdadm create -e ddf -l raid6 -n late --chunk 16K --size 24M --assume-clean --force "${DISKS[@]:0:4}"
  sums=$(fill "/dev/$(emd_node late)" 8)
  before=$(rebuilds)
  # So slow that the other one comes in the middle, however long the program takes.
  expect "a limit" emdadm limit --max 512K late
  expect "a member is failed" emdadm fail late "${DISKS[2]}"
  expect "another one" emdadm fail late "${DISKS[3]}"
  expect "a new disk" emdadm add late "${DISKS[4]}"
  wait_for 20 emd_has_task late rebuild
  wait_for 60 moved_on late 4096
  mark=$(emd_done late)
  expect "another one" emdadm add late "${DISKS[5]}"
  wait_for 20 both_are_rebuilt late
  wait_for 20 began_again $((before + 2))
  wait_for 20 moved_on late $((mark - 1))
  right "the data, meanwhile" late "$sums"
  expect "no limit" emdadm limit late
  wait_for 60 emd_settled late
  expect_equal "alone, together, and the rest: three passes" "$(rebuilds)" $((before + 3))
  expect "a check" emdadm check --wait late
  expect_equal "nothing differs" "$(mismatches late)" 0
  expect "an old member is failed" emdadm fail late "${DISKS[0]}"
  expect "another one" emdadm fail late "${DISKS[1]}"
  right "the data, of the new ones" late "$sums"
  expect "deleted" emdadm delete --force late
}

# A sync in the middle gives way to a rebuild, also a held one, and goes on at its mark when that is through.
gives_way() {
  local sum mark
  step "a disk that is added in the middle of a sync is filled at once; the sync goes on at its mark afterwards"
  expect "created" emdadm create -e ddf -l raid1 -n three --size 24M --assume-clean --force "${DISKS[@]:0:3}"
  sum=$(fill "/dev/$(emd_node three)" 9)
  expect "a limit" emdadm limit --max 1M three
  expect "a resync of all of it" emdadm resync three
  wait_for 60 moved_on three 4096
  expect "held" emdadm pause three
  mark=$(emd_done three)
  # Who holds a task holds that one: the sync goes on with what is left, by itself.
  expect "a member is failed" emdadm fail three "${DISKS[2]}"
  expect "a new disk" emdadm add three "${DISKS[3]}"
  wait_for 20 emd_has_task three rebuild
  # Not so fast that what is left of the sync is over before it is looked at.
  expect "faster" emdadm limit --max 8M three
  wait_for 60 emd_has_task three initialise
  expect "it goes on" test "$(emd_done three)" -ge "$mark"
  expect "no limit" emdadm limit three
  wait_for 60 emd_settled three
  expect "a check" emdadm check --wait three
  expect_equal "nothing differs" "$(mismatches three)" 0
  right "the data" three "$sum"
  expect "deleted" emdadm delete --force three
}

began_again() { (($(rebuilds) >= $1)); }

moved_on() { emd_has_done "$1" $(($2 + 1)); }

moved_on_or_over() { moved_on "$1" 0 || emd_has_task "$1" null; }

checkpoint() {
  local mark
  step "a rebuild goes on from its checkpoint"
  expect "created" emdadm create -e ddf -l raid5 -n five --chunk 64K --size 32M --assume-clean --force "${DISKS[@]:0:3}"
  CHECKPOINT_SUM=$(fill "/dev/$(emd_node five)" 5)
  expect "slow" emdadm limit --max 2M five
  expect "a member is failed" emdadm fail five "${DISKS[1]}"
  expect "a new disk" emdadm add five "${DISKS[3]}"
  wait_for 20 emd_has_task five rebuild
  wait_for 30 moved_on five 8192
  expect "stopped in the middle" emdadm stop five
  expect "unloaded" rmmod emd
  # So slow from the start that it cannot be over before it is looked at.
  modprobe emd auto=0
  expect "slow" emdadm limit --max 256K
  expect "scanned" emdadm scan
  wait_for 20 emd_node five
  wait_for 20 emd_has_task five rebuild
  wait_for 20 moved_on five 0
  mark=$(emd_done five)
  ((mark >= 8192)) || fail "it starts anew: $mark sectors are done"
  say "ok: it goes on at $mark"
  expect "no limit" emdadm limit
  wait_for 60 emd_settled five
  right "the data" five "$CHECKPOINT_SUM"
  expect "a check" emdadm check --wait five
  expect_equal "nothing differs" "$(mismatches five)" 0

  step "so does a check; but not one that was cancelled"
  expect "slow" emdadm limit --max 2M five
  expect "a check" emdadm check five
  wait_for 30 moved_on five 4096
  expect "stopped in the middle" emdadm stop five
  expect "unloaded" rmmod emd
  modprobe emd auto=0
  expect "slow" emdadm limit --max 256K
  expect "scanned" emdadm scan
  wait_for 20 emd_has_task five check
  wait_for 20 moved_on five 0
  mark=$(emd_done five)
  ((mark >= 4096)) || fail "it starts anew: $mark sectors are done"
  say "ok: it goes on at $mark"
  expect "cancelled" emdadm cancel five
  wait_for 10 emd_has_task five null
  # shellcheck disable=SC2119
  emd_reload
  wait_for 20 emd_node five
  wait_for 20 emd_settled five
  expect_no_emd_task
  expect "deleted" emdadm delete --force five
}

boot_1() {
  local disk device
  modprobe emd clean_ms=200
  mapfile -t DISKS < <(disks)
  check_and_repair
  hold_and_limit
  limits_are_kept
  rebuild_comes_first
  takes_turns
  makes_room
  joins_in_the_middle
  gives_way
  checkpoint

  step "power is cut under writes in one region"
  rmmod emd
  # Zeroes agree.
  for disk in "${DISKS[@]:0:3}"; do blkdiscard -f -z "$disk" 2>/dev/null; done
  modprobe emd clean_ms=60000
  expect "created" emdadm create -e ddf -l raid5 -n regions --chunk 64K --size 72M --assume-clean --force "${DISKS[@]:0:3}"
  # A clean stop: nothing is marked any more.
  expect "stopped" emdadm stop regions
  expect "started" emdadm scan
  wait_for 20 emd_node regions
  # Both places do not agree now; the first is going to be written to.
  spoil regions 0 16
  spoil regions 0 60000
  # Nobody writes to this one: a person asks for all of it, and power is cut in the middle.
  expect "created" emdadm create -e ddf -l raid1 -n asked --size 36M --assume-clean --force "${DISKS[@]:3:2}"
  spoil asked 1 60000
  expect "a limit" emdadm limit --max 16K asked
  expect "a resync" emdadm resync asked
  wait_for 10 emd_task_is asked running
  expect_equal "its disks say so" "$(emdadm examine --json "${DISKS[@]:3:2}" | jq -r '.sets[].volumes[] | select(.name == "asked").consistency')" initialising
  # Until the cut, however slow the machine is: a region that nobody writes to for some seconds counts as clean again.
  device=/dev/$(emd_node regions)
  while :; do known 7 65536 | dd of="$device" bs=64k seek=8 oflag=direct conv=notrunc status=none; done &
  wait_for 10 emd_is_dirty regions
  host powercut
}

boot_2() {
  modprobe emd clean_ms=200
  wait_for 20 emd_node regions
  wait_for 60 emd_settled regions
  step "a resync that was asked for went over all of it"
  wait_for 60 emd_settled asked
  expect "a check" emdadm check --wait asked
  expect_equal "nothing differs any more" "$(mismatches asked)" 0
  step "only what was being written was resynced"
  expect "a check" emdadm check --wait regions
  expect_equal "one place still differs" "$(mismatches regions)" 1
  expect_equal "it is the one that nobody wrote to" "$(emd_get regions '.mismatches[0] | (.first_sector <= 60000 and .first_sector + .sectors > 60000)')" true
}
