// SPDX-License-Identifier: GPL-2.0

//! The ioctl surface of `/dev/emd`.

#![forbid(unsafe_code)]
