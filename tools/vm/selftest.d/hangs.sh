# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# emd: manual
# timeout: 2
boot_1() { sleep 1000; }
