//! Fills a pool, cuts it up, and lets every cleanup strategy give back what it can. All numbers are counted.
//!
//! `cargo run --example cleanup_system_demo --package bitnet-core --release`

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitnet_core::memory::cleanup::{Scheduler, Strategy};
use bitnet_core::memory::pressure::{Monitor, Thresholds};
use bitnet_core::memory::usage::{Scope, Usage};
use bitnet_core::memory::{Bytes, HybridMemoryPool, Movable};

const MIB: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    for (title, strategy) in [
        ("everything cached, after a second of rest", Strategy::Idle { after: Duration::from_secs(1) }),
        (
            "all but 64 MiB, every second",
            Strategy::Periodic { every: Duration::from_secs(1), keep: 64 * MIB },
        ),
        (
            "what is unused for two generations",
            Strategy::Generational { every: Duration::from_secs(1), generations: 2 },
        ),
        (
            "pack movable blocks together first",
            Strategy::Compact { every: Duration::from_secs(1), fragmentation: 0.2 },
        ),
    ] {
        let pool = HybridMemoryPool::host();
        let _blocks = cut_up(&pool)?;
        demonstrate(title, &pool, strategy);
    }
    let pool = HybridMemoryPool::host();
    let _blocks = cut_up(&pool)?;
    let full = || vec![Usage { scope: Scope::System, used: 98, limit: 100 }];
    let monitor = Arc::new(Monitor::with_source(&pool, Thresholds::default(), full));
    demonstrate("as on a machine that is 98 % full (made up)", &pool, Strategy::Pressure { monitor });
    Ok(())
}

/// Leaves 128 MiB cached in one piece, and 16 MiB of small blocks spread over 64 MiB.
fn cut_up(pool: &HybridMemoryPool) -> Result<Vec<Movable>, Box<dyn Error>> {
    let mut large = pool.alloc(128 * MIB)?;
    large.bytes_mut().into_iter().for_each(|bytes| bytes.fill(1));
    let small = (0..256).map(|_| pool.alloc_movable(MIB / 4)).collect::<Result<Vec<_>, _>>()?;
    small.iter().for_each(|block| block.write().fill(1));
    Ok(small.into_iter().step_by(4).collect())
}

fn demonstrate(title: &str, pool: &HybridMemoryPool, strategy: Strategy) {
    println!("{title}");
    println!("  {}", pool.stats());
    let mut scheduler = Scheduler::new();
    scheduler.add("cpu", pool, strategy);
    for second in 0..4 {
        let start = Instant::now();
        let reports = scheduler.run(Duration::from_secs(second), Duration::from_millis(100));
        let took = start.elapsed();
        for report in reports.iter().filter(|report| report.released() > 0 || report.moved > 0) {
            let rate = report.released() as f64 / took.as_secs_f64();
            println!("  second {second}: {report}");
            println!("  released {} in {took:.1?}, {}/s", Bytes(report.released()), Bytes(rate as usize));
        }
    }
    println!();
}
