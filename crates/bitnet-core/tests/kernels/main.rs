//! Every tier that this processor runs gives the bits of the scalar tier and writes nothing else.

mod quantize;
mod screen;
mod training;

use bitnet_core::cpu::kernels::{Attention, Kernels, KvStore, MatmulT, TripleDots};
use bitnet_core::cpu::partition::ColumnsMut;
use bitnet_core::cpu::threads::Threads;
use bitnet_core::ops::attention::{Past, attend_all};
use bitnet_core::ops::bit_matmul::{CodeRows, TernaryRows};
use bitnet_core::ops::cache::{BLOCK_LEN, CacheType, KvShape};
use bitnet_core::ops::triples::{self, Table};
use std::fmt::Debug;
use std::sync::LazyLock;

/// Row lengths: around a lane group and a weight block, an odd multiple, a large one.
const LENGTHS: [usize; 12] = [1, 7, 15, 16, 17, 31, 33, 127, 128, 129, 21 * 16, 4096];

/// Seeded numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.bits() as u8).collect()
    }

    /// In -1..1.
    fn float(&mut self) -> f32 {
        self.bits() as i32 as f32 / (1u32 << 31) as f32
    }

    fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }

    /// Zeros of both signs, denormals, tiny and large numbers among ordinary ones.
    fn extremes(&mut self, len: usize) -> Vec<f32> {
        let scales = [0.0, 1e-42, 1e-38, 1e-6, 1.0, 1.0, 1.0, 300.0, 1e9, 1e17];
        (0..len).map(|_| self.float() * scales[self.bits() as usize % scales.len()]).collect()
    }

    /// Rows that kernels may meet.
    fn rows(&mut self, len: usize) -> [Vec<f32>; 5] {
        [
            vec![0.0; len],
            vec![-0.0; len],
            self.floats(len).iter().map(|x| x * 1e-41).collect(),
            self.floats(len),
            self.extremes(len),
        ]
    }
}

fn fast_tiers() -> impl Iterator<Item = &'static Kernels> {
    Kernels::available().filter(|kernels| kernels.name != "scalar")
}

const GUARD: usize = 64;

/// What `write` puts into `len` elements; fails if it writes around them.
fn guarded<T: Copy + PartialEq + Debug>(len: usize, sentinel: T, write: impl FnOnce(&mut [T])) -> Vec<T> {
    let mut all = vec![sentinel; len + 2 * GUARD];
    write(&mut all[GUARD..][..len]);
    assert_eq!(all[..GUARD], [sentinel; GUARD], "before the output");
    assert_eq!(all[GUARD + len..], [sentinel; GUARD], "behind the output");
    all[GUARD..][..len].to_vec()
}

/// Bits of the floats that `write` puts into `len` elements.
fn float_bits(len: usize, write: impl FnOnce(&mut [f32])) -> Vec<u32> {
    guarded(len, 12345.0, write).into_iter().map(f32::to_bits).collect()
}

/// Bits of the middle third of the columns of a matrix; the others must stay as they are.
fn column_bits(rows: usize, tokens: usize, write: impl Fn(&mut ColumnsMut<'_>) + Sync) -> Vec<u32> {
    static THREADS: LazyLock<Threads> = LazyLock::new(|| Threads::new(3));
    let mut y = vec![12345.0f32; 3 * rows * tokens];
    THREADS.for_each_columns(&mut y, 3 * rows, rows, |mut columns| {
        if columns.range().start == rows {
            write(&mut columns);
        }
    });
    let thirds = y.chunks(rows).enumerate();
    let (middle, others): (Vec<_>, Vec<_>) = thirds.partition(|(i, _)| i % 3 == 1);
    assert!(others.iter().all(|(_, y)| y.iter().all(|y| *y == 12345.0)), "beside the columns");
    middle.iter().flat_map(|(_, y)| y.iter().map(|y| y.to_bits())).collect()
}

/// Compares a row kernel of every tier with the scalar one on all kinds of rows.
fn check_rows(what: &str, run: impl Fn(&Kernels, &[f32], &[f32]) -> Vec<u32>) {
    let mut random = Random(1);
    for len in LENGTHS {
        for (x, y) in random.rows(len).iter().zip(random.rows(len).iter().rev()) {
            let expected = run(&Kernels::SCALAR, x, y);
            for tier in fast_tiers() {
                assert_eq!(run(tier, x, y), expected, "{what}, {}, {len} elements", tier.name);
            }
        }
    }
}

#[test]
fn rms_norm_is_the_same_on_every_tier() {
    check_rows("rms_norm", |k, x, w| float_bits(x.len(), |y| (k.rms_norm)(x, w, 1e-5, y)));
}

#[test]
fn add_is_the_same_on_every_tier() {
    check_rows("add", |k, x, y| {
        float_bits(x.len(), |z| {
            z.copy_from_slice(x);
            (k.add)(z, y);
        })
    });
}

#[test]
fn glu_is_the_same_on_every_tier() {
    check_rows("relu2", |k, x, up| float_bits(x.len(), |y| (k.glu_relu2)(x, up, y)));
    check_rows("silu", |k, x, up| float_bits(x.len(), |y| (k.glu_silu)(x, up, y)));
}

#[test]
fn softmax_is_the_same_on_every_tier() {
    check_rows("softmax", |k, x, _| float_bits(x.len(), |y| (k.softmax)(x, y)));
}

#[test]
fn rope_is_the_same_on_every_tier() {
    check_rows("rope", |k, x, angles| {
        let sin: Vec<f32> = angles.iter().rev().copied().collect();
        let both = [x, angles].concat();
        float_bits(both.len(), |z| {
            z.copy_from_slice(&both);
            (k.rope)(z, angles, &sin);
        })
    });
}

#[test]
fn conversion_to_and_from_f16_is_the_same_on_every_tier() {
    check_rows("f16", |k, x, _| {
        let bytes = guarded(2 * x.len(), 0xa5, |bytes| (k.write_f16)(x, bytes));
        let mut bits = float_bits(x.len(), |y| (k.read_f16)(&bytes, y));
        bits.extend(bytes.iter().map(|byte| u32::from(*byte)));
        bits
    });
}

#[test]
fn conversion_from_bf16_is_the_same_on_every_tier() {
    check_rows("bf16", |k, x, _| {
        let bytes = guarded(2 * x.len(), 0xa5, |bytes| (k.write_bf16)(x, bytes));
        let mut bits = float_bits(x.len(), |y| (k.read_bf16)(&bytes, y));
        bits.extend(bytes.iter().map(|byte| u32::from(*byte)));
        bits
    });
}

#[test]
fn every_half_is_read_the_same_on_every_tier() {
    let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let run =
        |k: &Kernels| [k.read_f16, k.read_bf16].map(|read| float_bits(bytes.len() / 2, |y| read(&bytes, y)));
    for tier in fast_tiers() {
        assert!(run(tier) == run(&Kernels::SCALAR), "{}", tier.name);
    }
}

/// Every sign and exponent, with all mantissas whose low bits are around a half of the last place of an f16 or a bf16.
#[test]
fn floats_of_all_exponents_are_rounded_the_same_on_every_tier() {
    let low = [0, 1, 0xfff, 0x1000, 0x1001, 0x1fff, 0x7fff, 0x8000, 0x8001];
    let floats = |high: u32| (0..1u32 << 10).flat_map(move |m| low.map(|low| high << 23 | m << 13 ^ low));
    for high in 0..1 << 9 {
        let x: Vec<f32> = floats(high).map(f32::from_bits).collect();
        let run = |k: &Kernels| {
            [k.write_f16, k.write_bf16].map(|write| guarded(2 * x.len(), 0xa5, |bytes| write(&x, bytes)))
        };
        let expected = run(&Kernels::SCALAR);
        for tier in fast_tiers() {
            assert!(run(tier) == expected, "{}, sign and exponent {high:x}", tier.name);
        }
    }
}

#[test]
fn a_row_by_a_matrix_has_the_bits_of_the_reference_on_every_tier() {
    let mut random = Random(16);
    for inner in [1, 3, 4, 9, 64] {
        for cols in [1, 7, 16, 33, 100] {
            let stride = cols + inner % 3;
            let (x, b) = (random.floats(inner), random.floats((inner - 1) * stride + cols));
            let run = |k: &Kernels| {
                let mut y = vec![f32::NAN; cols];
                (k.matmul_row)(&x, &b, stride, &mut y);
                y
            };
            let expected: Vec<f32> =
                (0..cols).map(|c| (0..inner).fold(0.0, |sum, i| sum + x[i] * b[i * stride + c])).collect();
            for k in Kernels::available() {
                assert!(run(k) == expected, "{}, {inner} x {cols}", k.name);
            }
        }
    }
}

#[test]
fn matrices_are_transposed_by_every_tier() {
    let mut random = Random(14);
    for size in [1, 2, 4, 8] {
        for rows in [1, 2, 3, 4, 7, 8, 9, 16, 17, 31, 64, 65] {
            for cols in [1, 2, 3, 4, 5, 8, 9, 15, 16, 31, 32, 33, 64, 67] {
                let stride = rows + rows % 3;
                let x = random.bytes(((cols - 1) * stride + rows) * size);
                let places = (0..rows * cols).map(|i| (i % cols * stride + i / cols) * size);
                let expected: Vec<u8> = places.flat_map(|at| x[at..at + size].to_vec()).collect();
                for k in Kernels::available() {
                    let write = |y: &mut [u8]| (k.transpose)(size, &x, stride, y, cols);
                    let got = guarded(expected.len(), 0xa5, write);
                    assert!(got == expected, "{}, {rows} x {cols} of {size} bytes", k.name);
                }
            }
        }
    }
}

#[test]
fn rows_are_streamed_to_their_places_by_every_tier() {
    let mut random = Random(15);
    for (width, pitch) in [(1, 1), (3, 5), (31, 40), (32, 32), (64, 96), (100, 128), (129, 131)] {
        let x = random.bytes(7 * width);
        let len = 6 * pitch + width;
        let expected: Vec<u8> = (0..len)
            .map(|i| if i % pitch < width { x[i / pitch * width + i % pitch] } else { 0xa5 })
            .collect();
        for k in Kernels::available() {
            let got = guarded(len, 0xa5, |y| (k.stream)(&x, width, y, pitch));
            (k.fence)();
            assert!(got == expected, "{}, {width} of {pitch} bytes", k.name);
        }
    }
}

#[test]
fn activations_are_quantized_the_same_on_every_tier() {
    check_rows("quantize_activation", |k, x, _| {
        let mut row = None;
        let codes =
            guarded(x.len().next_multiple_of(128), 99, |codes| row = Some((k.quantize_activation)(x, codes)));
        let row = row.unwrap();
        let sum: i32 = codes.iter().map(|code| i32::from(*code)).sum();
        assert_eq!(row.sum, sum);
        codes.iter().map(|code| *code as u32).chain([row.scale.to_bits()]).collect()
    });
}

/// A ternary product with codes from `code` and stored weights from `weight`.
fn check_product(
    rows: usize,
    tokens: usize,
    blocks: usize,
    code: impl FnMut() -> i8,
    weight: impl FnMut() -> u8,
) {
    let codes: Vec<i8> = std::iter::repeat_with(code).take(tokens * blocks * 128).collect();
    let sums: Vec<i32> =
        codes.chunks(blocks * 128).map(|row| row.iter().map(|c| i32::from(*c)).sum()).collect();
    let factors: Vec<f32> = (0..tokens).map(|t| 3.0 + t as f32).collect();
    let bytes: Vec<u8> = std::iter::repeat_with(weight).take(rows * blocks * 32).collect();
    let row_scales: Vec<f32> = (0..rows).map(|r| 0.3 + r as f32).collect();
    let x = CodeRows { codes: &codes, scales: &factors, sums: &sums };
    for scales in [&row_scales[..], &[0.7]] {
        let weight = TernaryRows { bytes: &bytes, scales };
        let run = |k: &Kernels| column_bits(rows, tokens, |y| (k.bit_matmul)(weight, x, y));
        let expected = run(&Kernels::SCALAR);
        for tier in fast_tiers() {
            assert_eq!(run(tier), expected, "{}, {rows} rows, {tokens} tokens, {blocks} blocks", tier.name);
        }
    }
}

/// Four stored codes, none of them 3.
fn ternary_byte(random: &mut Random) -> u8 {
    (0..4).fold(0, |byte, _| byte << 2 | (random.bits() % 3) as u8)
}

#[test]
fn ternary_products_of_all_shapes_are_the_same_on_every_tier() {
    let (mut codes, mut weights) = (Random(2), Random(3));
    for rows in [1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 33, 40] {
        for tokens in [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 16, 17, 25, 32, 33, 64, 71] {
            for blocks in [1, 2, 3, 17] {
                check_product(rows, tokens, blocks, || codes.bits() as i8, || ternary_byte(&mut weights));
            }
        }
    }
}

#[test]
fn ternary_products_of_long_rows_are_the_same_on_every_tier() {
    let (mut codes, mut weights) = (Random(4), Random(5));
    for blocks in [15, 16, 32, 33, 54, 128] {
        check_product(9, 7, blocks, || codes.bits() as i8, || ternary_byte(&mut weights));
    }
    check_product(290, 40, 17, || codes.bits() as i8, || ternary_byte(&mut weights));
}

/// Products of random blocks of triples, every value of 16 bits among the words that `word` gives, with codes from `code`.
fn check_triples(blocks: usize, cols: usize, mut word: impl FnMut() -> u16, code: impl FnMut() -> i8) {
    let codes: Vec<i8> = std::iter::repeat_with(code).take(cols).collect();
    let words = triples::bytes(32 * blocks, cols) / 2;
    let bytes: Vec<u8> = (0..words).flat_map(|_| word().to_le_bytes()).collect();
    let run = |k: &Kernels, dots: TripleDots| {
        let mut tables = vec![Table([-1; 32]); triples::units(cols) * triples::TRIPLES];
        (k.triple_tables)(&codes, &mut tables);
        let mut sums = vec![[-1; 32]; blocks];
        dots(&bytes, &tables, &mut sums);
        (tables, sums)
    };
    let expected = run(&Kernels::SCALAR, triples::reference);
    for k in Kernels::available() {
        let got = run(k, k.triple_dots.unwrap_or(triples::reference));
        assert!(got == expected, "{}, {blocks} blocks of {cols} columns", k.name);
    }
}

#[test]
fn products_of_triples_are_the_same_on_every_tier() {
    let mut random = Random(21);
    let mut codes = Random(22);
    for blocks in [1, 2, 3, 4, 5, 8, 9] {
        for cols in [1, 2, 3, 47, 48, 49, 128, 240, 241, 640, 2560] {
            check_triples(blocks, cols, || random.bits() as u16, || codes.bits() as i8);
        }
    }
}

#[test]
fn products_of_extreme_triples_do_not_overflow() {
    // The triples that are worth most, 26 and 0, in all places of a word; the last of a unit has a bit of each.
    for word in [26 | 26 << 5 | 26 << 10, 0, 0x7fff] {
        for code in [-128, 127] {
            check_triples(5, 6912, || word, || code);
        }
    }
}

#[test]
fn ternary_products_of_extreme_codes_do_not_overflow() {
    for code in [-128, -127, 127] {
        for weight in [0x00, 0x55, 0xaa, 0x22, 0x88] {
            for tokens in [3, 18] {
                check_product(8, tokens, 70, || code, || weight);
            }
        }
    }
}

#[test]
fn every_byte_of_weights_meets_every_position_of_a_block() {
    let mut next = 0usize;
    let bytes: Vec<u8> = (0..=255).filter(|b| (0..4).all(|k| b >> (2 * k) & 3 != 3)).collect();
    let mut code = Random(6);
    // 81 bytes and 32 positions have no common factor.
    let mut weight = || {
        next += 1;
        bytes[next % bytes.len()]
    };
    for tokens in [6, 20] {
        check_product(8, tokens, 81, || code.bits() as i8, &mut weight);
    }
}

fn check_matmul_t(
    what: &str,
    kernel: fn(&Kernels) -> MatmulT,
    cols: usize,
    mut row: impl FnMut() -> Vec<u8>,
) {
    let mut random = Random(7);
    for rows in [1, 3, 4, 8, 21] {
        for tokens in [1, 2, 4, 5, 9] {
            let weight: Vec<u8> = (0..rows).flat_map(|_| row()).collect();
            let x = random.floats(tokens * cols);
            let run = |k: &Kernels| column_bits(rows, tokens, |y| kernel(k)(&weight, &x, y));
            let expected = run(&Kernels::SCALAR);
            for tier in fast_tiers() {
                assert_eq!(run(tier), expected, "{what}, {}, {rows} x {cols}, {tokens} tokens", tier.name);
            }
        }
    }
}

#[test]
fn rows_of_floats_are_multiplied_the_same_on_every_tier() {
    let mut random = Random(8);
    for cols in LENGTHS {
        let cols = cols.min(600);
        check_matmul_t(
            "f32",
            |k| k.matmul_t_f32,
            cols,
            || random.extremes(cols).iter().flat_map(|w| w.to_le_bytes()).collect(),
        );
        check_matmul_t(
            "bf16",
            |k| k.matmul_t_bf16,
            cols,
            || {
                random
                    .extremes(cols)
                    .iter()
                    .flat_map(|w| ((w.to_bits() >> 16) as u16).to_le_bytes())
                    .collect()
            },
        );
        check_matmul_t("f16", |k| k.matmul_t_f16, cols, || half_bytes(&mut random, cols));
    }
}

/// Finite halves of any exponent.
fn half_bytes(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).flat_map(|_| (random.bits() as u16 & 0xbfff).to_le_bytes()).collect()
}

#[test]
fn rows_of_q8_0_are_multiplied_the_same_on_every_tier() {
    let mut random = Random(9);
    for blocks in [1, 2, 5] {
        check_matmul_t(
            "q8_0",
            |k| k.matmul_t_q8_0,
            blocks * 32,
            || (0..blocks).flat_map(|_| [half_bytes(&mut random, 1), random.bytes(32)].concat()).collect(),
        );
    }
}

#[test]
fn rows_of_q6_k_are_multiplied_the_same_on_every_tier() {
    let mut random = Random(10);
    for blocks in [1, 2, 3] {
        check_matmul_t(
            "q6_k",
            |k| k.matmul_t_q6_k,
            blocks * 256,
            || (0..blocks).flat_map(|_| [random.bytes(208), half_bytes(&mut random, 1)].concat()).collect(),
        );
    }
}

/// A cache of two heads in which `len` positions are stored and everything else is NaN.
fn fill_cache(store: KvStore, shape: KvShape, blocks: &[u32], len: usize) -> Vec<u8> {
    let mut random = Random(11);
    let mut cache = vec![0xff; shape.block_bytes() * (blocks.len() + 1)];
    for position in 0..len {
        for head in 0..shape.heads {
            let run =
                &mut cache[shape.offset(blocks[position / BLOCK_LEN] as usize, head)..][..shape.head_bytes()];
            let (k, v) = (random.floats(shape.head_dim), random.floats(shape.head_dim));
            store(&k, &v, position % BLOCK_LEN, run);
        }
    }
    cache
}

#[test]
fn keys_and_values_are_stored_the_same_on_every_tier() {
    for storage in [CacheType::F32, CacheType::F16, CacheType::Q8_0] {
        for head_dim in [2, 16, 40, 64, 128] {
            let shape = KvShape { heads: 2, head_dim, storage };
            let run = |k: &Kernels| fill_cache(k.kv_store(storage), shape, &[1, 0], 37);
            let expected = run(&Kernels::SCALAR);
            for tier in fast_tiers() {
                assert!(run(tier) == expected, "{storage:?}, {}, D = {head_dim}", tier.name);
            }
        }
    }
}

fn check_attention(storage: CacheType, kernel: fn(&Kernels) -> Attention) {
    let blocks = [9, 3, 0, 2, 1, 5, 4, 8, 7, 6];
    for head_dim in [2, 16, 40, 64, 80, 128] {
        let shape = KvShape { heads: 2, head_dim, storage };
        for len in [1, 31, 32, 33, 64, 100, 128, 300] {
            let cache = fill_cache(Kernels::SCALAR.kv_store(storage), shape, &blocks, len);
            for heads in [1, 2, 3, 4, 5, 8] {
                let q: Vec<f32> = Random(12).floats(heads * head_dim).iter().map(|q| 9.0 * q).collect();
                let past = Past { cache: &cache, shape, blocks: &blocks, head: 1, start: 0, end: len };
                let run = |k: &Kernels| {
                    float_bits(heads * head_dim, |y| attend_all(kernel(k), &q, past, &mut vec![], y))
                };
                let expected = run(&Kernels::SCALAR);
                assert!(expected.iter().all(|y| f32::from_bits(*y).is_finite()), "stale slots leak");
                for tier in fast_tiers() {
                    let what = (storage, tier.name, head_dim, len, heads);
                    assert!(run(tier) == expected, "{what:?}");
                }
            }
        }
    }
}

#[test]
fn attention_is_the_same_on_every_tier() {
    check_attention(CacheType::F32, |k| k.attention_f32);
    check_attention(CacheType::F16, |k| k.attention_f16);
    check_attention(CacheType::Q8_0, |k| k.attention_q8_0);
}

#[test]
fn tables_are_found_by_their_names() {
    for kernels in Kernels::available() {
        assert_eq!(Kernels::by_name(kernels.name).unwrap().name, kernels.name);
    }
    assert!(Kernels::by_name("abacus").is_none());
}

/// FNV-1a.
fn hash(bits: impl IntoIterator<Item = u32>) -> u64 {
    bits.into_iter()
        .flat_map(u32::to_le_bytes)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The numbers were written by the scalar tier on x86-64. They fail where a compiler contracts or reorders float operations.
#[test]
fn the_bits_do_not_depend_on_the_architecture() {
    let k = Kernels::best();
    let mut random = Random(13);
    let (x, w) = (random.floats(1000), random.floats(1000));
    assert_eq!(hash(float_bits(1000, |y| (k.rms_norm)(&x, &w, 1e-5, y))), 0x88ec_08b4_f9fb_7f27);
    assert_eq!(hash(float_bits(1000, |y| (k.glu_silu)(&x, &w, y))), 0x5ca3_d57e_25c5_7b29);
    assert_eq!(hash(float_bits(1000, |y| (k.softmax)(&x, y))), 0xbcf4_35c6_b2b5_5894);
    let bytes: Vec<u8> = w.iter().flat_map(|w| w.to_le_bytes()).collect();
    assert_eq!(hash(column_bits(1, 1, |y| (k.matmul_t_f32)(&bytes, &x, y))), 0x38f8_b174_3a61_51df);
    for (storage, expected) in [
        (CacheType::F32, 0x25b1_b4f9_37a4_f26d),
        (CacheType::F16, 0x2f59_8cc2_28f7_b5c1),
        (CacheType::Q8_0, 0xc13f_dfed_9086_7717),
    ] {
        let shape = KvShape { heads: 2, head_dim: 80, storage };
        let cache = fill_cache(k.kv_store(storage), shape, &[1, 2, 0], 77);
        let past = Past { cache: &cache, shape, blocks: &[1, 2, 0], head: 0, start: 0, end: 77 };
        assert_eq!(
            hash(float_bits(240, |y| attend_all(k.attention(storage), &x[..240], past, &mut vec![], y))),
            expected,
            "{storage:?}"
        );
    }
}
