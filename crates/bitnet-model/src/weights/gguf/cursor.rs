//! Reads forward through untrusted bytes: nothing is allocated before its bytes are known to be there.

use super::{MAX_ARRAY, Refusal};

pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Position from the start.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn take(&mut self, len: u64, what: &'static str) -> Result<&'a [u8], Refusal> {
        let left = self.left();
        match usize::try_from(len) {
            Ok(len) if len <= left => {
                let taken = &self.bytes[self.at..self.at + len];
                self.at += len;
                Ok(taken)
            }
            _ => Err(Refusal::Truncated { what, offset: self.at, needed: len, left }),
        }
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Refusal> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, what)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Refusal> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, Refusal> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A number of things that take at least `least` bytes each, refused if it is over `limit` or the rest of the file cannot hold
    /// them.
    pub(super) fn count(
        &self,
        count: u64,
        what: &'static str,
        least: usize,
        limit: u64,
    ) -> Result<usize, Refusal> {
        let limit = limit.min((self.left() / least) as u64);
        match usize::try_from(count) {
            Ok(size) if count <= limit => Ok(size),
            _ => Err(Refusal::Count { what, got: count, limit }),
        }
    }

    pub(super) fn numbers<T, const N: usize>(
        &mut self,
        count: u64,
        from_le: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Refusal> {
        let count = self.count(count, "an array length", N, MAX_ARRAY)?;
        let bytes = self.take((count * N) as u64, "an array")?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|&chunk| from_le(chunk)).collect())
    }

    pub(super) fn string(&mut self, what: &'static str, limit: u64) -> Result<&'a str, Refusal> {
        let offset = self.at;
        let len = self.u64(what)?;
        if len > limit {
            return Err(Refusal::TooLong { what, offset, got: len, limit });
        }
        std::str::from_utf8(self.take(len, what)?).map_err(|_| Refusal::NotUtf8 { what, offset })
    }
}
