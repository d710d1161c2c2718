// SPDX-License-Identifier: GPL-2.0

//! The module's parameter `auto`, which is text: the kernel crate has parameters for numbers and for yes and no.
//! What `module!` makes of those is made here by hand.

use crate::model::Text;
use core::ffi::CStr;
use kernel::bindings;
use kernel::ffi::{c_char, c_int};
use kernel::module_param::KernelParam;
use kernel::prelude::*;
use kernel::str::CStrExt;
use kernel::sync::SetOnce;

/// Bytes that the text may have.
const BYTES: usize = 64;

static GIVEN: SetOnce<Text<BYTES>> = SetOnce::new();

/// What the parameter was given; `None` when it was not.
pub fn auto() -> Option<Text<BYTES>> {
    GIVEN.copy()
}

/// Takes what is given, once.
///
/// # Safety
///
/// `value` is null, or a C string that lives until this returns.
unsafe extern "C" fn set(value: *const c_char, _: *const bindings::kernel_param) -> c_int {
    if value.is_null() {
        return EINVAL.to_errno();
    }
    // SAFETY: By the requirement.
    let Ok(text) = unsafe { CStr::from_char_ptr(value) }.to_str() else {
        return EINVAL.to_errno();
    };
    if text.len() > BYTES {
        return E2BIG.to_errno();
    }
    match GIVEN.populate(Text::from_text(text)) {
        true => 0,
        // As the kernel crate has it.
        false => EEXIST.to_errno(),
    }
}

static OPS: bindings::kernel_param_ops = bindings::kernel_param_ops {
    flags: 0,
    set: Some(set),
    get: None,
    free: None,
};

#[link_section = "__param"]
#[used(compiler)]
static PARAM: KernelParam = KernelParam::new(bindings::kernel_param {
    name: kernel::str::as_char_ptr_in_const_context(if cfg!(MODULE) {
        c"auto"
    } else {
        c"emd.auto"
    }),
    // The loader makes it.
    #[cfg(MODULE)]
    mod_: &raw mut bindings::__this_module,
    #[cfg(not(MODULE))]
    mod_: core::ptr::null_mut(),
    ops: &raw const OPS,
    // Not in sysfs.
    perm: 0,
    level: -1,
    flags: 0,
    __bindgen_anon_1: bindings::kernel_param__bindgen_ty_1 {
        arg: core::ptr::null_mut(),
    },
});

/// What `modinfo` shows of it.
mod info {
    macro_rules! line {
        ($name:ident, $line:literal) => {
            #[cfg(MODULE)]
            #[link_section = ".modinfo"]
            #[used(compiler)]
            static $name: [u8; $line.len()] = *$line;
        };
        ($name:ident, built in, $line:literal) => {
            #[cfg(not(MODULE))]
            #[link_section = ".modinfo"]
            #[used(compiler)]
            static $name: [u8; $line.len()] = *$line;
        };
    }

    line!(TYPE, b"parmtype=auto:charp\0");
    line!(TEXT, b"parm=auto:Which sets are started as their disks arrive: 1 (all), 0 (none), or those of formats, named with commas between\0");
    line!(TYPE, built in, b"emd.parmtype=auto:charp\0");
    line!(TEXT, built in, b"emd.parm=auto:Which sets are started as their disks arrive: 1 (all), 0 (none), or those of formats, named with commas between\0");
}
