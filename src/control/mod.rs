// SPDX-License-Identifier: GPL-2.0

//! The control path: `/dev/emd`.
//!
//! One [`Control`] stands for the registered device; there is one in a module. Each open file is a
//! [`device::ControlFile`], which holds nothing but its place in the stream of events. What is asked
//! for is decoded and judged in [`crate::uapi`] (pure) and done by an [`Engine`]; what happened goes
//! through the [`EventRing`].
//!
//! ```text
//! ioctl -> block::chardev -> device::ControlFile::ioctl -> uapi::call -> Engine
//! EventRing::post -> readers and pollers woken -> device::ControlFile::read
//! ```

pub mod device;
pub mod events;

pub use crate::uapi::Engine;
pub use device::Control;
pub use events::EventRing;
