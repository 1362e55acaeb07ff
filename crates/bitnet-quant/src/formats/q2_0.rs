//! Q2_0 of llama.cpp, its older form, and PQ2_0 of PrismML: two bits a value and a scale for 64 or 128 values.
//!
//! ```text
//! byte 0, 1    f16 scale
//! byte 2..     codes + 1; byte 2 + p holds the values 4p, 4p + 1, 4p + 2, 4p + 3 in bits 0-1, 2-3, 4-5, 6-7
//! ```
//!
//! The fields of these formats can also hold 3 for +2, which a ternary model never does: it is refused.

use super::{codes_of, fields, groups::Blocks, has_three};
use crate::Format;

/// 64 values in 18 bytes.
pub static Q2_0: Blocks = blocks(Format::Q2_0, "q2_0", 64);
/// 128 values in 34 bytes, under the type number that now means [`Q2_0`].
pub static Q2_0_G128: Blocks = blocks(Format::Q2_0G128, "q2_0_g128", 128);
/// 128 values in 34 bytes.
pub static PQ2_0: Blocks = blocks(Format::Pq2, "pq2_0", 128);

const fn blocks(format: Format, name: &'static str, len: usize) -> Blocks {
    Blocks { format, name, len, bytes: 2 + len / 4, scale_at: 0, unpack, pack }
}

fn unpack(block: &[u8], codes: &mut [i8]) -> Result<(), usize> {
    let bytes = &block[2..];
    for (&byte, codes) in bytes.iter().zip(codes.as_chunks_mut::<4>().0) {
        let x = u32::from(byte);
        *codes = codes_of(x | x << 6 | x << 12 | x << 18);
    }
    let any = bytes.iter().fold(0, |any, byte| any | (byte & byte >> 1)) & 0x55;
    if any == 0 {
        Ok(())
    } else {
        Err(2 + bytes.iter().position(|&byte| has_three(byte)).unwrap_or_default())
    }
}

fn pack(codes: &[i8], block: &mut [u8]) {
    for (byte, codes) in block[2..].iter_mut().zip(codes.as_chunks::<4>().0) {
        let x = fields(codes);
        *byte = (x | x >> 6 | x >> 12 | x >> 18) as u8;
    }
}

#[cfg(test)]
mod tests {
    use crate::{Error, Format, Scales};

    #[test]
    fn low_bits_come_first_after_the_scale() {
        let mut bytes = vec![0x55; 18];
        // 1.0 as f16, then the codes 1, 0, -1, 1.
        (bytes[0], bytes[1], bytes[2]) = (0x00, 0x3c, 0b10_00_01_10);
        let matrix = Format::Q2_0.unpack(&bytes, 1, 64).unwrap();
        assert_eq!(matrix.codes[..5], [1, 0, -1, 1, 0]);
        assert_eq!(matrix.scales, Scales::Group { len: 64, values: vec![1.0] });
    }

    #[test]
    fn two_is_not_ternary() {
        let mut bytes = vec![0x55; 34];
        bytes[7] = 0b01_11_01_01;
        assert_eq!(Format::Pq2.unpack(&bytes, 1, 128), Err(Error::Code { format: Format::Pq2, byte: 7 }));
    }
}
