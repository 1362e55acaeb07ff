//! What is counted: kernels at the widths of a 2B model, with few rows.

use crate::floats;
use bitnet_core::cpu::{
    kernels::{Kernels, MatmulT},
    partition::Columns,
};
use bitnet_core::ops::attention::{Past, attend_all};
use bitnet_core::ops::bit_matmul::{CodeRows, TernaryRows};
use bitnet_core::ops::cache::{BLOCK_LEN, CacheType, KvShape};
use bitnet_core::ops::screen::{
    ArrangedTokens, BOUNDED,
    q6_k::{BLOCK, SplitCodes},
};
use bitnet_core::ops::triples::{self, Table};
use bitnet_core::ops::{LargestBounds, RowFigures, TokenFigures};
use bitnet_quant::Format;
use std::hint::black_box;

/// C of microsoft/bitnet-b1.58-2B-4T.
const COLS: usize = 2560;
const ROWS: usize = 64;
/// Tokens of a prompt.
const TOKENS: usize = 16;
/// Positions that attention looks at, query heads of a kv head, and D.
const POSITIONS: usize = 200;
const HEADS: usize = 4;
const HEAD_DIM: usize = 128;

/// Tiers whose instructions can be counted, where the processor has them.
pub(super) const TIERS: [&str; 2] = ["scalar", "avx2"];

/// The function by whose name counting begins and ends.
pub(super) const COUNTED: &str = "counted_region";

/// Calls a kernel, and nothing else.
#[inline(never)]
fn counted_region(kernel: &mut dyn FnMut()) {
    kernel();
    // Not a jump to the kernel, which would have no end.
    black_box(());
}

/// Runs every case of the tiers that this processor has, and tells the name of each.
pub(super) fn run(mut tell: impl FnMut(String)) {
    for kernels in TIERS.iter().filter_map(|tier| Kernels::by_name(tier)) {
        let mut case = |name: &str, kernel: &mut dyn FnMut()| {
            // What is found out or made at the first call is not counted.
            kernel();
            counted_region(kernel);
            tell(format!("{}/{name}", kernels.name));
        };
        ternary(kernels, &mut case);
        triples(kernels, &mut case);
        dense(kernels, &mut case);
        screen(kernels, &mut case);
        attention(kernels, &mut case);
        rows(kernels, &mut case);
    }
}

type Case<'a> = dyn FnMut(&str, &mut dyn FnMut()) + 'a;

fn ternary(kernels: &Kernels, case: &mut Case<'_>) {
    let bytes: Vec<u8> = crate::codes(ROWS * COLS / 4).iter().map(|&code| (0x15 + code) as u8).collect();
    for tokens in [1, TOKENS] {
        let codes: Vec<i8> = (0..tokens * COLS).map(|i| (i * 37) as i8).collect();
        let (scales, sums) = (vec![2.0; tokens], vec![1; tokens]);
        let x = CodeRows { codes: &codes, scales: &scales, sums: &sums };
        let mut y = vec![0.0; tokens * ROWS];
        case(&format!("bit_matmul, {tokens} tokens"), &mut || {
            let weight = TernaryRows { bytes: &bytes, scales: &[0.5] };
            (kernels.bit_matmul)(weight, x, &mut Columns::new(&mut y, ROWS).whole());
        });
    }
}

fn triples(kernels: &Kernels, case: &mut Case<'_>) {
    // The work does not depend on the values.
    let bytes = vec![0x21u8; triples::bytes(ROWS, COLS)];
    let codes: Vec<i8> = (0..COLS).map(|i| (i * 37) as i8).collect();
    let mut tables = vec![Table::ZERO; triples::units(COLS) * triples::TRIPLES];
    case("triple_tables", &mut || (kernels.triple_tables)(&codes, &mut tables));
    let mut sums = vec![[0; triples::ROWS]; ROWS.div_ceil(triples::ROWS)];
    if let Some(dots) = kernels.triple_dots {
        case("triple_dots", &mut || dots(&bytes, &tables, &mut sums));
    }
}

fn dense(kernels: &Kernels, case: &mut Case<'_>) {
    let formats: [(Format, MatmulT); 3] = [
        (Format::F16, kernels.matmul_t_f16),
        (Format::Q8_0, kernels.matmul_t_q8_0),
        (Format::Q6K, kernels.matmul_t_q6_k),
    ];
    for (format, kernel) in formats {
        // The work does not depend on the values.
        let bytes = vec![0x21u8; format.tensor_bytes(ROWS, COLS).expect("whole blocks")];
        for tokens in [1, TOKENS] {
            let (x, mut y) = (floats(tokens * COLS), vec![0.0; tokens * ROWS]);
            case(&format!("matmul_t {format}, {tokens} tokens"), &mut || {
                kernel(&bytes, &x, &mut Columns::new(&mut y, ROWS).whole());
            });
        }
    }
}

fn screen(kernels: &Kernels, case: &mut Case<'_>) {
    let w = floats(COLS);
    let mut codes = vec![0i8; COLS];
    case("screen", &mut || _ = black_box((kernels.screen)(&w, &mut codes)));
    let rows: Vec<i8> = (0..ROWS * COLS).map(|i| (i * 37) as i8).collect();
    let x: Vec<i16> = (0..COLS).map(|i| (i * 131 % 509) as i16 - 254).collect();
    for tokens in [1, TOKENS] {
        let (mut codes, mut lacking, mut sums) = (Vec::new(), Vec::new(), vec![0i64; ROWS * tokens]);
        for _ in 0..tokens {
            let mut arranged = vec![0; COLS];
            lacking.push((kernels.arrange_codes)(&x, &mut arranged));
            codes.extend(arranged);
        }
        let x = ArrangedTokens { codes: &codes, lacking: &lacking };
        case(&format!("screen_dots, {tokens} tokens"), &mut || (kernels.screen_dots)(&rows, x, &mut sums));
    }
    let (guesses, figures) = (floats(ROWS), vec![RowFigures { scale: 1.0, lost: 0.1, length: 2.0 }; ROWS]);
    let token = TokenFigures { length: 3.0, lost: 0.1, least: 1e-40 };
    let mut bounds = vec![LargestBounds::default(); ROWS.div_ceil(BOUNDED)];
    case("largest_bounds", &mut || (kernels.largest_bounds)(&guesses, &figures, &token, &mut bounds));
    let rows = vec![0x21u8; Format::Q6K.tensor_bytes(ROWS, COLS).expect("whole blocks")];
    let (x, mut sums) = (SplitCodes::split(&x), vec![0f32; ROWS]);
    case("screen_dots_q6_k", &mut || (kernels.screen_dots_q6_k)(&rows, &x, COLS / BLOCK, &mut sums));
}

fn attention(kernels: &Kernels, case: &mut Case<'_>) {
    for (name, storage) in [("f32", CacheType::F32), ("f16", CacheType::F16), ("q8_0", CacheType::Q8_0)] {
        let shape = KvShape { heads: 1, head_dim: HEAD_DIM, storage };
        let blocks: Vec<u32> = (0..POSITIONS.div_ceil(BLOCK_LEN) as u32).collect();
        let cache = vec![0x11u8; shape.block_bytes() * blocks.len()];
        let (q, mut y, mut parts) = (floats(HEADS * HEAD_DIM), vec![0.0; HEADS * HEAD_DIM], vec![]);
        let past = Past { cache: &cache, shape, blocks: &blocks, head: 0, start: 0, end: POSITIONS };
        case(&format!("attention {name}"), &mut || {
            attend_all(kernels.attention(storage), &q, past, &mut parts, &mut y)
        });
    }
}

fn rows(kernels: &Kernels, case: &mut Case<'_>) {
    let (x, weight) = (floats(COLS), vec![1.1f32; COLS]);
    let (mut y, mut codes) = (vec![0.0f32; COLS], vec![0i8; COLS]);
    case("quantize_activation", &mut || _ = black_box((kernels.quantize_activation)(&x, &mut codes)));
    case("quantize_normed", &mut || _ = black_box((kernels.quantize_normed)(&x, &weight, 1e-5, &mut codes)));
    case("rms_norm", &mut || (kernels.rms_norm)(&x, &weight, 1e-5, &mut y));
    case("glu relu2", &mut || (kernels.glu_relu2)(&x, &weight, &mut y));
    case("glu silu", &mut || (kernels.glu_silu)(&x, &weight, &mut y));
    case("add", &mut || (kernels.add)(&mut y, &x));
    let (cos, sin) = (floats(HEAD_DIM / 2), vec![0.5; HEAD_DIM / 2]);
    case("rope", &mut || (kernels.rope)(&mut y[..HEAD_DIM], &cos, &sin));
    for (name, storage) in [("f16", CacheType::F16), ("q8_0", CacheType::Q8_0)] {
        let shape = KvShape { heads: 1, head_dim: HEAD_DIM, storage };
        let mut run = vec![0u8; shape.block_bytes()];
        let store = kernels.kv_store(storage);
        case(&format!("kv_store {name}"), &mut || store(&x[..HEAD_DIM], &weight[..HEAD_DIM], 3, &mut run));
    }
}
