// SPDX-License-Identifier: GPL-2.0

//! What goes over the ioctl: layouts, checks of what comes in, the C header.

mod call;
mod decode;
mod errnos;
mod header;
mod mismatches;
mod policy;
mod records;
mod regions;
mod uapi_support;
