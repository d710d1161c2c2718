// SPDX-License-Identifier: GPL-2.0

//! What is no format: geometry, mirrors, logs, tasks.

mod arrivals;
mod bad_spots;
mod capabilities;
mod format_choice;
mod geometry_levels;
mod geometry_props;
mod geometry_reference;
mod gf256;
mod headway;
mod hole_log;
mod left_log;
mod likeness;
mod log_checksums;
mod loss;
mod mirror_copies;
mod mirror_exhaustive;
mod mirror_fill;
mod mirror_mutants;
mod mirror_overwrite;
mod mirror_sim;
mod mirror_vote;
mod ranges;
mod rebuild;
mod region_choice;
mod regions;
mod repair_blocks;
mod repair_choice;
mod row_log;
mod sample_disks;
mod sim_common;
mod sources;
mod task_due;
mod task_engine;
mod task_marks;
mod task_pace;
mod task_stage;
mod task_window;
mod walk;
mod writers;
