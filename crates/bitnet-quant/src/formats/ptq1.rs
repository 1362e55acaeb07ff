//! PTQ1_0 of PrismML's llama.cpp: [TQ1_0](super::tq1) with 128 values in 28 bytes, 1.75 bits a value.
//!
//! ```text
//! byte 0..16   p holds the values p, p + 16, p + 32, p + 48, p + 64
//! byte 16..24  16 + p holds the values 80 + p, + 8, + 16, + 24, + 32
//! byte 24, 25  24 + p holds the values 120 + p, + 2, + 4, + 6 and a digit 0
//! byte 26, 27  f16 scale
//! ```

use super::{
    groups::Blocks,
    tq1::{pack_runs, unpack_runs},
};
use crate::Format;

/// The format.
pub static PTQ1: Blocks =
    Blocks { format: Format::Ptq1, name: "ptq1_0", len: 128, bytes: 28, scale_at: 26, unpack, pack };

fn unpack(block: &[u8], codes: &mut [i8]) -> Result<(), usize> {
    unpack_runs::<16, 8, 2>(block, codes);
    Ok(())
}

fn pack(codes: &[i8], block: &mut [u8]) {
    pack_runs::<16, 8, 2>(codes, block);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_level_by_level_in_three_runs() {
        for (value, byte, level) in
            [(0, 0, 0), (17, 1, 1), (79, 15, 4), (80, 16, 0), (119, 23, 4), (120, 24, 0), (127, 25, 3)]
        {
            let mut codes = [-1i8; 128];
            codes[value] = 1;
            let mut block = [0u8; 28];
            pack(&codes, &mut block);
            let digits = super::super::base3::CODES[usize::from(block[byte])];
            assert_eq!(digits[level], 1, "value {value}");
            assert_eq!(block.iter().filter(|&&b| b != 0).count(), 1);
        }
    }
}
