// SPDX-License-Identifier: GPL-2.0

//! SNIA Common RAID Disk Data Format.
