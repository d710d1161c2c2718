// SPDX-License-Identifier: GPL-2.0

//! DDF: the format, event by event, and against real samples.

mod bad_ranges;
mod checksums;
mod contradictions;
mod copies;
mod ddf_common;
mod events;
mod histories;
mod hole;
mod hostile;
mod leftovers;
mod levels;
mod makers;
mod mdadm;
mod noalloc;
mod offline;
mod records;
mod refusals;
mod reinstated;
mod samples;
mod spares;
mod times;
mod twins;
mod unsound;
mod void_records;
