// SPDX-License-Identifier: GPL-2.0

//! Linux md's superblocks: the format, event by event, and against mdadm's.

mod apart;
mod bitmaps;
mod blocks;
mod events;
mod hostile;
mod left_behind;
mod left_log;
mod losses;
mod made_and_deleted;
mod md_common;
mod mdadm;
mod missed;
mod needed;
mod noalloc;
mod rebuilds;
mod refusals;
mod scrubs;
mod zones;
