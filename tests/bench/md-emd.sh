# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# EMD beside md, in one boot, each measurement in turn, on ramdisks: two sets of them, so that both arrays are
# there at the same time. md as it comes and md tuned; RAID 0, 1, 5, 6, 10, 60; healthy, degraded, check, rebuild, resync;
# with 4, 8 and 12 members; with one CPU of two; with the write hole closed by EMD's log; how long reads take while a check runs.
# Nothing is asserted about speed: the result is a table of ratios (tests/bench/README.md).
# memory: 4G
# timeout: 5400

ROUNDS=3 RUNTIME_MS=800 RAMP_MS=200
if grep -qw emdtest.quick=1 /proc/cmdline; then ROUNDS=1 RUNTIME_MS=400 RAMP_MS=100; fi
LEVELS=$(sed -n 's/.*emdtest.levels=\([^ ]*\).*/\1/p' /proc/cmdline | tr , ' ')
ALL="0 1 5 6 10 60 5x4 5x8 5x12 6x4 6x8 6x12"

CHUNK=64          # KiB
# A level may have its number of members behind an x.
declare -A MEMBERS=([0]=5 [1]=2 [5]=5 [6]=5 [10]=4 [60]=8 [5x4]=4 [5x8]=8 [5x12]=12 [6x4]=4 [6x8]=8 [6x12]=12)
MD=/dev/md0
LINES=/tmp/lines.jsonl

# ramdisks COUNT SIZE: two sets of so many disks of SIZE MiB; no array shares a disk with another.
ramdisks() {
  local n
  SIZE_M=$(($2 - 64)) # of each member that arrays use
  if [[ -e /sys/module/brd ]]; then rmmod brd; fi
  modprobe brd rd_nr=$((2 * $1)) rd_size=$(($2 << 10))
  EMD_DISK=() MD_DISK=()
  for ((n = 0; n < $1; n++)); do EMD_DISK+=("/dev/ram$n") MD_DISK+=("/dev/ram$(($1 + n))"); done
  wait_for 10 test -b "${MD_DISK[-1]}"
  fill 0x00 "${EMD_DISK[@]}" "${MD_DISK[@]}"
}

# share LEVEL WORKLOAD: what part of the members' own speed is left for users when nothing else costs anything. Of the I/O to members
# that this work makes, the part that is the user's; for tasks, one member of all.
share() {
  awk -v level="${1%%x*}" -v members="${MEMBERS[$1]}" -v workload="$2" 'BEGIN {
    parity = level == 5 ? 1 : level == 6 ? 2 : 0
    # RAID 60: two spans, of which the table knows one.
    if (level == 60) { parity = 2; members /= 2 }
    copies = level == 1 ? members : level == 10 ? 2 : 1
    degraded = sub(/^degraded /, "", workload)
    sub(/^(1 CPU|logged|checking) /, "", workload)
    if (workload ~ /^random write/) share = parity ? 1 / (2 + 2 * parity) : 1 / copies
    else if (workload ~ /^random read/) share = degraded && parity ? members / (2 * members - 1 - parity) : 1
    else if (workload ~ /^write/) share = (members - parity) / members / copies
    else if (workload ~ /^read/) share = 1
    else share = 1 / members
    printf "%.4f", share
  }'
}

# note LEVEL WORKLOAD VARIANT VALUE UNIT: one measurement.
note() {
  local share=1
  [[ $1 == disk ]] || share=$(share "$1" "$2")
  jq -nc --arg level "$1" --arg workload "$2" --arg variant "$3" --argjson value "$4" --arg unit "$5" --argjson round "$round" --argjson share "$share" \
    '{$level, $workload, $variant, $round, $value, $unit, $share}' >>"$LINES"
}

# fio_on LEVEL WORKLOAD VARIANT DEVICE: runs a workload (its name says what).
fio_on() {
  local level=$1 workload=$2 variant=$3 device=$4 unit=MiB/s how value
  workload=${workload#degraded }
  workload=${workload#logged }
  workload=${workload#checking }
  case ${workload#1 CPU } in
  "read 1M") how=(--rw=read --bs=1M --iodepth=8) ;;
  "read 64K") how=(--rw=read --bs=64k --iodepth=16) ;;
  "write 1M") how=(--rw=write --bs=1M --iodepth=8) ;;
  "write 64K") how=(--rw=write --bs=64k --iodepth=16) ;;
  "random read 4K") how=(--rw=randread --bs=4k --iodepth=32 --numjobs=2) unit=IOPS ;;
  # From the submission on: what ends within it (EMD over ramdisks does) has no latency of completion.
  "random read 4K p99") how=(--rw=randread --bs=4k --iodepth=1 --lat_percentiles=1 --clat_percentiles=0) unit=us ;;
  "random write 4K") how=(--rw=randwrite --bs=4k --iodepth=32 --numjobs=2) unit=IOPS ;;
  *) fail "no workload '$workload'" ;;
  esac
  fio --name=bench --filename="$device" --ioengine=io_uring --direct=1 --time_based --runtime="${RUNTIME_MS}ms" --ramp_time="${RAMP_MS}ms" \
    --group_reporting --randrepeat=1 --eta=never --output=/tmp/fio.json --output-format=json "${how[@]}" >/tmp/fio.err 2>&1 ||
    fail "fio, $workload on $variant: $(tail -3 /tmp/fio.err)"
  if [[ $unit == IOPS ]]; then
    value=$(jq '.jobs[0] | .read.iops + .write.iops | round' /tmp/fio.json)
  elif [[ $unit == us ]]; then
    value=$(jq '.jobs[0].read.lat_ns.percentile["99.000000"] / 1000 | round' /tmp/fio.json)
  else
    value=$(jq '.jobs[0] | (.read.bw + .write.bw) / 1024 | round' /tmp/fio.json)
  fi
  note "$level" "$2" "$variant" "$value" "$unit"
}

# tune VARIANT: md's settings. As it comes, or as people set it for speed.
tune() {
  local threads=0 cache=256 speed=system
  case $1 in
  md-4096) threads=4 cache=4096 speed=10000000 ;;
  md-8192) threads=4 cache=8192 speed=10000000 ;;
  esac
  local folder
  # Of RAID 60 it is the two below that have them.
  for folder in /sys/block/md[0-2]/md; do
    [[ -e $folder/stripe_cache_size ]] || continue
    echo "$threads" >"$folder/group_thread_cnt"
    echo "$cache" >"$folder/stripe_cache_size"
    echo "$speed" >"$folder/sync_speed_max"
  done
}

# Who takes part: only RAID 5 and 6 (and 60) have settings. Reads of what is there do not go through the stripe cache.
variants() { # LEVEL WORKLOAD
  case ${1%%x*},${2#1 CPU } in
  *,logged*) echo "md md-4096 md-8192 emd" ;;
  [56],read* | [56],random\ read* | 60,read* | 60,random\ read*) echo "md md-4096 emd" ;;
  [56],* | 60,*) echo "md md-4096 md-8192 emd" ;;
  *) echo "md emd" ;;
  esac
}

# Each in turn, so that whatever slows this machine for a while slows all.
measure() { # LEVEL WORKLOAD
  local variant
  for variant in $(variants "$1" "$2"); do
    case $variant in
    emd) fio_on "$1" "$2" emd "$EMD" ;;
    *) tune "$variant" && fio_on "$1" "$2" "$variant" "$MD" ;;
    esac
  done
}

create_emd() { # LEVEL OPTION...
  local level=$1
  shift
  emdadm create --json --force --format ddf --level "raid${level%%x*}" --chunk "${CHUNK}K" --size "$(volume_m "$level")M" --name bench "$@" \
    "${EMD_DISK[@]:0:${MEMBERS[$level]}}" >/tmp/create.json || fail "emdadm create: $(cat /tmp/create.json)"
  EMD=$(jq -r .device /tmp/create.json)
  EMD_SET=$(jq -r .set /tmp/create.json)
  [[ -b $EMD ]] || fail "emdadm create gave no device: $(cat /tmp/create.json)"
}

create_md() { # LEVEL OPTION...
  local level=$1 chunk=(--chunk="$CHUNK") redundancy=(--bitmap=none) span
  shift
  case $level in
  0) redundancy=() ;;
  1) chunk=() ;;
  60)
    for span in 1 2; do
      mdadm --create "/dev/md$span" --run --level=6 --raid-devices=4 --chunk="$CHUNK" --bitmap=none --size="${SIZE_M}M" "$@" \
        "${MD_DISK[@]:4 * (span - 1):4}" >/tmp/mdadm.out 2>&1 || fail "mdadm --create: $(cat /tmp/mdadm.out)"
    done
    # A chunk of the whole is a stripe's data of one below, as with EMD.
    mdadm --create "$MD" --run --level=0 --raid-devices=2 --chunk=$((2 * CHUNK)) /dev/md1 /dev/md2 >/tmp/mdadm.out 2>&1 ||
      fail "mdadm --create: $(cat /tmp/mdadm.out)"
    return
    ;;
  esac
  mdadm --create "$MD" --run --level="${level%%x*}" --raid-devices="${MEMBERS[$level]}" "${chunk[@]}" "${redundancy[@]}" --size="${SIZE_M}M" "$@" \
    "${MD_DISK[@]:0:${MEMBERS[$level]}}" >/tmp/mdadm.out 2>&1 || fail "mdadm --create: $(cat /tmp/mdadm.out)"
}

volume_m() { # LEVEL
  local members=${MEMBERS[$1]}
  case ${1%%x*} in
  0) echo $((SIZE_M * members)) ;;
  1) echo "$SIZE_M" ;;
  5) echo $((SIZE_M * (members - 1))) ;;
  6) echo $((SIZE_M * (members - 2))) ;;
  10) echo $((SIZE_M * members / 2)) ;;
  60) echo $((SIZE_M * (members - 4))) ;;
  esac
}

erase() {
  if [[ -n $EMD ]]; then
    emdadm stop "$EMD" >/dev/null
    emdadm delete --force "$EMD_SET" >/dev/null
  fi
  local node
  for node in md0 md1 md2; do
    if [[ -e /sys/block/$node/md ]]; then mdadm --stop "/dev/$node" 2>/dev/null; fi
  done
  mdadm --zero-superblock --force "${MD_DISK[@]}" 2>/dev/null || true
  EMD=
}

# Fills disks with a byte. Once for all: the first write to a ramdisk allocates its pages, which would be measured else.
fill() { # BYTE DEVICE...
  local device byte=$1
  shift
  for device; do
    fio --name=fill --filename="$device" --ioengine=io_uring --direct=1 --rw=write --bs=1M --iodepth=4 --buffer_pattern="$byte" \
      --eta=never --output=/tmp/fill.out || fail "filling $device: $(tail -3 /tmp/fill.out)"
  done
}

md_idle() { [[ $(</sys/block/md0/md/sync_action) == idle && $(</sys/block/md0/md/degraded) == 0 ]]; }

# What is logged from here on counts for the next rate.
mark() { echo "bench: mark" >/dev/kmsg; }

# Rates come from the times that both drivers log: polling would be too coarse.
md_seconds() { # WHAT
  dmesg | awk -v what="$1" '
    { at = $0; sub(/^\[ */, "", at); at += 0 }
    /bench: mark/ { from = to = 0 }
    $0 ~ "md: " what " of RAID array md0" { from = at }
    $0 ~ "md: md0: " what " done" { to = at }
    END { if (from && to > from) printf "%.6f", to - from; else exit 1 }'
}

emd_seconds() { # WHAT
  dmesg | awk -v name="${EMD#/dev/}" -v what="$1" '
    { at = $0; sub(/^\[ */, "", at); at += 0 }
    /bench: mark/ { from = to = 0 }
    $0 ~ "emd: " name ": " what " started" { from = at }
    $0 ~ "emd: " name ": " what " is done" { to = at }
    END { if (from && to > from) printf "%.6f", to - from; else exit 1 }'
}

rate() { awk -v size="$SIZE_M" -v seconds="$1" 'BEGIN { printf "%.0f", size / seconds }'; }

note_md_rate() { # LEVEL WORKLOAD VARIANT WHAT
  local seconds
  wait_for 60 md_idle
  wait_for 5 md_seconds "$4"
  seconds=$(md_seconds "$4")
  note "$1" "$2" "$3" "$(rate "$seconds")" MiB/s
}

note_emd_rate() { # LEVEL WORKLOAD WHAT
  local seconds
  wait_for 60 emd_seconds "$3"
  seconds=$(emd_seconds "$3")
  note "$1" "$2" emd "$(rate "$seconds")" MiB/s
}

limit() {
  local workload
  for workload in "read 1M" "read 64K" "write 1M" "write 64K" "random read 4K" "random write 4K" "random read 4K p99"; do
    fio_on disk "$workload" disk "${MD_DISK[-1]}"
  done
}

healthy() { # LEVEL
  local workload
  create_emd "$1" --assume-clean
  create_md "$1" --assume-clean
  for workload in "read 1M" "read 64K" "write 1M" "write 64K" "random read 4K" "random write 4K"; do
    measure "$1" "$workload"
  done
}

# The writes once more, with what parity was logged before they go to their stripe: no crash can tear it. md has nothing of the kind here.
logged() { # LEVEL
  local workload
  emdadm stop "$EMD" >/dev/null
  emdadm policy bench log >/dev/null
  emdadm scan "${EMD_DISK[@]:0:${MEMBERS[$1]}}" >/dev/null
  [[ -b $EMD ]] || fail "$EMD does not come back"
  for workload in "write 1M" "write 64K" "random write 4K"; do measure "$1" "logged $workload"; done
  emdadm stop "$EMD" >/dev/null
  emdadm policy bench resync >/dev/null
  emdadm scan "${EMD_DISK[@]:0:${MEMBERS[$1]}}" >/dev/null
}

# How long all but one of a hundred reads take, of one reader: with nothing else to do, and while a check runs (one after the other: these disks are small).
latency() { # LEVEL
  local variant
  measure "$1" "random read 4K p99"
  for variant in $(variants "$1" "checking random read 4K p99"); do
    rm -f /tmp/checked
    if [[ $variant == emd ]]; then
      mark
      emd_checks &
      wait_for 10 emd_checking
      fio_on "$1" "checking random read 4K p99" emd "$EMD"
    else
      tune "$variant"
      md_checks &
      wait_for 10 md_checking
      fio_on "$1" "checking random read 4K p99" "$variant" "$MD"
    fi
    touch /tmp/checked
    wait $! || fail "$variant: a check failed"
    echo idle >/sys/block/md0/md/sync_action
    wait_for 60 md_idle
  done
}

emd_checks() { until [[ -e /tmp/checked ]]; do emdadm check --wait "$EMD" >/dev/null; done; }

# Since the last mark: on these disks one may be over between two looks at it.
emd_checking() { dmesg | awk -v what="emd: ${EMD#/dev/}: check started" '/bench: mark/ { found = 0 } index($0, what) { found = 1 } END { exit !found }'; }

md_checks() {
  until [[ -e /tmp/checked ]]; do
    md_checking || echo check >/sys/block/md0/md/sync_action
    read -rt 0.05 -u "$NEVER" || true
  done
}

md_checking() { [[ $(</sys/block/md0/md/sync_action) == check ]]; }

# These go on with the arrays of `healthy`.
degraded() { # LEVEL
  local level=$1 workload md_of_disk=$MD
  [[ $level != 60 ]] || md_of_disk=/dev/md1
  emdadm fail "$EMD" "${EMD_DISK[1]}" >/dev/null
  mdadm --fail "$md_of_disk" "${MD_DISK[1]}" 2>/dev/null
  for workload in "read 1M" "write 1M" "random read 4K" "random write 4K"; do
    measure "$level" "degraded $workload"
  done
}

check() { # LEVEL
  local variant
  for variant in $(variants "$1" check); do
    mark
    if [[ $variant == emd ]]; then
      emdadm check "$EMD" >/dev/null
      note_emd_rate "$1" check check
    else
      tune "$variant"
      echo check >/sys/block/md0/md/sync_action
      note_md_rate "$1" check "$variant" "(data-)?check"
    fi
  done
}

rebuild() { # LEVEL: after `degraded`
  local level=$1 variant
  mark
  wait_for 10 emdadm remove "$EMD" "${EMD_DISK[1]}"
  emdadm add "$EMD" "${EMD_DISK[1]}" >/dev/null
  note_emd_rate "$level" rebuild rebuild
  for variant in $(variants "$level" resync); do
    [[ $variant != emd ]] || continue
    tune "$variant"
    [[ $(</sys/block/md0/md/degraded) != 0 ]] || mdadm --fail "$MD" "${MD_DISK[1]}" 2>/dev/null
    mark
    wait_for 10 mdadm --remove "$MD" "${MD_DISK[1]}"
    mdadm --zero-superblock "${MD_DISK[1]}"
    mdadm --add "$MD" "${MD_DISK[1]}" 2>/dev/null
    note_md_rate "$level" rebuild "$variant" "recover(y)?"
  done
}

# The same array with one CPU of two.
one_cpu() { # LEVEL
  local workload
  echo 0 >/sys/devices/system/cpu/cpu1/online
  for workload in "read 1M" "write 1M" "random read 4K" "random write 4K"; do measure "$1" "1 CPU $workload"; done
  echo 1 >/sys/devices/system/cpu/cpu1/online
}

scaling() { # LEVEL
  local workload
  create_emd "$1" --assume-clean
  create_md "$1" --assume-clean
  for workload in "read 1M" "write 1M" "random write 4K"; do measure "$1" "$workload"; done
  erase
}

# The first agreement of a new array. Over members of one that was there before, they agree already, as after a crash
# nearly all do; over one that was overwritten, every stripe has to be written.
resync() { # LEVEL WORKLOAD [BYTE]
  local level=$1 workload=$2 byte=${3:-} force=() variant
  # Else md leaves one member out and rebuilds it.
  [[ $level != 5 ]] || force=(--force)
  for variant in $(variants "$level" resync); do
    mark
    if [[ $variant == emd ]]; then
      [[ -z $byte ]] || fill "$byte" "${EMD_DISK[1]}"
      create_emd "$level"
      note_emd_rate "$level" "$workload" initialise
    else
      [[ -z $byte ]] || fill "$byte" "${MD_DISK[1]}"
      speed_for_new_arrays "$variant"
      create_md "$level" "${force[@]}"
      tune "$variant"
      note_md_rate "$level" "$workload" "$variant" resync
    fi
    erase
  done
  speed_for_new_arrays md
}

# It starts at once, so its limit has to be there before.
speed_for_new_arrays() {
  local speed=200000
  [[ $1 == md ]] || speed=10000000
  echo "$speed" >/proc/sys/dev/raid/speed_limit_max
}

# All that is measured of a level.
rows() { # LEVEL
  local level=$1
  case $level in
  *x*)
    scaling "$level"
    return
    ;;
  0)
    healthy 0
    erase
    return
    ;;
  60)
    healthy 60
    degraded 60
    erase
    return
    ;;
  esac
  healthy "$level"
  if [[ $level == [56] ]]; then
    logged "$level"
    if [[ -e /sys/devices/system/cpu/cpu1/online ]]; then one_cpu "$level"; fi
  fi
  if [[ $level == [15] ]]; then latency "$level"; fi
  check "$level"
  degraded "$level"
  rebuild "$level"
  erase
  resync "$level" "resync, members agree"
  resync "$level" "resync, all to be written" 0xff
}

boot_1() {
  local level round disks wanted size
  export MDADM_NO_UDEV=1
  modprobe -a raid0 raid1 raid10 raid456
  EMD=
  : >"$LINES"
  for ((round = 1; round <= ROUNDS; round++)); do
    step "round $round of $ROUNDS ($((SECONDS / 60)) min $((SECONDS % 60)) s so far)"
    disks=
    for level in ${LEVELS:-$ALL}; do
      # More members, so smaller ones.
      case $level in
      60 | *x*) wanted=12 size=120 ;;
      *) wanted=5 size=256 ;;
      esac
      if [[ $disks != "$wanted" ]]; then
        disks=$wanted
        ramdisks $wanted $size
        ((wanted > 5)) || limit
      fi
      rows "$level"
      say "RAID $level done"
    done
  done
  jq -s --arg kernel "$(uname -r)" --arg cpu "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" --argjson cpus "$(nproc)" \
    --argjson milliseconds "$RUNTIME_MS" '{about: {$kernel, $cpu, $cpus, milliseconds_per_run: $milliseconds}, runs: .}' "$LINES" >/tmp/runs.json
  jq -f /emd/tests/bench/summary.jq /tmp/runs.json >/tmp/summary.json
  jq -r -f /emd/tests/bench/table.jq /tmp/summary.json >/tmp/table.txt
  host put runs.json </tmp/runs.json
  host put summary.json </tmp/summary.json
  host put table.txt </tmp/table.txt
  step "results (also build/vm/md-emd/out)"
  cat /tmp/table.txt
}
