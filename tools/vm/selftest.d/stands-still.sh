# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# disks: 1x8M virtio
# emd: manual
# cpus: 1
boot_1() {
  echo now
  # The machine is stopped meanwhile.
  sleep 20
}
