// SPDX-License-Identifier: GPL-2.0

//! RAID levels: geometry and the step machines that keep redundancy true.

#![forbid(unsafe_code)]
