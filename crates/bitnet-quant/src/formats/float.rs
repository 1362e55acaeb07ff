//! Plain floats, little-endian.

use super::dense::Dense;
use crate::Format;
use half::{bf16, f16};

/// 32 bits.
pub struct F32;
/// 16 bits, 5 of them exponent. A number that is too large becomes infinite.
pub struct F16;
/// The upper 16 bits of an f32.
pub struct BF16;

macro_rules! float {
    ($format:ident, $name:literal, $bytes:literal, $read:expr, $write:expr) => {
        impl Dense for $format {
            const FORMAT: Format = Format::$format;
            const NAME: &'static str = $name;
            const LEN: usize = 1;
            const BYTES: usize = $bytes;

            fn read(block: &[u8], out: &mut [f32]) {
                let bytes: [u8; $bytes] = std::array::from_fn(|i| block[i]);
                out[0] = $read(bytes);
            }

            fn write(values: &[f32], block: &mut [u8]) -> bool {
                block.copy_from_slice(&$write(values[0]));
                true
            }
        }
    };
}

float!(F32, "f32", 4, f32::from_le_bytes, f32::to_le_bytes);
float!(F16, "f16", 2, |b| f16::from_le_bytes(b).to_f32(), |x| f16::from_f32(x).to_le_bytes());
float!(BF16, "bf16", 2, |b| bf16::from_le_bytes(b).to_f32(), |x| bf16::from_f32(x).to_le_bytes());
