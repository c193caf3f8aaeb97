//! An input, taken from its beginning bit by bit. Where nothing is left, there are zeros and empty texts.

use std::borrow::Cow;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) const fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.some(8).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// So many, or what is left.
    pub(crate) fn some(&mut self, count: usize) -> &'a [u8] {
        let (some, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        some
    }

    /// As many as the next byte says.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let count = self.byte();
        self.some(count.into())
    }

    /// Up to the next line end, which is left out, or all that is left.
    pub(crate) fn line(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == b'\n').unwrap_or(self.0.len());
        let line = self.some(end);
        self.some(1);
        line
    }

    /// Up to the next such byte, which no text in UTF-8 has, or all that is left.
    pub(crate) fn part(&mut self) -> Cow<'a, str> {
        let end = self.0.iter().position(|byte| *byte == 0xff).unwrap_or(self.0.len());
        let part = self.some(end);
        self.some(1);
        String::from_utf8_lossy(part)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }
}
