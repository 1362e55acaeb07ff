//! Times the kernels against what the machine can do: `cargo run --release -p bitnet-core --example kernels [threads] [tier]
//! [group]`, where a group is `bit_matmul`, `screen`, `matmul_t`, `attention` or `rows`.
//!
//! Few tokens are given as a share of the read bandwidth, many as a share of the integer peak. The ceiling is measured between
//! the passes of the kernel, because on a shared machine it changes from second to second.

use bitnet_core::cpu::ceilings::{best_rate, integer_peak, read_bandwidth};
use bitnet_core::cpu::kernels::{Kernels, MatmulT};
use bitnet_core::cpu::threads::Threads;
use bitnet_core::ops::bit_matmul::{CodeRows, TernaryRows};
use bitnet_core::ops::cache::{BLOCK_LEN, CacheType, KvLayer, KvShape};
use bitnet_core::ops::screen::ArrangedTokens;
use bitnet_core::ops::{PagedSpan, attention as attention_op, kv_store};
use bitnet_core::{DType, Device, Result, Tensor};
use std::hint::black_box;

const PASSES: usize = 7;

/// Bytes of weights that are streamed: beyond every cache.
const STREAM: usize = 256 << 20;

struct Bench {
    threads: Threads,
    kernels: &'static Kernels,
    stream: Vec<i64>,
}

impl Bench {
    fn new(n: usize, kernels: &'static Kernels) -> Self {
        println!("{} on {n} threads", kernels.name);
        Self { threads: Threads::new(n), kernels, stream: vec![1; STREAM / 8] }
    }

    /// The best of `pass`, which does `work`, beside the best of `ceiling`, taken in turns.
    fn compare(&self, work: usize, mut pass: impl FnMut(), ceiling: impl Fn() -> f64) -> (f64, f64) {
        (0..PASSES).fold((0.0, 0.0), |(rate, best), _| {
            (f64::max(rate, best_rate(1, work as f64, &mut pass)), f64::max(best, ceiling()))
        })
    }

    fn bytes(&self, what: &str, work: usize, pass: impl FnMut()) {
        let (rate, best) = self.compare(work, pass, || read_bandwidth(&self.threads, &self.stream, 1));
        let share = 100.0 * rate / best;
        println!(
            "{what:40} {:8.1} GB/s    {share:4.0} % of the {:.1} GB/s that can be read",
            rate / 1e9,
            best / 1e9
        );
    }

    fn macs(&self, what: &str, work: usize, pass: impl FnMut()) {
        let (rate, best) = self.compare(work, pass, || integer_peak(&self.threads, self.kernels, 1));
        let share = 100.0 * rate / best;
        println!(
            "{what:40} {:8.1} GMAC/s  {share:4.0} % of the integer peak of {:.0}",
            rate / 1e9,
            best / 1e9
        );
    }

    fn ternary(&self, tokens: usize, cols: usize) {
        let rows = if tokens <= 8 { STREAM * 4 / cols / 8 * 8 } else { 2560 };
        let bytes = vec![0x46u8; rows * cols / 4];
        let codes: Vec<i8> = (0..tokens * cols + 63).map(|i| (i * 37) as i8).collect();
        // Aligned as a tensor is.
        let codes = &codes[codes.as_ptr().align_offset(64)..][..tokens * cols];
        let (factors, sums) = (vec![2.0; tokens], vec![1; tokens]);
        let x = CodeRows { codes, scales: &factors, sums: &sums };
        let mut y = vec![0.0; tokens * rows];
        let pass = || {
            self.threads.for_each_columns(&mut y, rows, 8, |mut y| {
                let range = y.range();
                let weight = TernaryRows {
                    bytes: &bytes[range.start * cols / 4..range.end * cols / 4],
                    scales: &[0.5],
                };
                (self.kernels.bit_matmul)(weight, x, &mut y);
            });
        };
        let what = format!("bit_matmul, {tokens} tokens, {cols} columns");
        if tokens <= 2 {
            self.bytes(&what, bytes.len(), pass)
        } else {
            self.macs(&what, tokens * rows * cols, pass)
        }
        black_box(&y);
    }

    /// The rows of a large head in int8.
    fn screen(&self, tokens: usize) {
        let cols = 2560;
        let rows = STREAM / cols / 4 * 4;
        let weight = vec![0x21i8; rows * cols];
        let codes: Vec<i16> = (0..tokens * cols).map(|i| (i * 37 % 9999) as i16).collect();
        let mut arranged = vec![0; codes.len()];
        let lacking = vec![0; tokens];
        for (x, to) in codes.chunks(cols).zip(arranged.chunks_mut(cols)) {
            (self.kernels.arrange_codes)(x, to);
        }
        let x = ArrangedTokens { codes: &arranged, lacking: &lacking };
        let mut sums = vec![0i64; rows * tokens];
        let pass = || {
            self.threads.for_each_chunk_mut(&mut sums, 64 * tokens, |i, sums| {
                let rows = &weight[i * 64 * cols..][..sums.len() / tokens * cols];
                (self.kernels.screen_dots)(rows, x, sums);
            });
        };
        let what = format!("screen, {tokens} tokens");
        if tokens == 1 {
            self.bytes(&what, weight.len(), pass);
        } else {
            self.macs(&what, tokens * rows * cols, pass);
        }
        black_box(&sums);
    }

    fn dense(&self, name: &str, kernel: MatmulT, tokens: usize, bytes_of_256: usize) {
        let cols = 2560;
        let row_bytes = cols / 256 * bytes_of_256;
        let rows = STREAM / row_bytes / 16 * 16 / if tokens > 8 { 16 } else { 1 };
        let weight = vec![0x21u8; rows * row_bytes];
        let x = vec![0.01f32; tokens * cols];
        let mut y = vec![0.0; tokens * rows];
        let pass = || {
            self.threads.for_each_columns(&mut y, rows, 16, |mut y| {
                let range = y.range();
                kernel(&weight[range.start * row_bytes..range.end * row_bytes], &x, &mut y);
            });
        };
        let what = format!("matmul_t {name}, {tokens} tokens");
        if tokens <= 8 {
            self.bytes(&what, weight.len(), pass);
        } else {
            let rate = best_rate(PASSES, (tokens * rows * cols) as f64, pass);
            println!("{what:40} {:8.1} GMAC/s", rate / 1e9);
        }
        black_box(&y);
    }

    /// One token at the end of a cache of one layer: as a share of the read bandwidth.
    fn attention(&self, storage: CacheType, positions: usize, heads: usize) -> Result<()> {
        let device = Device::open(&format!("cpu/{}", self.kernels.name), Some(self.threads.len()))?;
        let shape = KvShape { heads: 5, head_dim: 128, storage };
        let blocks: Vec<u32> = (0..positions.div_ceil(BLOCK_LEN) as u32).collect();
        let span = |start, len| PagedSpan { len, start, blocks: &blocks };
        // As many layers as are beyond every cache.
        let layers = STREAM / 2 / (shape.block_bytes() * blocks.len());
        let keys = Tensor::full(&device, [positions, 5, 128], 0.1, DType::F32)?;
        let mut caches = Vec::new();
        for _ in 0..layers {
            let mut cache = KvLayer::new(&device, blocks.len(), shape)?;
            kv_store(&keys, &keys, &[span(0, positions)], &mut cache)?;
            caches.push(cache);
        }
        let q = Tensor::full(&device, [1, 5 * heads, 128], 0.1, DType::F32)?;
        let last = [span(positions - 1, 1)];
        let what = format!("attention {storage:?}, {positions} positions, 5 x {heads} heads");
        self.bytes(&what, layers * shape.block_bytes() * blocks.len(), || {
            for cache in &caches {
                black_box(attention_op(&q, &last, cache).expect("shapes fit"));
            }
        });
        Ok(())
    }

    fn row(&self, what: &str, bytes: usize, mut run: impl FnMut()) {
        let rate = best_rate(PASSES, 1000.0 * bytes as f64, || (0..1000).for_each(|_| run()));
        println!("{what:40} {:8.1} GB/s    {:6.2} us", rate / 1e9, bytes as f64 / rate * 1e6);
    }

    fn rows(&self) {
        let k = self.kernels;
        let (x, w) = (vec![0.3f32; 2560], vec![1.1f32; 2560]);
        let (mut y, mut codes) = (vec![0.0f32; 2560], vec![0i8; 2560]);
        self.row("rms_norm 2560", 4 * 2560, || (k.rms_norm)(&x, &w, 1e-5, black_box(&mut y)));
        self.row("quantize_activation 2560", 4 * 2560, || {
            _ = (k.quantize_activation)(&x, black_box(&mut codes))
        });
        self.row("glu_silu 2560", 8 * 2560, || (k.glu_silu)(&x, &w, black_box(&mut y)));
        self.row("glu_relu2 2560", 8 * 2560, || (k.glu_relu2)(&x, &w, black_box(&mut y)));
        self.row("add 2560", 8 * 2560, || (k.add)(black_box(&mut y), &x));
        self.row("rope 20 x 128", 4 * 2560, || {
            y.chunks_mut(128).for_each(|y| (k.rope)(black_box(y), &x[..64], &w[..64]));
        });
        self.row("softmax 2560", 4 * 2560, || (k.softmax)(&x, black_box(&mut y)));
        let mut half = vec![0u8; 5120];
        self.row("write_f16 2560", 4 * 2560, || (k.write_f16)(&x, black_box(&mut half)));
        self.row("read_f16 2560", 2 * 2560, || (k.read_f16)(&half, black_box(&mut y)));
    }
}

fn ternary(bench: &Bench) {
    for cols in [2560, 6912] {
        for tokens in [1, 2, 4, 8, 16, 512] {
            bench.ternary(tokens, cols);
        }
    }
}

fn screen(bench: &Bench) {
    for tokens in [1, 2, 3, 4, 8] {
        bench.screen(tokens);
    }
}

fn dense(bench: &Bench) {
    let k = bench.kernels;
    for tokens in [1, 2, 4, 64] {
        bench.dense("f32", k.matmul_t_f32, tokens, 1024);
        bench.dense("f16", k.matmul_t_f16, tokens, 512);
        bench.dense("bf16", k.matmul_t_bf16, tokens, 512);
        bench.dense("q8_0", k.matmul_t_q8_0, tokens, 272);
        bench.dense("q6_k", k.matmul_t_q6_k, tokens, 210);
    }
}

fn attention(bench: &Bench) {
    for storage in [CacheType::F32, CacheType::F16, CacheType::Q8_0] {
        for heads in [4, 1] {
            bench.attention(storage, 4096, heads).expect("a tier of this machine");
        }
    }
}

type Group = (&'static str, fn(&Bench));

const GROUPS: [Group; 5] = [
    ("bit_matmul", ternary),
    ("screen", screen),
    ("matmul_t", dense),
    ("attention", attention),
    ("rows", Bench::rows),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let n = arguments.next().map_or(2, |n| n.parse().expect("a number of threads"));
    let kernels = arguments
        .next()
        .map_or(Kernels::best(), |name| Kernels::by_name(&name).expect("a tier of this machine"));
    let group = arguments.next();
    let bench = Bench::new(n, kernels);
    for (name, run) in GROUPS {
        if group.as_deref().is_none_or(|group| group == name) {
            run(&bench);
        }
    }
}
