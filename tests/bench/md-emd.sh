# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# EMD beside md, in one boot, each measurement in turn, on ramdisks: two sets of five, so that both arrays are
# there at the same time. md as it comes and md tuned; RAID 0, 1, 5, 6, 10; healthy, degraded, rebuild, resync.
# Nothing is asserted about speed: the result is a table of ratios (tests/bench/README.md).
# memory: 4G
# timeout: 2400

ROUNDS=3 RUNTIME_MS=1500 RAMP_MS=300
if grep -qw emdtest.quick=1 /proc/cmdline; then ROUNDS=1 RUNTIME_MS=400 RAMP_MS=100; fi

SIZE_M=192        # of each member that arrays use
CHUNK=64          # KiB
declare -A MEMBERS=([0]=5 [1]=2 [5]=5 [6]=5 [10]=4)
MD=/dev/md0
LINES=/tmp/lines.jsonl

# The members of the two sets; no array shares a disk with another.
EMD_DISK=(/dev/ram0 /dev/ram1 /dev/ram2 /dev/ram3 /dev/ram4)
MD_DISK=(/dev/ram5 /dev/ram6 /dev/ram7 /dev/ram8 /dev/ram9)

# note LEVEL WORKLOAD VARIANT VALUE UNIT: one measurement.
note() {
  jq -nc --arg level "$1" --arg workload "$2" --arg variant "$3" --argjson value "$4" --arg unit "$5" --argjson round "$round" \
    '{$level, $workload, $variant, $round, $value, $unit}' >>"$LINES"
}

# fio_on LEVEL WORKLOAD VARIANT DEVICE: runs a workload (its name says what).
fio_on() {
  local level=$1 workload=$2 variant=$3 device=$4 unit=MiB/s how value
  case ${workload#degraded } in
  "read 1M") how=(--rw=read --bs=1M --iodepth=8) ;;
  "read 64K") how=(--rw=read --bs=64k --iodepth=16) ;;
  "write 1M") how=(--rw=write --bs=1M --iodepth=8) ;;
  "write 64K") how=(--rw=write --bs=64k --iodepth=16) ;;
  "random read 4K") how=(--rw=randread --bs=4k --iodepth=32 --numjobs=2) unit=IOPS ;;
  "random write 4K") how=(--rw=randwrite --bs=4k --iodepth=32 --numjobs=2) unit=IOPS ;;
  *) fail "no workload '$workload'" ;;
  esac
  fio --name=bench --filename="$device" --ioengine=io_uring --direct=1 --time_based --runtime="${RUNTIME_MS}ms" --ramp_time="${RAMP_MS}ms" \
    --group_reporting --randrepeat=1 --eta=never --output=/tmp/fio.json --output-format=json "${how[@]}" >/tmp/fio.err 2>&1 ||
    fail "fio, $workload on $variant: $(tail -3 /tmp/fio.err)"
  if [[ $unit == IOPS ]]; then
    value=$(jq '.jobs[0] | .read.iops + .write.iops | round' /tmp/fio.json)
  else
    value=$(jq '.jobs[0] | (.read.bw + .write.bw) / 1024 | round' /tmp/fio.json)
  fi
  note "$level" "$workload" "$variant" "$value" "$unit"
}

# tune VARIANT: md's settings. As it comes, or as people set it for speed.
tune() {
  local threads=0 cache=256 speed=system
  case $1 in
  md-4096) threads=4 cache=4096 speed=10000000 ;;
  md-8192) threads=4 cache=8192 speed=10000000 ;;
  esac
  [[ -e /sys/block/md0/md/stripe_cache_size ]] || return 0
  echo "$threads" >/sys/block/md0/md/group_thread_cnt
  echo "$cache" >/sys/block/md0/md/stripe_cache_size
  echo "$speed" >/sys/block/md0/md/sync_speed_max
}

# Who takes part: only RAID 5 and 6 have settings. Reads of what is there do not go through the stripe cache.
variants() { # LEVEL WORKLOAD
  case $1,$2 in
  [56],read* | [56],random\ read*) echo "md md-4096 emd" ;;
  [56],*) echo "md md-4096 md-8192 emd" ;;
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
  emdadm create --json --force --format ddf --level "raid$level" --chunk "${CHUNK}K" --size "$(volume_m "$level")M" --name bench "$@" \
    "${EMD_DISK[@]:0:${MEMBERS[$level]}}" >/tmp/create.json || fail "emdadm create: $(cat /tmp/create.json)"
  EMD=$(jq -r .device /tmp/create.json)
  EMD_SET=$(jq -r .set /tmp/create.json)
  [[ -b $EMD ]] || fail "emdadm create gave no device: $(cat /tmp/create.json)"
}

create_md() { # LEVEL OPTION...
  local level=$1 chunk=(--chunk="$CHUNK") redundancy=(--bitmap=none)
  shift
  case $level in
  0) redundancy=() ;;
  1) chunk=() ;;
  esac
  mdadm --create "$MD" --run --level="$level" --raid-devices="${MEMBERS[$level]}" "${chunk[@]}" "${redundancy[@]}" --size="${SIZE_M}M" "$@" \
    "${MD_DISK[@]:0:${MEMBERS[$level]}}" >/tmp/mdadm.out 2>&1 || fail "mdadm --create: $(cat /tmp/mdadm.out)"
}

volume_m() { # LEVEL
  case $1 in
  0) echo $((SIZE_M * MEMBERS[0])) ;;
  1) echo "$SIZE_M" ;;
  5) echo $((SIZE_M * (MEMBERS[5] - 1))) ;;
  6) echo $((SIZE_M * (MEMBERS[6] - 2))) ;;
  10) echo $((SIZE_M * MEMBERS[10] / 2)) ;;
  esac
}

erase() {
  if [[ -n $EMD ]]; then
    emdadm stop "$EMD" >/dev/null
    emdadm delete --force "$EMD_SET" >/dev/null
  fi
  if [[ -e /sys/block/md0/md ]]; then mdadm --stop "$MD" 2>/dev/null; fi
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
  for workload in "read 1M" "write 1M" "random read 4K" "random write 4K"; do
    fio_on disk "$workload" disk /dev/ram9
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

# Goes on with the arrays of `healthy`.
degraded() { # LEVEL
  local level=$1 workload variant
  emdadm fail "$EMD" "${EMD_DISK[1]}" >/dev/null
  mdadm --fail "$MD" "${MD_DISK[1]}" 2>/dev/null
  for workload in "read 1M" "random read 4K" "random write 4K"; do
    measure "$level" "degraded $workload"
  done

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

boot_1() {
  local level round
  export MDADM_NO_UDEV=1
  modprobe brd rd_nr=10 rd_size=$((256 << 10))
  modprobe -a raid0 raid1 raid10 raid456
  EMD=
  : >"$LINES"
  fill 0x00 "${EMD_DISK[@]}" "${MD_DISK[@]}"
  for ((round = 1; round <= ROUNDS; round++)); do
    step "round $round of $ROUNDS ($((SECONDS / 60)) min $((SECONDS % 60)) s so far)"
    limit
    for level in ${LEVELS:-0 1 5 6 10}; do
      healthy "$level"
      if ((level)); then
        degraded "$level"
        resync "$level" "resync, members agree"
        resync "$level" "resync, all to be written" 0xff
      else
        erase
      fi
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
