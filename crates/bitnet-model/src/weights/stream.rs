//! Tensors of announced sizes, written one after the other.

use std::path::PathBuf;

use bitnet_core::interchange::atomic::AtomicFile;

use crate::{Error, Result};

/// The data of a file whose head says how large each tensor is.
pub(super) struct TensorStream {
    file: AtomicFile,
    sizes: Vec<usize>,
    alignment: usize,
    /// Tensors that are complete.
    complete: usize,
    /// Bytes of the next one that are there.
    filled: usize,
}

impl TensorStream {
    /// Starts `path` with `head`; tensors of `sizes` bytes follow, each padded with zeros to `alignment`.
    pub(super) fn create(path: PathBuf, head: &[u8], sizes: Vec<usize>, alignment: usize) -> Result<Self> {
        let mut file = AtomicFile::create(path)?;
        file.write(head)?;
        Ok(Self { file, sizes, alignment, complete: 0, filled: 0 })
    }

    /// Appends a whole tensor.
    pub(super) fn tensor(&mut self, bytes: &[u8]) -> Result<()> {
        match self.sizes.get(self.complete) {
            Some(&expected) if self.filled == 0 && bytes.len() == expected => self.part(bytes),
            _ => Err(self.mismatch(self.filled + bytes.len())),
        }
    }

    /// Appends bytes of the tensor that is being written.
    pub(super) fn part(&mut self, bytes: &[u8]) -> Result<()> {
        let expected = self.sizes.get(self.complete).copied().unwrap_or(0);
        if bytes.len() > expected - self.filled {
            return Err(self.mismatch(self.filled + bytes.len()));
        }
        self.file.write(bytes)?;
        self.filled += bytes.len();
        if self.filled == expected {
            self.file.write(&vec![0; expected.next_multiple_of(self.alignment) - expected])?;
            (self.complete, self.filled) = (self.complete + 1, 0);
        }
        Ok(())
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Result<()> {
        if self.complete == self.sizes.len() {
            Ok(self.file.commit()?)
        } else {
            Err(self.mismatch(self.filled))
        }
    }

    fn mismatch(&self, given: usize) -> Error {
        Error::WrittenSize {
            path: self.file.path().to_owned(),
            index: self.complete,
            count: self.sizes.len(),
            expected: self.sizes.get(self.complete).copied().unwrap_or(0),
            given,
        }
    }
}
