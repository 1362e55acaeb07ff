//! Rows of f16 and bf16 from and to f32. Numbers are little-endian.

use crate::{
    lanes::Lanes,
    math::{self, LANES},
};

/// `y = x` exactly. `bytes: [2 C]`, `y: [C]`.
#[inline(always)]
pub(crate) fn read_f16<L: Lanes>(bytes: &[u8], y: &mut [f32]) {
    let ((bytes, bytes_tail), (y, y_tail)) = (bytes.as_chunks(), y.as_chunks_mut::<LANES>());
    for (y, x) in y.iter_mut().zip(bytes) {
        *y = L::load_f16(x).to_array();
    }
    for (y, x) in y_tail.iter_mut().zip(bytes_tail.as_chunks().0) {
        *y = math::f16_to_f32(u16::from_le_bytes(*x));
    }
}

/// The nearest f16, half to even. `x: [C]`, `bytes: [2 C]`.
#[inline(always)]
pub(crate) fn write_f16<L: Lanes>(x: &[f32], bytes: &mut [u8]) {
    let ((x, x_tail), (bytes, bytes_tail)) = (x.as_chunks(), bytes.as_chunks_mut::<32>());
    for (y, x) in bytes.iter_mut().zip(x) {
        *y = L::load(x).to_f16();
    }
    for (y, x) in bytes_tail.as_chunks_mut().0.iter_mut().zip(x_tail) {
        *y = math::f32_to_f16(*x).to_le_bytes();
    }
}

/// As [`read_f16`], of bf16.
#[inline(always)]
pub(crate) fn read_bf16(bytes: &[u8], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(bytes.as_chunks().0) {
        *y = math::bf16_to_f32(u16::from_le_bytes(*x));
    }
}

/// As [`write_f16`], of bf16.
#[inline(always)]
pub(crate) fn write_bf16(x: &[f32], bytes: &mut [u8]) {
    for (y, x) in bytes.as_chunks_mut().0.iter_mut().zip(x) {
        *y = math::f32_to_bf16(*x).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_survive_the_way_there_and_back() {
        let x = [0.0, -1.5, 65504.0, 6.1e-5];
        let (mut bytes, mut y) = ([0; 8], [9.0; 4]);
        write_f16::<[f32; LANES]>(&x, &mut bytes);
        assert_eq!(bytes[..4], [0, 0, 0x00, 0xbe]);
        read_f16::<[f32; LANES]>(&bytes, &mut y);
        assert_eq!(y[..3], x[..3]);
    }

    #[test]
    fn brain_floats_are_the_upper_halves_of_floats() {
        let (mut bytes, mut y) = ([0; 6], [9.0; 3]);
        write_bf16(&[1.0, -3.0, 1.0 + 1.0 / 256.0], &mut bytes);
        assert_eq!(bytes, [0x80, 0x3f, 0x40, 0xc0, 0x80, 0x3f]);
        read_bf16(&bytes, &mut y);
        assert_eq!(y, [1.0, -3.0, 1.0]);
    }
}
