//! Times the tensor ops: `cargo run --release -p bitnet-core --example tensors [threads] [megabytes]`, the families alone with 0 MB.
//!
//! First large f32 tensors, as a share of the bandwidth that copying memory reaches between the passes; then each family of ops in the
//! caches on one thread, the fastest tier over the scalar source compiled for the least of this architecture, whose vectors the compiler
//! uses. There nothing waits for memory: what is computed is the limit.

mod families;

use bitnet_core::{
    DType, Device, Tensor,
    cpu::ceilings::{best_rate, read_bandwidth},
    cpu::threads::Threads,
    random::Rng,
};
use std::hint::black_box;

const PASSES: usize = 9;

fn main() -> bitnet_core::Result<()> {
    let mut args = std::env::args().skip(1).map_while(|arg| arg.parse().ok());
    let (threads, megabytes) = (args.next().unwrap_or(2), args.next().unwrap_or(128));
    if megabytes > 0 {
        large(&Device::open("cpu", Some(threads))?, &Threads::new(threads), megabytes << 18)?;
    }
    families::print_all();
    Ok(())
}

/// The best rate of `pass` beside the best rates of reading and copying, in turns.
fn beside(threads: &Threads, memory: &mut [Vec<i64>; 2], bytes: usize, mut pass: impl FnMut()) -> [f64; 3] {
    let [from, to] = memory;
    (0..PASSES).fold([0.0; 3], |best, _| {
        let copy = || {
            threads.for_each_chunk_mut(to, 1 << 17, |i, to| to.copy_from_slice(&from[i << 17..][..to.len()]));
        };
        let rates = [
            best_rate(1, bytes as f64, &mut pass),
            read_bandwidth(threads, from, 1),
            best_rate(1, 16.0 * from.len() as f64, copy),
        ];
        std::array::from_fn(|i| f64::max(best[i], rates[i]))
    })
}

fn large(device: &Device, threads: &Threads, len: usize) -> bitnet_core::Result<()> {
    let mut rng = Rng::new(1);
    let rows = Tensor::uniform(device, [len / 4096, 4096], (0.5, 2.0), &mut rng)?;
    let other = Tensor::uniform(device, [len / 4096, 4096], (0.5, 2.0), &mut rng)?;
    let row = other.narrow(0, 0, 1)?;
    let half = [rows.to_dtype(DType::F16)?, other.to_dtype(DType::F16)?];
    let brain = half[0].to_dtype(DType::BF16)?;
    let odd = rows.reshape([len])?.narrow(0, 0, (len / 4099) * 4099)?.reshape([len / 4099, 4099])?;
    let heads = rows.reshape([len >> 19, 128, 32, 128])?;
    let mut memory = [vec![1i64; len / 2], vec![2; len / 2]];
    type Op<'a> = &'a dyn Fn() -> bitnet_core::Result<Tensor>;
    let ops: [(&str, usize, Op<'_>); 28] = [
        ("copy", 8, &|| rows.copy()),
        ("neg", 8, &|| rows.neg()),
        ("relu2", 8, &|| rows.relu2()),
        ("sqrt", 8, &|| rows.sqrt()),
        ("exp", 8, &|| rows.exp()),
        ("tanh", 8, &|| rows.tanh()),
        ("gelu", 8, &|| rows.gelu()),
        ("add", 12, &|| rows.add(&other)),
        ("mul, one row repeated", 8, &|| rows.mul(&row)),
        ("div by a number", 8, &|| rows.div_scalar(3.0)),
        ("lt", 9, &|| rows.lt(&other)),
        ("to float16", 6, &|| rows.to_dtype(DType::F16)),
        ("from float16", 6, &|| half[0].to_dtype(DType::F32)),
        ("add of float16", 6, &|| half[0].add(&half[1])),
        ("to bfloat16", 6, &|| rows.to_dtype(DType::BF16)),
        ("square of bfloat16", 4, &|| brain.square()),
        ("sum", 4, &|| rows.sum((), false)),
        ("sum of rows", 4, &|| rows.sum(1, false)),
        ("sum of columns", 4, &|| rows.sum(0, false)),
        ("max of rows", 4, &|| rows.max(1, false)),
        ("argmax of rows", 4, &|| rows.argmax(1, false)),
        ("variance of rows", 4, &|| rows.var(1, 0, false)),
        ("softmax of rows", 8, &|| rows.softmax(1)),
        ("transpose and copy", 8, &|| rows.t()?.copy()),
        ("transpose odd extents", 8, &|| odd.t()?.copy()),
        ("transpose float16", 4, &|| half[0].t()?.copy()),
        ("heads before tokens", 8, &|| heads.permute(&[0, 2, 1, 3])?.copy()),
        ("keys by columns", 8, &|| heads.permute(&[0, 2, 3, 1])?.copy()),
    ];
    println!("{} on {} threads, {} MB of float32", device.name(), threads.len(), len >> 18);
    println!("{:24} {:>8} {:>10} {:>10}", "op", "GB/s", "of reading", "of copying");
    for (name, bytes, op) in ops {
        let [rate, read, copy] = beside(threads, &mut memory, bytes * len, || {
            black_box(op().expect("memory for the result"));
        });
        println!("{name:24} {:8.1} {:8.0} % {:8.0} %", rate / 1e9, 100.0 * rate / read, 100.0 * rate / copy);
    }
    Ok(())
}
