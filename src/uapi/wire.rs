// SPDX-License-Identifier: GPL-2.0

//! Integers and structures to bytes and back, without unsafe and without a way out of bounds.
//!
//! Reading past the end gives zeros and writing past the end is dropped. That is just what
//! extensible structures want: an older caller's shorter structure reads as if extended with zeros,
//! and gets back as much of the reply as it has room for. Lengths are judged before, in
//! [`super::decode`].
//!
//! Byte order is the machine's own, as everywhere between a kernel and its programs.

/// Bytes being read.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The next byte; zero when there is none.
    pub fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((&first, rest)) => {
                self.bytes = rest;
                first
            }
            None => 0,
        }
    }

    /// The next `N` bytes; zeros where there are none.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0u8; N];
        for slot in array.iter_mut() {
            *slot = self.byte();
        }
        array
    }
}

/// Bytes being written.
#[derive(Debug)]
pub struct Writer<'a> {
    room: &'a mut [u8],
    used: usize,
}

impl<'a> Writer<'a> {
    /// Writes to `room` from its start.
    pub fn new(room: &'a mut [u8]) -> Self {
        Self { room, used: 0 }
    }

    /// Writes `bytes`; those that do not fit are dropped.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if let Some(slot) = self.room.get_mut(self.used) {
                *slot = byte;
                self.used += 1;
            }
        }
    }
}

/// Something with a fixed layout.
pub trait Wire: Sized {
    /// Its length.
    const BYTES: usize;

    /// Reads it; missing bytes count as zeros.
    fn get(input: &mut Reader<'_>) -> Self;

    /// Writes it; what does not fit is dropped.
    fn put(&self, output: &mut Writer<'_>);

    /// Reads it from the start of `bytes`; missing bytes count as zeros.
    fn from_bytes(bytes: &[u8]) -> Self {
        Self::get(&mut Reader::new(bytes))
    }

    /// Writes it to the start of `room`; what does not fit is dropped.
    fn to_bytes(&self, room: &mut [u8]) {
        self.put(&mut Writer::new(room));
    }
}

macro_rules! wire_integer {
    ($($ty:ty),*) => {$(
        impl Wire for $ty {
            const BYTES: usize = core::mem::size_of::<$ty>();

            fn get(input: &mut Reader<'_>) -> Self {
                <$ty>::from_ne_bytes(input.array())
            }

            fn put(&self, output: &mut Writer<'_>) {
                output.bytes(&self.to_ne_bytes());
            }
        }
    )*};
}

wire_integer!(u16, u32, u64);

impl<const N: usize> Wire for [u8; N] {
    const BYTES: usize = N;

    fn get(input: &mut Reader<'_>) -> Self {
        input.array()
    }

    fn put(&self, output: &mut Writer<'_>) {
        output.bytes(self);
    }
}

/// A field of a structure, as C sees it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name.
    pub name: &'static str,
    /// Offset in bytes.
    pub offset: usize,
    /// Length in bytes.
    pub bytes: usize,
}

/// A structure of `emd.h`, as C sees it. For the test that compares the two.
#[derive(Clone, Copy, Debug)]
pub struct Structure {
    /// Name, without `struct`.
    pub name: &'static str,
    /// Length in bytes.
    pub bytes: usize,
    /// Fields in order.
    pub fields: &'static [Field],
}

/// Defines a structure of `emd.h` once: the Rust struct, its [`Wire`] form, and its description.
/// Refuses to compile when the structure has padding.
macro_rules! wire_struct {
    (
        $(#[$doc:meta])*
        pub struct $name:ident as $c_name:literal {
            $($(#[$field_doc:meta])* pub $field:ident: $ty:ty,)*
        }
    ) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $ty,)*
        }

        impl $crate::uapi::wire::Wire for $name {
            const BYTES: usize = 0 $(+ <$ty as $crate::uapi::wire::Wire>::BYTES)*;

            fn get(input: &mut $crate::uapi::wire::Reader<'_>) -> Self {
                Self { $($field: <$ty as $crate::uapi::wire::Wire>::get(input),)* }
            }

            fn put(&self, output: &mut $crate::uapi::wire::Writer<'_>) {
                $($crate::uapi::wire::Wire::put(&self.$field, output);)*
            }
        }

        impl $name {
            /// The structure as C sees it.
            pub const STRUCTURE: $crate::uapi::wire::Structure = $crate::uapi::wire::Structure {
                name: $c_name,
                bytes: core::mem::size_of::<$name>(),
                fields: &[$($crate::uapi::wire::Field {
                    name: stringify!($field),
                    offset: core::mem::offset_of!($name, $field),
                    bytes: core::mem::size_of::<$ty>(),
                },)*],
            };
        }

        impl Default for $name {
            fn default() -> Self {
                <Self as $crate::uapi::wire::Wire>::from_bytes(&[])
            }
        }

        const _: () = assert!(
            core::mem::size_of::<$name>() == <$name as $crate::uapi::wire::Wire>::BYTES
                && core::mem::size_of::<$name>() % 8 == 0,
            "padding in a structure of the ioctl surface"
        );
    };
}

/// Defines constants of `emd.h` (there with `EMD_` before the name) and the table of them.
macro_rules! wire_constants {
    ($($(#[$doc:meta])* $name:ident: $ty:ty = $value:expr;)*) => {
        $($(#[$doc])* pub const $name: $ty = $value;)*

        /// Every constant by its name in `emd.h`. For the test that compares the two.
        pub const CONSTANTS: &[(&str, u64)] = &[
            $((concat!("EMD_", stringify!($name)), $name as u64),)*
        ];
    };
}

/// Defines an enum whose values travel as numbers and are shown as words.
macro_rules! wire_enum {
    (
        $(#[$doc:meta])*
        pub enum $name:ident as $prefix:literal {
            $($(#[$variant_doc:meta])* $variant:ident = $code:literal, $c_name:literal, $word:literal;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        wire_codes! {
            $name as $prefix {
                $($variant = $code, $c_name, $word;)*
            }
        }
    };
}

/// Has the values of an enum travel as numbers, and be shown as words.
macro_rules! wire_codes {
    (
        $name:ident as $prefix:literal {
            $($variant:ident = $code:literal, $c_name:literal, $word:literal;)*
        }
    ) => {
        impl $name {
            /// All values, in order of their codes.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// Every code by its name in `emd.h`.
            pub const CONSTANTS: &'static [(&'static str, u64)] =
                &[$((concat!($prefix, $c_name), $code),)*];

            /// The number that travels.
            pub const fn code(self) -> u16 {
                match self {
                    $($name::$variant => $code,)*
                }
            }

            /// The value with this number.
            pub const fn from_code(code: u16) -> Option<Self> {
                match code {
                    $($code => Some($name::$variant),)*
                    _ => None,
                }
            }

            /// The word for people and for JSON.
            pub const fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }
    };
}
