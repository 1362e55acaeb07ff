//! Rows of f16 from and to f32. Numbers are little-endian.

use crate::math;

/// `y = x` exactly. `bytes: [2 C]`, `y: [C]`.
#[inline(always)]
pub fn read_f16(bytes: &[u8], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(bytes.as_chunks().0) {
        *y = math::f16_to_f32(u16::from_le_bytes(*x));
    }
}

/// The nearest f16, half to even. `x: [C]`, `bytes: [2 C]`.
#[inline(always)]
pub fn write_f16(x: &[f32], bytes: &mut [u8]) {
    for (y, x) in bytes.as_chunks_mut().0.iter_mut().zip(x) {
        *y = math::f32_to_f16(*x).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_survive_the_way_there_and_back() {
        let x = [0.0, -1.5, 65504.0, 6.1e-5];
        let (mut bytes, mut y) = ([0; 8], [9.0; 4]);
        write_f16(&x, &mut bytes);
        assert_eq!(bytes[..4], [0, 0, 0x00, 0xbe]);
        read_f16(&bytes, &mut y);
        assert_eq!(y[..3], x[..3]);
    }
}
