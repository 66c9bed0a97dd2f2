//! Keys and values.

use std::{borrow::Borrow, hash::Hash, sync::Arc};

pub(crate) trait Key:
    Borrow<Self::Look> + Clone + Eq + Hash + Send + Sync + 'static
{
    /// What it is looked up by.
    type Look: ?Sized + Eq + Hash + ToOwned<Owned = Self> + Sync + 'static;

    fn of(number: u64) -> Self;

    /// Calls `f` with the key of this number, which is made as cheaply as can be.
    fn with<T>(number: u64, f: impl FnOnce(&Self::Look) -> T) -> T;
}

impl Key for u64 {
    type Look = u64;

    fn of(number: u64) -> Self {
        number
    }

    #[inline]
    fn with<T>(number: u64, f: impl FnOnce(&u64) -> T) -> T {
        f(&number)
    }
}

/// 32 bytes.
impl Key for String {
    type Look = str;

    fn of(number: u64) -> Self {
        Self::with(number, str::to_owned)
    }

    #[inline]
    fn with<T>(number: u64, f: impl FnOnce(&str) -> T) -> T {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let mut text = *b"user/by-id/1234/0000000000000000";
        for (place, byte) in text[16..].iter_mut().rev().enumerate() {
            *byte = DIGITS[(number >> (4 * place)) as usize % 16];
        }
        f(str::from_utf8(&text).expect("it is ASCII"))
    }
}

pub(crate) trait Value: Clone + Send + Sync + 'static {
    fn of(number: u64) -> Self;

    /// Something of it.
    fn number(&self) -> u64;
}

impl Value for u64 {
    fn of(number: u64) -> Self {
        number
    }

    #[inline]
    fn number(&self) -> u64 {
        *self
    }
}

impl Value for Arc<str> {
    fn of(number: u64) -> Self {
        format!("the user whose number is {number}").into()
    }

    #[inline]
    fn number(&self) -> u64 {
        self.len() as u64
    }
}
