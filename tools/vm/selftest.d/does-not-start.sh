# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# emd: manual
# boot: plain
# QEMU takes no machine with as many.
# cpus: 5000
boot_1() { :; }
