// SPDX-License-Identifier: GPL-2.0

//! Nothing but a place for `tests/`: host tests that are compiled with optimisation.
