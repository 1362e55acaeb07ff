//! Ternary products of many tokens in the tile registers of AMX; everything else is that of AVX-512.

mod bit_matmul;
mod tiles;

use super::{avx512, kernels::Kernels, partition::ColumnsMut};
use crate::ops::bit_matmul::{CodeRows, TernaryRows};

/// Tokens from which on tiles are faster: AVX-512 multiplies up to six at once.
const TOKENS: usize = 7;

pub(super) const TABLE: Kernels = Kernels { name: "amx", integer_peak, bit_matmul, ..avx512::TABLE };

fn bit_matmul(weight: TernaryRows<'_>, x: CodeRows<'_>, y: &mut ColumnsMut<'_>) {
    if x.tokens() < TOKENS {
        return (avx512::TABLE.bit_matmul)(weight, x, y);
    }
    // SAFETY: the table is handed out only where nothing is `lacking`.
    unsafe { bit_matmul::multiply(weight, x, y) }
}

fn integer_peak(rounds: usize) -> u64 {
    // SAFETY: as above.
    unsafe { tiles::peak(rounds) }
}

/// What the processor lacks to run this tier, or the permission of the system to use the registers.
pub(super) fn lacking() -> Vec<&'static str> {
    let mut lacking = avx512::lacking();
    lacking.extend::<Vec<&str>>(lacking!("gfni"));
    lacking.extend(tiles::lacking());
    lacking
}
