// SPDX-License-Identifier: GPL-2.0

//! A character device with a dynamic minor: open, ioctl, read, poll.
//!
//! `kernel::miscdevice` does the same but has no poll (7.3), and its table of operations is private.
//!
//! C headers: `include/linux/miscdevice.h`, `include/linux/fs.h`, `include/linux/poll.h`.
//!
//! # Examples
//!
//! ```ignore
//! struct Count { opened: u64 }
//!
//! impl CharFile for Count {
//!     type Device = Counter;
//!     fn open(device: &Arc<Counter>) -> Result<Self> { Ok(Self { opened: device.next() }) }
//!     fn ioctl(&self, _cmd: u32, _arg: u64) -> Result<u32> { Err(ENOTTY) }
//!     fn read(&self, to: UserPtr, len: usize, _wait: bool) -> Result<usize> { Ok(0) }
//!     fn poll(&self, wait: &Wait<'_>) -> bool { false }
//! }
//!
//! let device = KBox::pin_init(CharDevice::<Count>::register(c"count", counter), GFP_KERNEL)?;
//! ```

use core::marker::PhantomData;
use kernel::bindings;
use kernel::error::to_result;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::sync::poll::{PollCondVar, PollTable};
use kernel::sync::Arc;
use kernel::types::Opaque;
use kernel::uaccess::UserPtr;

/// `POLLIN | POLLRDNORM` (`include/uapi/asm-generic/poll.h`).
const POLL_READABLE: bindings::__poll_t = 0x0001 | 0x0040;

/// An open file of the device. Calls come in process context, several at a time.
pub trait CharFile: Sized + Send + Sync + 'static {
    /// What all files of the device share.
    type Device: Send + Sync + 'static;

    /// The device is opened.
    fn open(device: &Arc<Self::Device>) -> Result<Self>;

    /// An ioctl. `arg` is what the caller gave.
    fn ioctl(&self, cmd: u32, arg: u64) -> Result<u32>;

    /// Reads at most `len` bytes to user memory at `to`; says how many. With `wait` it may sleep
    /// until there are some.
    fn read(&self, to: UserPtr, len: usize, wait: bool) -> Result<usize>;

    /// Names what a poller has to wait on, then says whether a read would find something.
    fn poll(&self, wait: &Wait<'_>) -> bool;
}

/// A poller.
pub struct Wait<'a> {
    file: &'a File,
    table: PollTable<'a>,
}

impl Wait<'_> {
    /// The poller is to be woken when `source` is notified.
    pub fn on(&self, source: &PollCondVar) {
        self.table.register_wait(self.file, source);
    }
}

/// Whether the calling task has `CAP_SYS_ADMIN`.
pub fn may_administer() -> bool {
    // SAFETY: May be called in process context at any time.
    unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as i32) }
}

/// A registered device; deregistered when dropped.
///
/// # Invariants
///
/// `misc` is registered, its operations are [`Table::<F>::OPERATIONS`], and it is the first field:
/// its address is that of the whole.
#[repr(C)]
#[pin_data(PinnedDrop)]
pub struct CharDevice<F: CharFile> {
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    device: Arc<F::Device>,
}

// SAFETY: A misc device may be deregistered from any task; `device` is `Send` by the trait's bound.
unsafe impl<F: CharFile> Send for CharDevice<F> {}
// SAFETY: There are no methods that change it; `device` is `Sync` by the trait's bound.
unsafe impl<F: CharFile> Sync for CharDevice<F> {}

impl<F: CharFile> CharDevice<F> {
    /// Registers `/dev/<name>`; files can be opened from then on. Do it last when the module
    /// loads: an open file keeps the module from being unloaded, not from failing to load.
    pub fn register(name: &'static CStr, device: Arc<F::Device>) -> impl PinInit<Self, Error> {
        // `device` is written before the registration makes it reachable.
        try_pin_init!(Self {
            device,
            misc <- Opaque::try_ffi_init(move |slot: *mut bindings::miscdevice| {
                // SAFETY: `slot` is valid for writes.
                unsafe {
                    slot.write(bindings::miscdevice {
                        minor: bindings::MISC_DYNAMIC_MINOR as i32,
                        name: kernel::str::as_char_ptr_in_const_context(name),
                        fops: &Table::<F>::OPERATIONS,
                        ..Default::default()
                    })
                };
                // SAFETY: The structure is pinned and complete, and deregistered before it goes.
                to_result(unsafe { bindings::misc_register(slot) })
            }),
        })
    }
}

#[pinned_drop]
impl<F: CharFile> PinnedDrop for CharDevice<F> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered, by the type's invariants.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}

/// The C side of [`CharFile`].
struct Table<F: CharFile>(PhantomData<F>);

impl<F: CharFile> Table<F> {
    const OPERATIONS: bindings::file_operations = bindings::file_operations {
        owner: <crate::LocalModule as kernel::ModuleMetadata>::THIS_MODULE.as_ptr(),
        open: Some(Self::open),
        release: Some(Self::release),
        unlocked_ioctl: Some(Self::ioctl),
        // Arguments are pointers to structures that are the same for 32-bit programs.
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: bindings::compat_ptr_ioctl,
        read: Some(Self::read),
        poll: Some(Self::poll),
        llseek: Some(bindings::noop_llseek),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `raw` must be an open file of a [`CharDevice<F>`], between its open and its release.
    unsafe fn file<'a>(raw: *mut bindings::file) -> &'a F {
        // SAFETY: `open` stored a pointer from `KBox::into_raw`, and only `release` takes it back;
        // by the caller it is in between. The file is only ever shared.
        unsafe { &*(*raw).private_data.cast::<F>() }
    }

    /// # Safety
    ///
    /// Called by the kernel for a file of a [`CharDevice<F>`] that is being opened.
    unsafe extern "C" fn open(inode: *mut bindings::inode, raw: *mut bindings::file) -> i32 {
        // SAFETY: Both are valid while a file is opened.
        let result = unsafe { bindings::stream_open(inode, raw) };
        if result != 0 {
            return result;
        }
        // SAFETY: `misc_open` stored the `miscdevice`, the first field of the `CharDevice`, and
        // holds the lock that deregistration takes.
        let device = unsafe { &*(*raw).private_data.cast::<CharDevice<F>>() };
        let opened = F::open(&device.device)
            .and_then(|file| KBox::new(file, GFP_KERNEL).map_err(Error::from));
        match opened {
            Ok(file) => {
                // SAFETY: The open call owns the file's private data.
                unsafe { (*raw).private_data = KBox::into_raw(file).cast() };
                0
            }
            Err(error) => error.to_errno(),
        }
    }

    /// # Safety
    ///
    /// Called by the kernel, once, for a file that was opened.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, raw: *mut bindings::file) -> i32 {
        // SAFETY: `open` stored it, and nothing uses the file any more.
        drop(unsafe { KBox::from_raw((*raw).private_data.cast::<F>()) });
        0
    }

    /// # Safety
    ///
    /// Called by the kernel for an open file.
    unsafe extern "C" fn ioctl(
        raw: *mut bindings::file,
        cmd: kernel::ffi::c_uint,
        arg: kernel::ffi::c_ulong,
    ) -> kernel::ffi::c_long {
        // SAFETY: The file is open during the call.
        let file = unsafe { Self::file(raw) };
        match file.ioctl(cmd, arg as u64) {
            Ok(value) => value as kernel::ffi::c_long,
            Err(error) => error.to_errno() as kernel::ffi::c_long,
        }
    }

    /// # Safety
    ///
    /// Called by the kernel for an open file.
    unsafe extern "C" fn read(
        raw: *mut bindings::file,
        to: *mut kernel::ffi::c_char,
        len: usize,
        _position: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: The file is open during the call.
        let file = unsafe { Self::file(raw) };
        // SAFETY: The file is open during the call, and no `fdget_pos` of this task is on it: a
        // stream has no position.
        let flags = unsafe { File::from_raw_file(raw) }.flags();
        let wait = flags & kernel::fs::file::flags::O_NONBLOCK == 0;
        match file.read(UserPtr::from_ptr(to.cast()), len, wait) {
            Ok(done) => done as isize,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Called by the kernel for an open file; `table` is null or valid.
    unsafe extern "C" fn poll(
        raw: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> bindings::__poll_t {
        // SAFETY: The file is open during the call.
        let file = unsafe { Self::file(raw) };
        let wait = Wait {
            // SAFETY: As in `read`.
            file: unsafe { File::from_raw_file(raw) },
            // SAFETY: Null or valid during the call.
            table: unsafe { PollTable::from_raw(table) },
        };
        if file.poll(&wait) {
            POLL_READABLE
        } else {
            0
        }
    }
}
