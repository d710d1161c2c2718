# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# emd: manual
# extra: nothing
boot_1() { :; }
