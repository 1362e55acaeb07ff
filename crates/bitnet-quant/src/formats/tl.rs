//! TL1 and TL2 of Microsoft's BitNet: codes permuted for the lookup tables of one generated kernel.
//!
//! The file does not hold the kernel's configuration (`kernel_config.ini`: BM, BK, bm for every shape), so that its bytes cannot be
//! read with certainty. They are recognised and refused.

use crate::{Error, Format, Result, Ternary, format::Codec};

/// 4-bit indices of pairs.
pub static TL1: Tuned = Tuned { format: Format::Tl1, name: "tl1" };
/// 5-bit indices of triples.
pub static TL2: Tuned = Tuned { format: Format::Tl2, name: "tl2" };

/// A layout that is tuned for one kernel.
pub struct Tuned {
    format: Format,
    name: &'static str,
}

impl Tuned {
    fn refuse<T>(&self) -> Result<T> {
        let what = "reading it without the kernel configuration of the build that wrote it";
        Err(Error::Undefined { format: self.format, what })
    }
}

impl Codec for Tuned {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_ternary(&self) -> bool {
        true
    }

    fn block_len(&self) -> usize {
        0
    }

    fn block_bytes(&self) -> usize {
        0
    }

    fn tensor_bytes(&self, _: usize, _: usize) -> Result<usize> {
        self.refuse()
    }

    fn unpack(&self, _: &[u8], _: usize, _: usize) -> Result<Ternary> {
        self.refuse()
    }

    fn pack(&self, _: &Ternary) -> Result<Vec<u8>> {
        self.refuse()
    }

    fn dequantize_row(&self, _: &[u8], _: &mut [f32]) -> Result<()> {
        self.refuse()
    }

    fn quantize_row(&self, _: &[f32], _: &mut [u8]) -> Result<()> {
        self.refuse()
    }
}
