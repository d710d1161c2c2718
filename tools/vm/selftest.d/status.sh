# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# emd: manual
boot_1() {
  say "before"
  false
  say "after"
}
