// SPDX-License-Identifier: GPL-2.0

//! The one system call without a safe form: an ioctl on `/dev/emd`.

use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use std::ffi::c_void;

struct Call<'a, const CMD: u32> {
    argument: &'a mut [u8],
}

// SAFETY: The kernel reads and writes at the pointer as many bytes as the argument's first field
// says; `ioctl` below makes sure that those are within `argument`. What else it writes goes to
// buffers named in the argument, whose owners outlive the call (`device::Buffers`).
unsafe impl<const CMD: u32> Ioctl for Call<'_, CMD> {
    type Output = ();

    const OPCODE: Opcode = Opcode::old(CMD);
    const IS_MUTATING: bool = true;

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// Calls the ioctl `CMD` of `/dev/emd` with `argument`, whose first four bytes say its length.
pub fn ioctl<const CMD: u32>(file: impl AsFd, argument: &mut [u8]) -> Result<(), Errno> {
    let said = argument
        .first_chunk()
        .map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    assert_eq!(
        said as usize,
        argument.len(),
        "an argument says its own length"
    );
    let call = Call::<CMD> { argument };
    // SAFETY: `Call` is a right description of every ioctl that `emd.h` has; see there.
    unsafe { rustix::ioctl::ioctl(file, call) }
}
