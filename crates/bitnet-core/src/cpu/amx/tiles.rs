//! The tile registers: eight matrices of up to sixteen rows of 64 bytes. The compiler has no stable names for their instructions, and no use
//! for the registers of its own, so that each block of assembly finds them as the last one of the same thread left them.

use std::{
    arch::{asm, x86_64::*},
    marker::PhantomData,
    sync::OnceLock,
};

/// Rows of a tile, and 32-bit columns.
pub(super) const SIDE: usize = 16;
/// Bytes of a row.
pub(super) const ROW_BYTES: usize = 64;

/// Four tiles of sums, of two tiles of activations with two tiles of weight rows: `[activations][rows][token][row]`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums(pub [[[[i32; SIDE]; SIDE]; 2]; 2]);

impl Sums {
    pub(super) const ZERO: Self = Self([[[[0; SIDE]; SIDE]; 2]; 2]);
}

/// Weights of two tiles of rows, 64 columns of each: `[row tile][column / 4][row][column % 4]`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Weights(pub [[[u8; ROW_BYTES]; SIDE]; 2]);

impl Weights {
    pub(super) const ZERO: Self = Self([[[0; ROW_BYTES]; SIDE]; 2]);
}

/// Those of the features that the processor lacks, or the permission to use them, which is asked for once.
pub(super) fn lacking() -> &'static [&'static str] {
    static LACKING: OnceLock<Vec<&'static str>> = OnceLock::new();
    LACKING.get_or_init(|| {
        const FEATURES: u32 = 7;
        let edx = if __cpuid(0).eax < FEATURES { 0 } else { __cpuid_count(FEATURES, 0).edx };
        let mut lacking = Vec::new();
        for (name, bit) in [("amx-tile", 24), ("amx-int8", 25)] {
            if edx >> bit & 1 == 0 {
                lacking.push(name);
            }
        }
        if lacking.is_empty() && !permitted() {
            lacking.push("the system's permission for AMX");
        }
        lacking
    })
}

/// Asks Linux for the registers, on behalf of all threads.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
}

/// Other systems are not known to us.
#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The registers in shapes for tokens: 0 to 3 hold sums, 4 and 5 activations, 6 and 7 weights. Given back at the end.
pub(super) struct Shapes {
    /// Tokens of the two tiles of activations.
    tokens: [usize; 2],
    /// Registers belong to a thread.
    thread: PhantomData<*mut ()>,
}

impl Shapes {
    /// For so many tokens, 1 to 16, in each of two tiles of activations.
    ///
    /// # Safety
    /// Nothing is [`lacking`], and this thread has no other shapes.
    pub(super) unsafe fn new(tokens: [usize; 2]) -> Self {
        #[repr(C, align(64))]
        struct Config {
            palette: u8,
            reserved: [u8; 15],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        assert!(tokens.iter().all(|n| (1..=SIDE).contains(n)), "{tokens:?} tokens in tiles of {SIDE}");
        let [first, second] = tokens.map(|n| n as u8);
        let mut config = Config { palette: 1, reserved: [0; 15], row_bytes: [0; 16], rows: [0; 16] };
        config.row_bytes[..8].fill(ROW_BYTES as u16);
        config.rows[..8].copy_from_slice(&[first, first, second, second, first, second, 16, 16]);
        // SAFETY: the caller vouches for the instruction, and it reads the 64 bytes of the structure.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly, preserves_flags))
        };
        Self { tokens, thread: PhantomData }
    }

    /// Sets the sums to zero.
    #[inline(always)]
    pub(super) fn clear(&self) {
        // SAFETY: the registers have shapes.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nostack, nomem, preserves_flags)
            )
        };
    }

    /// Writes the sums of the tokens.
    #[inline(always)]
    pub(super) fn store(&self, sums: &mut Sums) {
        // SAFETY: the sums are as large as their tiles.
        unsafe {
            asm!(
                "tilestored [{sums} + {row}], tmm0",
                "tilestored [{sums} + {row} + 1024], tmm1",
                "tilestored [{sums} + {row} + 2048], tmm2",
                "tilestored [{sums} + {row} + 3072], tmm3",
                sums = in(reg) sums,
                row = in(reg) ROW_BYTES,
                options(nostack, preserves_flags)
            )
        };
    }

    /// Adds the products of the tokens of both tiles with the weights. Rows of activations are `stride` bytes apart, and their first 64 bytes are
    /// those of the first element of `weights`.
    ///
    /// # Panics
    /// Where there are fewer activations.
    #[inline(always)]
    pub(super) fn add_products(&self, x: &[i8], stride: usize, weights: &[Weights]) {
        let tokens = self.tokens[0] + self.tokens[1];
        assert!(
            (tokens - 1) * stride + weights.len() * ROW_BYTES <= x.len(),
            "activations of {tokens} tokens"
        );
        if weights.is_empty() {
            return;
        }
        // SAFETY: the activations were counted; weights are as large as their tiles, and there are some.
        unsafe {
            asm!(
                "2:",
                "tileloadd tmm4, [{x} + {stride}]",
                "tileloadd tmm6, [{w} + {row}]",
                "tdpbsud tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{w} + {row} + 1024]",
                "tdpbsud tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{z} + {stride}]",
                "tdpbsud tmm2, tmm5, tmm6",
                "tdpbsud tmm3, tmm5, tmm7",
                "add {x}, 64",
                "add {z}, 64",
                "add {w}, 2048",
                "dec {n}",
                "jnz 2b",
                row = in(reg) ROW_BYTES,
                stride = in(reg) stride,
                x = inout(reg) x.as_ptr() => _,
                z = inout(reg) x[self.tokens[0] * stride..].as_ptr() => _,
                w = inout(reg) weights.as_ptr() => _,
                n = inout(reg) weights.len() => _,
                options(nostack, readonly),
            );
        }
    }

    /// Adds the products of the tokens of one tile, with the first element of `weights` to the sums of the first tile and with the second to
    /// those of the second: what follows need not wait for the other. Otherwise as [`add_products`](Self::add_products).
    ///
    /// # Panics
    /// Where there are fewer activations.
    #[inline(always)]
    pub(super) fn add_in_turns(&self, x: &[i8], stride: usize, weights: &[Weights; 2]) {
        let tokens = self.tokens[0].max(self.tokens[1]);
        assert!((tokens - 1) * stride + 2 * ROW_BYTES <= x.len(), "activations of {tokens} tokens");
        // SAFETY: as in `add_products`.
        unsafe {
            asm!(
                "tileloadd tmm4, [{x} + {stride}]",
                "tileloadd tmm6, [{w} + {row}]",
                "tdpbsud tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{w} + {row} + 1024]",
                "tdpbsud tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{x} + {stride} + 64]",
                "tileloadd tmm6, [{w} + {row} + 2048]",
                "tdpbsud tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{w} + {row} + 3072]",
                "tdpbsud tmm3, tmm5, tmm7",
                row = in(reg) ROW_BYTES,
                stride = in(reg) stride,
                x = in(reg) x.as_ptr(),
                w = in(reg) weights.as_ptr(),
                options(nostack, readonly, preserves_flags),
            );
        }
    }
}

impl Drop for Shapes {
    fn drop(&mut self) {
        // SAFETY: shapes exist only where the instruction does.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// Products on registers; the number of multiply-adds.
///
/// # Safety
/// Nothing is [`lacking`].
pub(super) unsafe fn peak(rounds: usize) -> u64 {
    const PRODUCTS: usize = 4 * SIDE * SIDE * ROW_BYTES;
    let rounds = rounds.max(1);
    // SAFETY: the caller vouches for the registers.
    let _shapes = unsafe { Shapes::new([SIDE; 2]) };
    // SAFETY: all tiles have a shape; a register that was not loaded holds zeros.
    unsafe {
        asm!(
            "2:",
            "tdpbsud tmm0, tmm4, tmm6",
            "tdpbsud tmm1, tmm4, tmm7",
            "tdpbsud tmm2, tmm5, tmm6",
            "tdpbsud tmm3, tmm5, tmm7",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) rounds => _,
            options(nostack, nomem),
        );
    }
    (rounds * PRODUCTS) as u64
}
