# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A power cut leaves volumes dirty under EMD, and md resyncs what it must and nothing else; then another leaves them dirty under md, and EMD does.
# Volumes that nobody wrote to stay as they are, and with a bitmap all regions but the dirty one. Those that lack a member are started by either, with parity only by force.
# disks: 15x36M scsi, 2x101G scsi unplugged
# cpus: 1
# emd: manual
# timeout: 120

# shellcheck source=tests/guest/lib-imsm.sh
source /emd/tests/guest/lib-imsm.sh

# What a cut leaves behind when it comes between two writes, put in its place by hand: 4 KiB of other data in the redundancy (the last member of a row whose parity is there,
# or of a mirror). Who resyncs that place makes it right; who does not leaves it as it is. So it tells which places were resynced.

# Volumes: name, format, maker, first disk, disks, level, kind. Kinds: written when power goes; left alone; regions: written, and there is a bitmap;
# lost: written, and its second member is lost.
CASES=(
  "dw ddf mdadm 1 2 1 written"
  "dl ddf mdadm 1 2 1 left"
  "iw imsm emd 3 3 5 written"
  "il imsm emd 3 3 5 left"
  "mw 1.0 emd 9 2 1 written"
  "ma 1.2 mdadm 11 2 1 lost"
  "mp 1.2 emd 13 3 5 lost"
  # The last one: what is not written for some seconds is clean again.
  "mr 1.2 mdadm 6 3 5 regions"
)
# Further rounds on the same disks, of the whole run.
ROUND_2=(
  "dw ddf emd 1 3 5 written"
  "dl ddf emd 1 3 5 left"
  "iw imsm mdadm 4 2 1 written"
  "il imsm mdadm 4 2 1 left"
  "mr 1.0 mdadm 6 2 1 regions"
  "mw 0.90 mdadm 8 3 5 written"
  "mb 1.2 emd 16 2 1 regions"
)
ROUND_3=(
  "dw ddf mdadm 1 4 6 written"
  "dl ddf mdadm 1 4 4 left"
  "iw imsm emd 5 4 10 written"
  "il imsm emd 5 4 5 left"
  "mr 0.90 mdadm 9 2 1 regions"
)
ROUND_4=(
  "iw imsm mdadm 1 4 10 written"
  "il imsm mdadm 1 4 5 left"
  "mr 1.1 mdadm 5 4 10 regions"
  "mw 1.1 emd 9 2 1 written"
)
ROUND_5=(
  "dw ddf emd 1 4 10 written"
  "dl ddf emd 1 4 6 left"
  "mr 1.2 mdadm 5 3 4 regions"
  "mw 1.2 emd 8 3 5 written"
)

boot_1() { emd_leaves_dirt; }
boot_2() { md_resyncs_and_leaves_dirt; }
boot_3() { emd_resyncs_what_it_must; }
if whole; then
  boot_4() { CASES=("${ROUND_2[@]}") && emd_leaves_dirt; }
  boot_5() { CASES=("${ROUND_2[@]}") && md_resyncs_and_leaves_dirt; }
  boot_6() { CASES=("${ROUND_2[@]}") && emd_resyncs_what_it_must; }
  boot_7() { CASES=("${ROUND_3[@]}") && emd_leaves_dirt; }
  boot_8() { CASES=("${ROUND_3[@]}") && md_resyncs_and_leaves_dirt; }
  boot_9() { CASES=("${ROUND_3[@]}") && emd_resyncs_what_it_must; }
  boot_10() { CASES=("${ROUND_4[@]}") && emd_leaves_dirt; }
  boot_11() { CASES=("${ROUND_4[@]}") && md_resyncs_and_leaves_dirt; }
  boot_12() { CASES=("${ROUND_4[@]}") && emd_resyncs_what_it_must; }
  boot_13() { CASES=("${ROUND_5[@]}") && emd_leaves_dirt; }
  boot_14() { CASES=("${ROUND_5[@]}") && md_resyncs_and_leaves_dirt; }
  boot_15() { CASES=("${ROUND_5[@]}") && emd_resyncs_what_it_must; }
fi

emd_leaves_dirt() {
  step "made by mdadm or by EMD, and filled"
  local device
  for device in $(disks); do blkdiscard -f -z "$device" 2>/dev/null; done
  [[ ${CASES[*]} != *" 16 2 "* ]] || { plug disk16 && plug disk17; }
  md_load
  each md_makes
  md_stop
  emd_load
  each emd_makes
  each filled
  step "power is cut when EMD has just written to some"
  each wait_for 20 is_clean
  each loses_a_member
  emd_leaves
  # What was written stays dirty.
  modprobe emd clean_ms=3600000
  each emd_writes
  host powercut
}

md_resyncs_and_leaves_dirt() {
  [[ ${CASES[*]} != *" 16 2 "* ]] || { plug disk16 && plug disk17; }
  step "mdadm reads what is dirty, md resyncs that"
  md_load
  each is_recorded
  each damaged
  dmesg -C
  each md_assembles
  each wait_for 60 md_settled
  each resynced 2
  expect_equal "md has begun as many resyncs as there are dirty volumes with something to resync" \
    "$(dmesg | sed -n 's/.*resync of RAID array \(md[0-9]*\).*/\1/p' | { grep -vxF "$(each lost_node)" || true; } | wc -l)" "$(each has_to_agree | wc -l)"
  step "power is cut when md has just written to some"
  each md_writes
  host powercut
}

emd_resyncs_what_it_must() {
  [[ ${CASES[*]} != *" 16 2 "* ]] || { plug disk16 && plug disk17; }
  step "EMD resyncs what md left dirty"
  each is_recorded
  each damaged
  emd_load
  each emd_starts
  each wait_for 60 emd_is_done
  each emd_has_resynced
  each resynced 3
  emd_leaves
}

# each FUNCTION [ARGUMENT...]: for every volume, with its parts in these variables; MINE: its disks.
each() {
  local line name format maker first count level kind
  for line in "${CASES[@]}"; do
    read -r name format maker first count level kind <<<"$line"
    mapfile -t MINE < <(disks $(seq -f "disk%g" "$first" $((first + count - 1))))
    "$@"
  done
}

# What is left of a mirror of two, or of one parity, has nothing to agree with. (Those of md's that are started by force are clean.)
has_to_agree() { case $kind,$level in left,* | lost,[145]) ;; *) echo "$name" ;; esac; }

# md begins one for what is left of a mirror, and it ends at once.
lost_node() {
  local device
  [[ $kind == lost && -z $(has_to_agree) ]] || return 0
  device=$(md_device "$name") && echo "${device#/dev/}"
}

# Parity may be wrong where it was written, and a lost member's data follows from it: so nobody starts that by himself.
by_force() { [[ $kind == lost && $level == [45] ]]; }

own_set() { [[ $format == ddf || $format == imsm ]]; }

# It shares its disks with the one before.
another() { [[ $name == ?l ]]; }

chunk() { [[ $level == 1 ]] || echo "$1"; }

# --- Made, filled, written

md_makes() {
  [[ $maker == mdadm ]] || return 0
  if own_set; then
    another || expect "mdadm: a container" mdadm -CR "/dev/md/$format" -e "$format" -n "$count" "${MINE[@]}"
    # shellcheck disable=SC2046 # options
    expect "$name: mdadm: $format, level $level" mdadm -CR "/dev/md/$name" -l "$level" -n "$count" -z 2M --assume-clean $(chunk -c16) "/dev/md/$format"
  else
    local bitmap=(--bitmap=none)
    [[ $kind != regions ]] || bitmap=(--bitmap=internal --bitmap-chunk=512K)
    # shellcheck disable=SC2046 # options
    expect "$name: mdadm: $format, level $level" mdadm -CR "/dev/md/$name" -e "$format" -l "$level" -n "$count" -z 2M --assume-clean $(chunk -c16) "${bitmap[@]}" "${MINE[@]}"
  fi
}

emd_makes() {
  [[ $maker == emd ]] || return 0
  local where=(-e "$format") size=(--size "$((2 * (level == 5 ? count - 1 : level == 6 ? count - 2 : level == 10 ? count / 2 : 1)))M")
  own_set || where=(-e "md-$format")
  another && where=(--set "$(emdadm show --json | jq -r --arg disk "${MINE[0]}" '.sets[] | select(any(.disks[]; .device == $disk)).id')")
  # Its bitmap is for members that are large.
  [[ $kind != regions ]] || size=()
  # shellcheck disable=SC2046 # options
  expect "$name: EMD: $format, level $level" emdadm create "${where[@]}" -l "raid$level" -n "$name" "${size[@]}" --assume-clean $(chunk --chunk) $(chunk 16K) "${MINE[@]}"
}

# The first 4 MiB, if there are as many.
filled() {
  local node
  wait_for 20 its_array
  node=$(its_array)
  expect "$name: written" /emd/bin/pattern write "$node" 1 0 "$(kib "$node")"
}

kib() {
  local kib=$(($(blockdev --getsz "$1") / 2))
  echo $((kib < 4096 ? kib : 4096))
}

loses_a_member() {
  [[ $kind == lost ]] || return 0
  expect "$name loses a member" emdadm fail "$(its_array)" "${MINE[1]}"
  wait_for 20 emd_is_done degraded
}

is_clean() { [[ $(its .consistency) == clean ]]; }

emd_writes() {
  wait_for 20 its_array
  [[ $kind != left ]] || return 0
  expect "$name: written" /emd/bin/pattern write "$(its_array)" 2 0 64
  expect_equal "$name: is" "$(its .consistency)" dirty
}

md_writes() {
  [[ $kind != left ]] || return 0
  local folder
  folder=/sys/block/$(basename "$(md_device "$name")")/md
  # What is written stays dirty.
  echo 3600 >"$folder/safe_mode_delay"
  [[ $kind != regions ]] || echo 3600 >"$folder/bitmap/time_base"
  expect "$name: written" /emd/bin/pattern write "$(md_device "$name")" 3 0 64
}

# --- EMD's view

# What is ours of `show` or `examine`. (Names of md's own arrays have the machine in front, or there is none.)
# shellcheck disable=SC2016 # of jq
ITS='[.sets[].volumes[] | select((.name == $name or $md) and any(.members[]; .device == $disk))][0]'

picked() { jq -r --arg name "$name" --arg disk "${MINE[0]}" --argjson md "$(own_set && echo false || echo true)" "$ITS | $1"; }

# its FILTER: a field of the volume, as EMD has it.
its() { emdadm show --json | picked "$1"; }

# its_array: its device. Fails if it is not started.
its_array() {
  local device
  device=$(its '.device // empty')
  [[ -b $device ]] && echo "$device"
}

# its_record FILTER: a field, as it is on disks that nobody has started.
its_record() { emdadm examine --json "${MINE[@]}" | picked "$1"; }

emd_starts() {
  by_force || return 0
  wait_for 20 is_refused
  say "ok: $name: $(its .reason)"
  expect "$name: started by force" emdadm scan --force "${MINE[@]}"
}

is_refused() { [[ $(its .reason) == "degraded, and writes were in flight"* ]]; }

# emd_is_done [STATE]
emd_is_done() { [[ $(its '[.state, .consistency, .task.kind // "-"] | join(" ")') == "${1:-optimal} clean -" ]]; }

emd_has_resynced() {
  local array wanted="task-started resync, task-done"
  array=$(its_array)
  [[ $kind != left ]] || wanted=
  # Of those that lack a member md says that it was removed, not that it failed: so the disk is taken back.
  [[ $kind != lost ]] || wanted="task-started rebuild, task-done, $wanted"
  expect_equal "$name: what EMD did" "$(emdadm monitor --from 0 --once --json |
    jq -rs --arg a "$array" '[.[] | select((.array // "") == $a and (.kind | startswith("task-started") or startswith("task-done"))) | .kind + if .word then " " + .word else "" end] | join(", ")')" "$wanted"
}

# --- On disk

# is_recorded: EMD's reader and mdadm call just those dirty that were written.
is_recorded() {
  local wanted=dirty
  [[ $kind != left ]] || wanted=clean
  expect_equal "$name: emdadm examine, mdadm -E" "$(its_record .consistency) $(mdadm_word)" "$wanted $wanted"
  [[ $kind != regions ]] || expect_equal "$name: mdadm -X: dirty regions" "$(mdadm -X "${MINE[0]}" | sed -n 's/.*chunks), \([0-9]*\) dirty.*/\1/p')" 1
}

mdadm_word() {
  mdadm -E "${MINE[0]}" | awk -v name="$name" -v format="$format" '
    { text = $0; sub(/^[^:]*: */, "", text); sub(/ +$/, "", text) }
    format == "imsm" && /^\[.*\]:$/ { mine = $0 == "[" name "]:" }
    format == "imsm" && mine && / Dirty State :/ { print text }
    format == "ddf" && / state\[/ && !/ init state\[/ { state = text }
    format == "ddf" && / Name\[/ && text == name { print state ~ /Not Consistent/ ? "dirty" : "clean" }
    format ~ /^[01]/ && /^ *State :/ { print text == "active" ? "dirty" : text }'
}

# damaged: other data is put into the redundancy, near the start (where it was written) and near the end. Where that is, is in /run/spots.NAME.
damaged() {
  local device offset rows chunk
  read -r device offset chunk rows < <(its_record "\"\(.members[$count - 1] | \"\(.device) \(.offset_sectors)\") \(if .level == \"raid1\" then 8 else .chunk_sectors end) \(.member_sectors)\"")
  ((rows /= chunk))
  # In each level and layout here, the last member has no data but redundancy in row 0 and each count-th one after it.
  echo "$device $offset $((offset + (rows - 1) / count * count * chunk))" >"/run/spots.$name"
  known 9 4096 >/run/other
  # What is left of these has no redundancy.
  [[ $kind != lost || $level == 10 ]] || return 0
  [[ $kind == left ]] || spot 0 of=
  spot 1 of=
}

# spot NUMBER if=|of=: reads it to standard output, or writes it.
spot() {
  local device near far at
  read -r device near far <"/run/spots.$name"
  at=("$near" "$far")
  if [[ $2 == of= ]]; then
    dd if=/run/other of="$device" bs=512 seek="${at[$1]}" oflag=direct conv=notrunc status=none
  else
    dd if="$device" bs=512 skip="${at[$1]}" count=8 iflag=direct status=none
  fi
}

# untouched NUMBER: nobody has made it right.
untouched() { spot "$1" if= | cmp -s - /run/other; }

# resynced SEED: what must be was resynced, and nothing else; all that was written is there.
resynced() {
  local node
  case $kind in
  left) expect "$name: it was not resynced" untouched 1 ;;
  regions)
    expect_failure "$name: the region that was written was resynced" untouched 0
    expect "$name: no other region was" untouched 1
    ;;
  written | lost)
    if [[ -n $(has_to_agree) ]]; then
      expect_failure "$name: it was resynced at its start" untouched 0
      expect_failure "$name: and to its end" untouched 1
    fi
    ;;
  esac
  node=$(md_device "$name") || node=$(its_array)
  [[ $kind == left ]] || expect "$name: what was written last" /emd/bin/pattern verify "$node" "$1" 0 64
  # Not the end, where there was other data.
  expect "$name: the rest" /emd/bin/pattern verify "$node" 1 64 $(($(kib "$node") * 7 / 8 - 64))
}

# --- md

md_assembles() {
  if own_set; then
    another || md_tells "${MINE[@]}"
  else
    local holder force=()
    if by_force; then
      expect_failure "$name: md does not start it" mdadm -A --run "/dev/md/$name" "${MINE[@]}"
      for holder in "/sys/block/${MINE[0]#/dev/}/holders"/md*; do
        [[ ! -e $holder ]] || mdadm -S "/dev/${holder##*/}" 2>/dev/null
      done
      force=(--force)
    fi
    mdadm -A --run "${force[@]}" "/dev/md/$name" "${MINE[@]}" >/run/mdadm.out 2>&1 || fail "mdadm -A: $(</run/mdadm.out)"
  fi
}

# md_tells DISK...: as md_assemble does, beside others.
md_tells() {
  local device
  for device; do mdadm -I "$device" || true; done >/run/mdadm.out 2>&1
  for device in $(md_nodes inactive); do mdadm -IR "/dev/$device" >>/run/mdadm.out 2>&1 || true; done
}

md_settled() { md_gets_synced "$name" "$([[ $kind == lost ]] && echo 1 || echo 0)"; }
