// SPDX-License-Identifier: GPL-2.0

//! Where bios come in, and where what could not go on at once goes on.

use super::{read, write, Array, ArrayPass};
use crate::block::bio::{DonePiece, FinishedIo, IoOwner, IoRef, IoSet, PieceInfo, Status, UserBio};
use crate::block::gate::Gated;
use crate::block::gendisk::DiskOwner;
use crate::block::raw::{
    REQ_NOWAIT, REQ_OP_DISCARD, REQ_OP_FLUSH, REQ_OP_READ, REQ_OP_WRITE, REQ_OP_WRITE_ZEROES,
    REQ_PREFLUSH,
};
use crate::personalities::Kind;
use crate::uapi::event::EventKind;
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::{Arc, SpinLockIrq};
use kernel::workqueue::{impl_has_work, Work, WorkItem};

impl DiskOwner for Array {
    fn submit(this: &Gated<Self>, bio: UserBio) {
        match this.enter() {
            Some(pass) => dispatch(pass, bio),
            None => this.wait_at_gate(this, bio),
        }
    }
}

impl Array {
    /// Keeps a bio until the gate opens.
    fn wait_at_gate(&self, gated: &Gated<Self>, bio: UserBio) {
        if bio.opf() & REQ_NOWAIT != 0 {
            return bio.end(Status::AGAIN);
        }
        {
            let mut waiting = self.waiting.lock();
            if gated.is_closed() {
                waiting.at_gate.push(bio);
                return;
            }
        }
        // It opened in between.
        match gated.enter() {
            Some(pass) => dispatch(pass, bio),
            None => bio.resubmit(),
        }
    }

    /// Lets in what waited at the gate. Call after it was opened. From the array's own work, as in
    /// [`Array::let_writes_go`].
    pub(super) fn release_gate(this: &Gated<Self>) {
        let is_due = !this.waiting.lock().at_gate.is_empty();
        match this.enter().filter(|_| is_due) {
            Some(pass) => Entrance::kick(pass),
            // Closed again: whoever opens it comes by here.
            None => Self::let_writes_go(this),
        }
    }
}

/// Work on a bio begins. `pass` is kept until it ends.
pub(super) fn dispatch(pass: ArrayPass, bio: UserBio) {
    let opf = bio.opf();
    match bio.op() {
        REQ_OP_READ => {
            read::start(pass, bio);
        }
        REQ_OP_WRITE | REQ_OP_DISCARD | REQ_OP_WRITE_ZEROES => {
            if pass.read_only && bio.sectors() == 0 {
                // A flush, of what nobody wrote.
                return bio.end(Status::OK);
            }
            if pass.read_only || pass.broken.load(Ordering::Acquire) {
                return bio.end(Status::IO_ERROR);
            }
            if opf & REQ_PREFLUSH != 0 {
                return super::flush::start(pass, bio);
            }
            if let Some((pass, bio)) = Array::admit(pass, bio) {
                write::start(pass, bio);
            }
        }
        REQ_OP_FLUSH => super::flush::start(pass, bio),
        _ => bio.end(Status::NOT_SUPPORTED),
    }
}

/// After the flush that a write asked for in front of it.
pub(super) fn after_preflush(pass: ArrayPass, bio: UserBio) {
    if bio.sectors() == 0 {
        return bio.end(Status::OK);
    }
    if let Some((pass, bio)) = Array::admit(pass, bio) {
        write::start(pass, bio);
    }
}

impl IoOwner for Array {
    fn bios(&self) -> &IoSet<Self> {
        &self.ios
    }

    fn further_bios(&self) -> &IoSet<Self> {
        &self.further_ios
    }

    fn epoch(&self) -> u64 {
        self.void_clearings.load(Ordering::Acquire)
    }

    fn io_begins(pass: &ArrayPass) {
        Array::users_io_begins(pass);
    }

    fn io_ends(pass: &ArrayPass) {
        Array::users_io_ends(pass);
    }

    fn piece_done(piece: DonePiece<Self>) {
        let status = piece.status();
        let PieceInfo {
            slot,
            member_sector,
            ..
        } = piece.info();
        let io = piece.io();
        if status.is_ok() {
            io.mark_good();
            return;
        }
        let array = io.owner();
        match io.op() {
            // It promises nothing, and says nothing of the disk: many advertise it and refuse it then.
            REQ_OP_DISCARD if array.is_redundant() => return,
            REQ_OP_DISCARD => return io.fail(status),
            // Nor does this, which goes by lanes where there is redundancy. The block layer writes zeroes instead,
            // all of them, and those tell.
            REQ_OP_WRITE_ZEROES => return io.fail(Status::NOT_SUPPORTED),
            _ => {}
        }
        let is_read = io.op() == REQ_OP_READ;
        let is_misshapen = status == Status::INVALID;
        let is_refused = is_misshapen || status == Status::NOT_SUPPORTED || status == Status::AGAIN;
        // Who does not want to wait reads from a disk that cannot be asked for that: then it has to wait.
        if is_read && status == Status::NOT_SUPPORTED && io.opf() & REQ_NOWAIT != 0 {
            return io.fail(Status::AGAIN);
        }
        if is_refused && !array.is_redundant() {
            return io.fail(status);
        }
        if is_misshapen {
            // It is the user's buffers that do not fit this member: that says nothing of it, and copies may not
            // differ for that. Lanes have buffers of their own, and tell how it went.
            if is_read {
                let pass = array.again();
                pass.waiting.lock().retry.push(piece);
                drop(io);
                Background::kick(pass);
            } else {
                io.mark_good();
                if io.begin_anew() {
                    write::stall(io);
                }
            }
            return;
        }
        if status == Status::AGAIN && is_read {
            return io.fail(status);
        }
        // Disks whose namespace is gone say that they do not know the command: of reads that is an error like any other.
        // A copy that was not written is not the same any more, whatever the reason.
        array.table().count_error(slot, is_read);
        if !array.is_redundant() {
            let errors = if is_read {
                &array.read_errors
            } else {
                &array.write_errors
            };
            errors.fetch_add(1, Ordering::Relaxed);
            io.fail(status);
        } else if is_read {
            array.read_errors.fetch_add(1, Ordering::Relaxed);
            if status.is_offline() {
                Array::member_failed(array, slot, EventKind::ReadError, Some(member_sector));
            }
            let pass = array.again();
            pass.waiting.lock().retry.push(piece);
            drop(io);
            Background::kick(pass);
        } else {
            array.write_errors.fetch_add(1, Ordering::Relaxed);
            io.mark_failed(slot);
            Array::member_failed(array, slot, EventKind::WriteError, Some(member_sector));
        }
    }

    fn io_done(io: FinishedIo<Self>) {
        let array = io.owner();
        if io.is_write() && array.is_redundant() {
            let nowhere = io.failed() != 0 && io.good() == 0;
            // A mirror's last good member stays in use. What it did not take is lost, even if one that
            // is out of use by now, or one that is being rebuilt, did.
            let stale = io.failed() & array.readable().0 != 0;
            let is_broken = array.is_broken();
            if nowhere || stale || is_broken {
                io.set_status(Status::IO_ERROR);
            }
            // On a broken array it may be that nobody can record anything any more.
            if array.must_record() && !is_broken {
                let pass = array.again();
                let mut waiting = pass.waiting.lock();
                // Who records clears the mark before it takes the list.
                if pass.must_record() {
                    pass.fail_if_void(&io);
                    waiting.finished.push(io);
                    drop(waiting);
                    pass.notify.kick();
                    return;
                }
            }
            array.fail_if_void(&io);
        }
        io.end();
    }
}

/// Begins work on bios that had to wait before it: at the gate, or for the dirty mark.
///
/// It takes carriers for them, and may sleep until some come back. So it has a queue to itself, where nothing is that
/// gives carriers back: neither [`Background`] nor lanes.
#[pin_data]
pub(super) struct Entrance {
    #[pin]
    work: Work<Entrance>,
    /// The array, while somebody waits to come in.
    #[pin]
    pass: SpinLockIrq<Option<ArrayPass>>,
}

impl_has_work! {
    impl HasWork<Self> for Entrance { self.work }
}

impl Entrance {
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                work <- kernel::new_work!("emd_entrance"),
                pass <- kernel::new_spinlock_irq!(None, "emd_entrance"),
            }),
            GFP_KERNEL,
        )
    }

    /// Has those who wait come in. Any context.
    pub(super) fn kick(pass: ArrayPass) {
        let entrance = pass.entrance.clone();
        // A pass that was in there already is dropped after the lock is.
        let old = entrance.pass.lock().replace(pass.again());
        // When it is queued already, it will find the pass.
        let _ = pass.arrivals.enqueue(entrance);
        drop(old);
    }
}

impl WorkItem for Entrance {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let Some(pass) = this.pass.lock().take() else {
            return;
        };
        let mut at_gate = pass.waiting.lock().at_gate.take();
        let mut writes = pass.take_writes();
        while let Some(bio) = writes.pop() {
            dispatch(pass.again(), bio);
        }
        while let Some(bio) = at_gate.pop() {
            dispatch(pass.again(), bio);
        }
    }
}

/// Goes on with what could not go on in the context where it came up. All of it has its carrier already.
#[pin_data]
pub(super) struct Background {
    #[pin]
    work: Work<Background>,
    /// The array, while there is something to do.
    #[pin]
    pass: SpinLockIrq<Option<ArrayPass>>,
}

impl_has_work! {
    impl HasWork<Self> for Background { self.work }
}

impl Background {
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                work <- kernel::new_work!("emd_background"),
                pass <- kernel::new_spinlock_irq!(None, "emd_background"),
            }),
            GFP_KERNEL,
        )
    }

    /// Has the array's waiting work looked at. Any context.
    pub(super) fn kick(pass: ArrayPass) {
        let background = pass.background.clone();
        // A pass that was in there already is dropped after the lock is.
        let old = background.pass.lock().replace(pass.again());
        // When it is queued already, it will find the pass.
        let _ = pass.queue.enqueue(background);
        drop(old);
    }
}

impl WorkItem for Background {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let Some(pass) = this.pass.lock().take() else {
            return;
        };
        let (mut starved, for_log, for_record) = {
            let mut waiting = pass.waiting.lock();
            pass.someone_waits.store(false, Ordering::SeqCst);
            (
                waiting.starved.take(),
                waiting.for_log.take(),
                waiting.for_record.take(),
            )
        };
        // Those that wait for a record, or for room in the log, have lanes and buffers.
        super::hole::go_on_recorded(for_record);
        super::hole::begin_waiting(for_log);
        // Ops that wait for buffers first: they hold lanes.
        while let Some(mut op) = starved {
            starved = op.as_mut().take_next();
            super::lane_run::start(op);
        }
        loop {
            let piece = pass.waiting.lock().retry.pop();
            let Some(mut piece) = piece else { break };
            let io: IoRef<Array> = piece.io();
            let after_error = piece.status() != Status::INVALID;
            let info = piece.info();
            let handed_in = read::by_lanes(&pass, &io, info, after_error);
            if handed_in < info.sectors {
                piece.skip(handed_in);
                write::wait_for_op(pass.again(), |waiting| waiting.retry.push(piece));
                break;
            }
        }
        // As many as there are ops ready for: there may be very many of them.
        while pass.ops.has_some() {
            let stalled = pass.waiting.lock().stalled.pop();
            let Some(io) = stalled else { return };
            match pass.geometry.kind() {
                _ if io.op() == REQ_OP_READ => read::resume(&pass, &io),
                Kind::Parity | Kind::Mirrored | Kind::Copies => write::resume(&pass, io),
                Kind::Striped | Kind::Concat => io.fail(Status::IO_ERROR),
            }
        }
        {
            let waiting = pass.waiting.lock();
            if waiting.stalled.is_empty() {
                return;
            }
            pass.someone_waits.store(true, Ordering::SeqCst);
        }
        // Ops that come back after this see the flag.
        if pass.ops.has_some() {
            Background::kick(pass);
        }
    }
}
