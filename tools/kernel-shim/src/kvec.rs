// SPDX-License-Identifier: GPL-2.0

//! `KVec` and `KVVec` (`rust/kernel/alloc/kvec.rs`).

use crate::alloc::{ask, AllocError, Flags};
use std::ops::{Deref, DerefMut};

/// A vector whose growth can fail.
#[derive(PartialEq, Eq)]
pub struct KVec<T>(Vec<T>);

/// There was no room for this.
#[derive(Debug)]
pub struct PushError<T>(pub T);

/// There was no room for this, or no such place.
#[derive(Debug)]
pub enum InsertError<T> {
    /// The place is behind the end.
    IndexOutOfBounds(T),
    /// No room.
    OutOfCapacity(T),
}

/// There was none.
#[derive(Debug)]
pub struct RemoveError;

/// The same, with vmalloc behind it in the kernel.
pub type KVVec<T> = KVec<T>;

impl<T> KVec<T> {
    /// Empty.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Empty, with room for `capacity`.
    pub fn with_capacity(capacity: usize, _flags: Flags) -> Result<Self, AllocError> {
        ask()?;
        Ok(Self(Vec::with_capacity(capacity)))
    }

    /// `n` copies of `value`.
    pub fn from_elem(value: T, n: usize, _flags: Flags) -> Result<Self, AllocError>
    where
        T: Clone,
    {
        ask()?;
        Ok(Self(vec![value; n]))
    }

    /// Appends.
    pub fn push(&mut self, value: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(1, flags)?;
        self.0.push(value);
        Ok(())
    }

    /// Appends, where there is room.
    pub fn push_within_capacity(&mut self, value: T) -> Result<(), PushError<T>> {
        if self.0.len() >= self.0.capacity() {
            return Err(PushError(value));
        }
        self.0.push(value);
        Ok(())
    }

    /// Puts one in, where there is room; those from there on move down.
    pub fn insert_within_capacity(&mut self, at: usize, value: T) -> Result<(), InsertError<T>> {
        if at > self.0.len() {
            return Err(InsertError::IndexOutOfBounds(value));
        }
        if self.0.len() >= self.0.capacity() {
            return Err(InsertError::OutOfCapacity(value));
        }
        self.0.insert(at, value);
        Ok(())
    }

    /// Takes one out; those behind it move up.
    pub fn remove(&mut self, at: usize) -> Result<T, RemoveError> {
        if at >= self.0.len() {
            return Err(RemoveError);
        }
        Ok(self.0.remove(at))
    }

    /// Removes the last.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Appends copies.
    pub fn extend_from_slice(&mut self, other: &[T], flags: Flags) -> Result<(), AllocError>
    where
        T: Clone,
    {
        self.reserve(other.len(), flags)?;
        self.0.extend_from_slice(other);
        Ok(())
    }

    /// Appends `n` copies of `value`.
    pub fn extend_with(&mut self, n: usize, value: T, flags: Flags) -> Result<(), AllocError>
    where
        T: Clone,
    {
        self.reserve(n, flags)?;
        self.0.resize(self.0.len() + n, value);
        Ok(())
    }

    /// Makes or cuts to length `n`.
    pub fn resize(&mut self, n: usize, value: T, flags: Flags) -> Result<(), AllocError>
    where
        T: Clone,
    {
        self.reserve(n.saturating_sub(self.0.len()), flags)?;
        self.0.resize(n, value);
        Ok(())
    }

    /// Makes room for `additional` more.
    pub fn reserve(&mut self, additional: usize, _flags: Flags) -> Result<(), AllocError> {
        if additional > self.0.capacity() - self.0.len() {
            ask()?;
        }
        self.0.reserve(additional);
        Ok(())
    }

    /// Room.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Empties; keeps the room.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Cuts to `len`.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Keeps what `keep` says.
    pub fn retain(&mut self, keep: impl FnMut(&mut T) -> bool) {
        self.0.retain_mut(keep);
    }

    /// As a slice.
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// As a mutable slice.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> Deref for KVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for KVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> Default for KVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for KVec<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> IntoIterator for KVec<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a KVec<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut KVec<T> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter_mut()
    }
}
