# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# An NVMe namespace is taken away while a mirror on it is read: until the host has noticed, its controller says that it knows no such command. Readers see nothing of it.
# disks: 1x64M scsi 4096
# cpus: 1
# emd: manual
# timeout: 90

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh

# namespace IMAGE: a controller in this kernel, with one that lies in a file; its blocks are of 4096 bytes.
namespace() {
  local nvmet=/sys/kernel/config/nvmet system
  modprobe -a nvmet nvme-loop
  mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
  system=$nvmet/subsystems/emd
  mkdir $system
  echo 1 >$system/attr_allow_any_host
  mkdir $system/namespaces/1
  echo -n "$1" >$system/namespaces/1/device_path
  echo 1 >$system/namespaces/1/enable
  mkdir $nvmet/ports/1
  echo loop >$nvmet/ports/1/addr_trtype
  ln -s $system $nvmet/ports/1/subsystems/emd
  echo "transport=loop,nqn=emd" >/dev/nvme-fabrics
  NAMESPACE=$system/namespaces/1
}

nvme_disk() {
  local disk
  for disk in /dev/nvme*n1; do [[ -b $disk ]] && echo "$disk" && return; done
  return 1
}

boot_1() {
  local disk status=0
  truncate -s 64M /run/image
  namespace /run/image
  wait_for 10 nvme_disk
  disk=$(nvme_disk)
  modprobe emd clean_ms=200
  emdadm create --format ddf --level raid1 --name data --size 24M --assume-clean "$disk" "$(disk disk1)"
  wait_for 20 emd_runs emd0
  known 7 $((24 << 20)) | dd of=/dev/emd0 bs=1M iflag=fullblock oflag=direct status=none
  wait_for 10 emd_is_clean emd0

  step "the namespace is taken away under readers"
  (
    spread
    fio --name=read --filename=/dev/emd0 --direct=1 --rw=randread --bs=4k --ioengine=libaio --iodepth=16 --time_based --runtime=60 \
      --trigger-file=/run/enough --allow_file_create=0 >/run/fio.read 2>&1
  ) &
  LOAD=$!
  wait_for 20 reads_go_on
  # One that is only disabled counts as a path that is lost.
  rmdir $NAMESPACE
  wait_for 20 emd_is emd0 degraded
  sleep 1
  touch /run/enough
  wait "$LOAD" || status=$?
  expect_equal "errors of readers" "$status $(grep -c 'err=[^0 ]' /run/fio.read || true)" "0 0"
  expect "all data" cmp -n $((24 << 20)) /dev/emd0 <(known 7 $((24 << 20)))
}

reads_go_on() { (($(awk '{ print $1 }' /sys/block/emd0/stat) > 500)); }
