//! What records of all blocks cost a decode: pairs of a text without and with them, one after the other, on two threads.
//!
//! `cargo run --release --package bitnet-benchmarks --example tracking_cost`

use bitnet_benchmarks::traces;
use bitnet_core::Device;
use bitnet_core::memory::Tracking;
use std::time::Instant;

const PAIRS: usize = 200;
const TOKENS: usize = 32;

fn main() -> Result<(), bitnet_core::Error> {
    let device = Device::open("cpu", Some(2))?;
    let mut engine = traces::books(&device, 512);
    let mut seconds = |level| {
        device.pool().set_tracking(level);
        let begin = Instant::now();
        traces::decode(&mut engine, TOKENS);
        begin.elapsed().as_secs_f64()
    };
    // Pages, caches and the history become warm.
    (0..20).for_each(|_| _ = seconds(Tracking::Records));
    let (mut off, mut added) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        // Each comes first in every second pair.
        let (without, with) = if pair % 2 == 0 {
            let without = seconds(Tracking::Off);
            (without, seconds(Tracking::Records))
        } else {
            let with = seconds(Tracking::Records);
            (seconds(Tracking::Off), with)
        };
        off.push(without);
        added.push(with / without - 1.0);
    }
    let before = device.pool().stats();
    seconds(Tracking::Records);
    let after = device.pool().stats();
    let blocks = (after.hits + after.misses) - (before.hits + before.misses);
    [&mut off, &mut added].into_iter().for_each(|values| values.sort_unstable_by(f64::total_cmp));
    let at = |values: &[f64], quarter: usize| values[values.len() * quarter / 4];
    println!("{PAIRS} pairs of {TOKENS} tokens after a prompt of 32, {blocks} blocks each");
    println!("without records: median {:.2} ms", 1e3 * at(&off, 2));
    println!(
        "records add: median {:+.2} %, quartiles {:+.2} % and {:+.2} %",
        100.0 * at(&added, 2),
        100.0 * at(&added, 1),
        100.0 * at(&added, 3)
    );
    Ok(())
}
