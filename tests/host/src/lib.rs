// SPDX-License-Identifier: GPL-2.0

//! Nothing but a place for `tests/`. What they share is in `support/`.
