//! How much vectors gain where codes are made and packed: `cargo run --release -p bitnet-quant --example vectors`.
//!
//! The same sources are compiled twice, as they are used and, into `target/without-vectors`, with the compiler forbidden to make vectors of
//! loops and of statements. Both programs take turns on one thread; the best time of each counts. Both are for any processor of the architecture:
//! what tiers of `bitnet-core` compile again for wider vectors is faster still.

use bitnet_quant::{Format, Scales, Ternary, activation, ternary};
use std::{
    env,
    error::Error,
    hint::black_box,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

const ROWS: usize = 64;
const COLS: usize = 2560;
const PASSES: usize = 7;
const TURNS: usize = 3;
/// Asks for the times alone.
const TIMES: &str = "--times";

type Times = Vec<(String, f64)>;

fn main() -> Result<(), Box<dyn Error>> {
    if env::args().any(|argument| argument == TIMES) {
        for (name, time) in times() {
            println!("{time}\t{name}");
        }
        return Ok(());
    }
    let plain = build_without_vectors()?;
    let (mut with, mut without) = (Times::new(), Times::new());
    for _ in 0..TURNS {
        keep_best(&mut without, run(&plain)?);
        keep_best(&mut with, times());
    }
    println!("{:24} {:>10} {:>10}    (ns a value)", "", "plain", "vectors");
    for ((name, with), (_, without)) in with.iter().zip(&without) {
        println!("{name:24} {without:10.3} {with:10.3} {:5.1}x", without / with);
    }
    Ok(())
}

/// Compiles this example without vectors and returns where the program is.
fn build_without_vectors() -> Result<PathBuf, Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = root.join("target/without-vectors");
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--package", "bitnet-quant", "--example", "vectors", "--target-dir"])
        .arg(&target)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C no-vectorize-loops -C no-vectorize-slp")
        .current_dir(&root)
        .status()?;
    if !status.success() {
        return Err(format!("cargo build: {status}").into());
    }
    Ok(target.join("release/examples/vectors"))
}

fn run(program: &Path) -> Result<Times, Box<dyn Error>> {
    let output = Command::new(program).arg(TIMES).output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = |line: &str| {
        let (time, name) = line.split_once('\t').ok_or("a time and a name")?;
        Ok((name.to_owned(), time.parse()?))
    };
    text.lines().map(line).collect()
}

fn keep_best(best: &mut Times, times: Times) {
    if best.is_empty() {
        return *best = times;
    }
    for ((_, best), (_, time)) in best.iter_mut().zip(times) {
        *best = best.min(time);
    }
}

/// Nanoseconds a value, the best of some passes.
fn time(len: usize, mut pass: impl FnMut()) -> f64 {
    let rounds = (1 << 20) / len;
    let seconds = (0..PASSES).map(|_| {
        let start = Instant::now();
        (0..rounds).for_each(|_| pass());
        start.elapsed().as_secs_f64()
    });
    1e9 * seconds.fold(f64::INFINITY, f64::min) / (rounds * len) as f64
}

fn times() -> Times {
    let w: Vec<f32> = (0..ROWS * COLS).map(|i| ((i * 7919) as f32 * 0.37).sin()).collect();
    let (mut codes, mut row) = (vec![0; w.len()], vec![0; COLS]);
    let (len, x) = (w.len(), &w[..COLS]);
    let mut found = vec![
        ("weights to codes".to_owned(), time(len, || _ = black_box(ternary::ternarize(&w, &mut codes)))),
        ("activations to int8".to_owned(), time(COLS, || _ = black_box(activation::quantize(x, &mut row)))),
    ];
    for format in [Format::Q8_0, Format::Q6K] {
        let mut bytes = vec![0; format.tensor_bytes(1, COLS).expect("whole blocks")];
        let time = time(COLS, || _ = black_box(format.quantize_row(x, &mut bytes)));
        found.push((format!("row to {}", format.name()), time));
    }
    let matrix = Ternary { rows: ROWS, cols: COLS, codes, scales: Scales::Tensor(0.5) };
    for format in Format::ALL.into_iter().filter(|format| format.is_ternary()) {
        let Ok(bytes) = format.pack(&matrix) else { continue };
        let pack = time(len, || _ = black_box(format.pack(&matrix)));
        let unpack = time(len, || _ = black_box(format.unpack(&bytes, ROWS, COLS)));
        found.push((format!("pack {}", format.name()), pack));
        found.push((format!("unpack {}", format.name()), unpack));
    }
    found
}
