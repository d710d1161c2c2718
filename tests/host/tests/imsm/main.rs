// SPDX-License-Identifier: GPL-2.0

//! Intel Matrix Storage: the format, event by event, and against real samples.

mod bad_log;
mod events;
mod families;
mod hostile;
mod imsm_common;
mod large;
mod left_log;
mod mdadm;
mod noalloc;
mod presumed;
mod readings;
mod reinstated;
mod reshape;
mod returns;
mod rewritten;
mod samples;
mod spares;
mod syncs;
