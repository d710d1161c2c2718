# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# emd: manual
# cpus: 1
boot_1() { sleep 8; }
