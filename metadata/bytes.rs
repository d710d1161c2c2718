// SPDX-License-Identifier: GPL-2.0

//! Reading and writing integers in on-disk structures, without a way to go out of bounds.
