// SPDX-License-Identifier: GPL-2.0

//! Lanes of the parity levels: the step machine against a judge that knows no steps.

mod exhaustive;
mod histories;
mod lane_sim;
mod log;
mod mutants;
mod raid6;
