# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# memory: 4G
# timeout: 600
opt() { sed -n "s/.*emdtest.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
boot_1() {
  export MDADM_NO_UDEV=1
  modprobe -a raid456
  modprobe brd rd_nr=10 rd_size=262144
  local n D=() M=()
  for ((n=0;n<5;n++)); do D+=(/dev/ram$n) M+=(/dev/ram$((n+5))); done
  wait_for 10 test -b /dev/ram9
  for n in "${D[@]}" "${M[@]}"; do dd if=/dev/zero of=$n bs=1M oflag=direct status=none || true; done
  local level=$(opt level) how=$(opt how | tr , ' ') who=$(opt who) size
  size=$((192 * (level == 6 ? 3 : 4)))
  emdadm create --json --force --format ddf --level raid$level --chunk 64K --size ${size}M --name bench --assume-clean "${D[@]}" >/tmp/c.json
  EMD=$(jq -r .device /tmp/c.json)
  if [[ -n $(opt log) ]]; then emdadm stop $EMD; emdadm policy bench log; emdadm scan; fi
  mdadm --create /dev/md0 --run --level=$level --raid-devices=5 --chunk=64 --bitmap=none --size=192M --assume-clean "${M[@]}" >/dev/null 2>&1
  echo 4 >/sys/block/md0/md/group_thread_cnt; echo 8192 >/sys/block/md0/md/stripe_cache_size
  if [[ $(opt cpus) == 1 ]]; then echo 0 >/sys/devices/system/cpu/cpu1/online; fi
  host put kallsyms </proc/kallsyms
  local dev=$EMD
  if [[ $(opt rounds) ]]; then
    local r w
    for ((r = 0; r < $(opt rounds); r++)); do for w in $EMD /dev/md0; do
      fio --name=bench --filename=$w --ioengine=io_uring --direct=1 --time_based --runtime=700ms --ramp_time=150ms --group_reporting --eta=never --output-format=json --output=/tmp/f.json $how
      echo "$w $(jq -c '[.jobs[0]|.write.bw+.read.bw, (.write.iops+.read.iops|round), ((.usr_cpu+.sys_cpu)|round)]' /tmp/f.json)"
    done; done
    return
  fi
  [[ $who != md ]] || dev=/dev/md0
  echo "PROFILE START"
  local c0 c1
  c0=$(head -1 /proc/stat)
  fio --name=bench --filename=$dev --ioengine=io_uring --direct=1 --time_based --runtime=14 --group_reporting --eta=never --output-format=json --output=/tmp/f.json $how
  echo "$c0"; head -1 /proc/stat
  jq -c '.jobs[0]|[.write.bw+.read.bw, .write.iops+.read.iops, .usr_cpu, .sys_cpu, .ctx]' /tmp/f.json
}
