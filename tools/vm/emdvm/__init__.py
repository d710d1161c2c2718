# SPDX-License-Identifier: GPL-2.0
"""Runs guest tests: the unmodified Debian kernel in QEMU, driven over a control port."""
