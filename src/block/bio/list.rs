// SPDX-License-Identifier: GPL-2.0

//! The list behind all lists of bios: first in first out, linked through a pointer in its elements, so that putting something into it
//! never allocates.

use core::ptr::{self, NonNull};
use kernel::bindings;

/// What has a pointer for the list it is in.
///
/// # Safety
///
/// `next` returns a pointer into `this`, and that place belongs to whoever owns the object.
pub(super) unsafe trait Linked {
    /// Where the link is.
    ///
    /// # Safety
    ///
    /// `this` points to a live object that belongs to the caller.
    unsafe fn next(this: *mut Self) -> *mut *mut Self;
}

// SAFETY: `bi_next` is free for the owner of a bio that is not in the block layer's hands.
unsafe impl Linked for bindings::bio {
    unsafe fn next(this: *mut Self) -> *mut *mut Self {
        // SAFETY: By the caller's promise.
        unsafe { &raw mut (*this).bi_next }
    }
}

/// Objects linked to each other. Does not free what is in it: the typed lists around it do.
///
/// # Invariants
///
/// From `head` over `next` to `tail` all objects are live and owned by the list; both are null when there is none.
pub(super) struct RawList<T: Linked> {
    head: *mut T,
    tail: *mut T,
}

// SAFETY: It owns its objects, which the typed lists allow only for what may be sent.
unsafe impl<T: Linked> Send for RawList<T> {}

impl<T: Linked> RawList<T> {
    /// Empty.
    pub(super) const fn new() -> Self {
        Self {
            head: ptr::null_mut(),
            tail: ptr::null_mut(),
        }
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Appends an object, which belongs to the list from now on.
    pub(super) fn push(&mut self, object: NonNull<T>) {
        let object = object.as_ptr();
        // SAFETY: The object was the caller's, and so was its link; `tail`, if there is one, is ours.
        unsafe {
            *T::next(object) = ptr::null_mut();
            match self.tail.is_null() {
                true => self.head = object,
                false => *T::next(self.tail) = object,
            }
        }
        self.tail = object;
    }

    /// Appends all of `other`.
    pub(super) fn append(&mut self, mut other: Self) {
        if other.is_empty() {
            return;
        }
        match self.tail.is_null() {
            true => self.head = other.head,
            // SAFETY: `tail` is ours, and so is its link.
            false => unsafe { *T::next(self.tail) = other.head },
        }
        self.tail = other.tail;
        // INVARIANT: What was in it is in `self` now.
        (other.head, other.tail) = (ptr::null_mut(), ptr::null_mut());
    }

    /// Takes the first, which belongs to the caller from now on.
    pub(super) fn pop(&mut self) -> Option<NonNull<T>> {
        let object = NonNull::new(self.head)?;
        // SAFETY: By the invariant it is ours, and its link leads to the rest of the list.
        unsafe {
            self.head = *T::next(object.as_ptr());
            *T::next(object.as_ptr()) = ptr::null_mut();
        }
        if self.head.is_null() {
            self.tail = ptr::null_mut();
        }
        Some(object)
    }
}
