// SPDX-License-Identifier: GPL-2.0

//! What the fuzz programs share: an allocator that knows a limit, and how seeds are written.

use std::alloc::{GlobalAlloc, Layout, System};

/// Most bytes of one allocation. A set's model and buffers take far less; what a probe may read is 8 MiB.
pub const ALLOCATION_MAX: usize = 64 << 20;

/// The system's allocator. What asks for too much at once ends the program, so that libFuzzer keeps the
/// input: without a sanitizer its own limit sees nothing, as memory that is not touched costs nothing.
#[derive(Debug)]
pub struct Limited;

impl Limited {
    fn check(bytes: usize) {
        if bytes > ALLOCATION_MAX {
            // libFuzzer catches the signal. Printing must not allocate much; that it allocates a little does no harm.
            eprintln!("an allocation of {bytes} bytes");
            std::process::abort();
        }
    }
}

// SAFETY: everything is handed to the system's allocator; only sizes are looked at.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check(layout.size());
        // SAFETY: the caller's duties are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::check(layout.size());
        // SAFETY: the caller's duties are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::check(size);
        // SAFETY: the caller's duties are passed on.
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's duties are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// With `EMD_FUZZ_SEEDS=FOLDER`: writes the inputs to begin with there, and ends the program.
pub fn write_seeds(target: &str) {
    let Some(folder) = std::env::var_os("EMD_FUZZ_SEEDS") else {
        return;
    };
    let folder = std::path::PathBuf::from(folder);
    let written = std::fs::create_dir_all(&folder).and_then(|()| {
        fuzz_targets::seeds(target)
            .into_iter()
            .try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes))
    });
    match written {
        Ok(()) => std::process::exit(0),
        Err(why) => panic!("{}: {why}", folder.display()),
    }
}

/// One fuzz program.
#[macro_export]
macro_rules! program {
    ($target:literal) => {
        #[global_allocator]
        static ALLOCATOR: $crate::Limited = $crate::Limited;

        libfuzzer_sys::fuzz_target!(
            init: $crate::write_seeds($target),
            |data: &[u8]| fuzz_targets::run($target, data)
        );
    };
}
