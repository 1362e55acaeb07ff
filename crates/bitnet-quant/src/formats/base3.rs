//! Five ternary digits in a byte.
//!
//! The digits, first one most significant, are a number `v` below 243; the byte is `ceil(v * 256 / 243)`, so that digit `k` is the
//! carry of a multiplication: `((byte * 3^k mod 256) * 3) >> 8`. Digits are codes plus one.

const POWERS: [u8; 5] = [1, 3, 9, 27, 81];

/// Code `k` of a byte, the most significant first.
#[inline]
pub const fn code(byte: u8, k: usize) -> i8 {
    ((byte.wrapping_mul(POWERS[k]) as u16 * 3) >> 8) as i8 - 1
}

/// A number of up to five digits, with one more of them behind it.
#[inline]
pub const fn push(value: u8, code: i8) -> u8 {
    value * 3 + (code + 1) as u8
}

/// The byte of a number of five digits: `v + ceil(v * 13 / 243)`, where a multiplication by 270 / 2^16 is as good as the division.
#[inline]
pub const fn byte(value: u8) -> u8 {
    value + (((value as u16 * 13 + 242) as u32 * 270) >> 16) as u8
}

const fn table() -> [[i8; 5]; 256] {
    let mut codes = [[0; 5]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut k = 0;
        while k < 5 {
            codes[byte][k] = code(byte as u8, k);
            k += 1;
        }
        byte += 1;
    }
    codes
}

/// The five codes of every byte, most significant digit first.
pub static CODES: [[i8; 5]; 256] = table();

/// The byte of up to five codes, most significant digit first; missing ones are digit 0.
#[inline]
pub fn pack(codes: impl IntoIterator<Item = i8>) -> u8 {
    let (mut value, mut count) = (0, 0);
    for code in codes {
        value = push(value, code);
        count += 1;
    }
    byte(value * 3u8.pow(5 - count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_of_five_codes_comes_back() {
        for value in 0..243i32 {
            let codes: [i8; 5] = std::array::from_fn(|k| (value / 3i32.pow(4 - k as u32) % 3 - 1) as i8);
            assert_eq!(i32::from(pack(codes)), (value * 256 + 242) / 243);
            assert_eq!(CODES[usize::from(pack(codes))], codes);
        }
    }
}
