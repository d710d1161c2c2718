// SPDX-License-Identifier: GPL-2.0

//! What the host tests share.

pub mod samples;
