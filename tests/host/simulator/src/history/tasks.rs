// SPDX-License-Identifier: GPL-2.0

//! What people do with tasks, put into a history that is made as ever.

use super::{Absent, Config, Op};
use crate::rng::Rng;
use emd_core::uapi::{TaskKind, TaskOp};

/// Something that a person does with a task, whatever is at work.
fn task_op(rng: &mut Rng) -> Op {
    Op::Task(match rng.below(20) {
        0..=4 => TaskOp::Pause,
        5..=8 => TaskOp::Resume,
        9..=11 => TaskOp::Cancel,
        12 | 13 => TaskOp::Start(TaskKind::Check),
        14 | 15 => TaskOp::Start(TaskKind::Repair),
        16 | 17 => TaskOp::Start(TaskKind::Resync),
        18 => limits(1),
        _ => limits(0),
    })
}

fn limits(max_kib: u32) -> TaskOp {
    TaskOp::Limits {
        min_kib: 0,
        max_kib,
    }
}

/// A task begins: a rebuild, one that a person wants, or the one after a crash.
fn cause(rng: &mut Rng, disks: usize) -> Vec<Op> {
    match rng.below(10) {
        0..=3 => vec![Op::Kill(rng.below(disks)), Op::AddBlank, Op::AwaitRebuild],
        4 | 5 => vec![Op::Task(TaskOp::Start(TaskKind::Check))],
        6 => vec![Op::Task(TaskOp::Start(TaskKind::Repair))],
        7 => vec![Op::Task(TaskOp::Start(TaskKind::Resync))],
        _ => vec![Op::PowerCut(Absent(0))],
    }
}

/// It is held for some of what happens, and then goes on, ends, or power goes.
fn hold(rng: &mut Rng, ops: &mut Vec<Op>, at: usize) {
    let until = (at + 1 + rng.below(6)).min(ops.len());
    let end = match rng.below(6) {
        0 | 1 => vec![Op::Task(TaskOp::Resume)],
        2 => vec![Op::Task(TaskOp::Cancel)],
        3 => vec![Op::Quiet, Op::PowerCut(Absent(0))],
        4 => vec![Op::PowerCut(Absent(rng.number() | 1))],
        _ => vec![Op::Settle],
    };
    ops.splice(until..until, end);
    ops.insert(at, Op::Task(TaskOp::Pause));
}

/// Puts them into `ops`.
pub(super) fn put_in(rng: &mut Rng, config: &Config, ops: &mut Vec<Op>) {
    for _ in 0..1 + rng.below(2) {
        let at = rng.below(ops.len() + 1);
        let cause = cause(rng, usize::from(config.members));
        let begun = at + cause.len();
        ops.splice(at..at, cause);
        if rng.chance(80) {
            hold(rng, ops, begun);
        }
    }
    for _ in 0..rng.below(5) {
        let op = task_op(rng);
        ops.insert(rng.below(ops.len() + 1), op);
    }
}
