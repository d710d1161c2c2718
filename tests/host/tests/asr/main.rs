// SPDX-License-Identifier: GPL-2.0

//! Adaptec HostRAID: the format, event by event, and against real samples.

mod asr_common;
mod events;
mod foreign;
mod histories;
mod hostile;
mod missed;
mod noalloc;
mod samples;
mod scrubs;
mod spares;
