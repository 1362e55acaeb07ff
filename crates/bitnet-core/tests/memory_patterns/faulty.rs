//! Layers of traces that each show one pattern.

use bitnet_core::memory::patterns::Pattern;

use super::healthy::{Layer, skewed};
use super::heap::checkerboard;
use super::story::Story;

/// Layers, and what each shows.
pub const FAULTS: [(Pattern, &[Layer]); 6] = [
    (Pattern::Leak, &[leak_every_so_often, leak_by_chance, leak_on_error_path]),
    (Pattern::Growth, &[append_only, ever_longer_buffer, accelerating, bounded_too_late, on_top]),
    (Pattern::PingPong, &[tight_loop, episodes]),
    (Pattern::Fragmentation, &[checkerboard]),
    (Pattern::Burst, &[one_burst, bursts_among_work]),
    (Pattern::Imbalance, &[skewed]),
];

/// Iterations with temporaries, of which `leaks` says which is never freed.
fn iterations(s: &mut Story, owner: &'static str, mut leaks: impl FnMut(&mut Story, usize) -> bool) {
    let (count, spread) = (s.random.count(200, 1500), s.random.between(0.1, 1.0));
    let life = s.random.between(0.5, 3.0) / count as f64;
    let same = s.random.chance(0.5);
    for i in 0..count {
        let born = (i as f64 + 0.3 * s.random.unit()) / count as f64;
        let bytes = if same { 24 << 10 } else { s.random.count(1 << 10, 64 << 10) };
        let died = born + life * (spread * s.random.normal()).exp();
        let leaked = leaks(s, i);
        s.block(owner, bytes, born, if leaked { 2.0 } else { died });
    }
}

fn leak_every_so_often(s: &mut Story) {
    let every = s.random.count(5, 30);
    iterations(s, "iteration", |_, i| i % every == 0);
}

fn leak_by_chance(s: &mut Story) {
    let chance = s.random.between(0.03, 0.25);
    iterations(s, "handler", |s, _| s.random.chance(chance));
}

/// Nothing leaks in a first part; then some kinds of input do.
fn leak_on_error_path(s: &mut Story) {
    let (from, chance) = (s.random.count(5, 40), s.random.between(0.1, 0.3));
    iterations(s, "parser", |s, i| i > from && s.random.chance(chance));
}

fn append_only(s: &mut Story) {
    let (count, bytes) = (s.random.count(40, 800), s.random.count(4 << 10, MOST));
    for i in 0..count {
        let born = (i as f64 + s.random.unit()) / count as f64;
        s.block("history", bytes, born, 2.0);
    }
}

const MOST: usize = 512 << 10;

/// A buffer that is replaced by a longer one at every step.
fn ever_longer_buffer(s: &mut Story) {
    let (steps, bytes) = (s.random.count(40, 300), s.random.count(16 << 10, 256 << 10));
    let step = 1.0 / steps as f64;
    for i in 0..steps {
        let born = step * i as f64;
        s.block("concat", bytes * (i + 1), born, born + step * 1.02);
    }
}

fn accelerating(s: &mut Story) {
    let (count, power) = (s.random.count(60, 400), s.random.between(0.5, 0.9));
    for i in 0..count {
        s.block("metrics", 32 << 10, ((i as f64 + 0.5) / count as f64).powf(power), 2.0);
    }
}

/// A cache that evicts a few of its entries, but more come than go.
fn bounded_too_late(s: &mut Story) {
    let (count, evicted) = (s.random.count(200, 800), s.random.between(0.05, 0.3));
    for i in 0..count {
        let born = (i as f64 + s.random.unit()) / count as f64;
        let died = if s.random.chance(evicted) { born + s.random.between(0.3, 0.6) } else { 2.0 };
        s.block("sessions", 48 << 10, born, died);
    }
}

/// Growth from what was there at the start, beside work that comes and goes.
fn on_top(s: &mut Story) {
    let (base, added) = (s.random.count(40, 100), s.random.count(60, 150));
    for _ in 0..base {
        let born = s.random.between(0.0, 0.05);
        s.block("pages", 64 << 10, born, 2.0);
    }
    for i in 0..added {
        let born = (i as f64 + s.random.unit()) / added as f64;
        s.block("pages", 64 << 10, born, 2.0);
    }
    for _ in 0..s.random.count(5, 12) {
        let (born, length) = (s.random.unit(), s.random.between(0.01, 0.04));
        (0..20).for_each(|_| s.block("scans", 64 << 10, born, born + length));
    }
}

/// Cycles of one block with short gaps from `start` on; returns where they end.
fn cycles(s: &mut Story, owner: &'static str, bytes: usize, count: usize, start: f64, length: f64) {
    let (period, gap) = (length / count as f64, s.random.scale(0.01, 0.28));
    let mut at = start;
    for _ in 0..count {
        let life = period * (1.0 - gap) * (0.2 * s.random.normal()).exp();
        s.block(owner, bytes, at, at + life);
        at += life + period * gap * (0.2 * s.random.normal()).exp();
    }
}

fn tight_loop(s: &mut Story) {
    let (count, bytes) = (s.random.count(60, 1500), s.random.count(1 << 10, 4 << 20));
    let (start, length) = (s.random.between(0.0, 0.4), s.random.scale(0.02, 0.5));
    cycles(s, "loop", bytes, count, start, length);
}

fn episodes(s: &mut Story) {
    let (count, bytes) = (s.random.count(3, 8), s.random.count(1 << 10, 4 << 20));
    for episode in 0..count {
        let cycles_each = s.random.count(20, 100);
        cycles(s, "loop", bytes, cycles_each, (episode as f64 + 0.1) / count as f64, 0.3 / count as f64);
    }
}

fn burst(s: &mut Story, owner: &'static str, at: f64, blocks: usize, length: f64) {
    for i in 0..blocks {
        let born = at + length * (i as f64 + s.random.unit()) / blocks as f64;
        let died = at + length * s.random.between(1.05, 2.0);
        let bytes = s.random.count(256, 32 << 10);
        s.block(owner, bytes, born, died);
    }
}

fn one_burst(s: &mut Story) {
    let (at, blocks, length) =
        (s.random.between(0.1, 0.9), s.random.count(60, 500), s.random.scale(1e-5, 0.01));
    burst(s, "prompt", at, blocks, length);
    // The owner is at work before and after, at leisure.
    for _ in 0..s.random.count(5, 20) {
        let born = s.random.unit();
        s.block("prompt", 4 << 10, born, born + 0.005);
    }
}

fn bursts_among_work(s: &mut Story) {
    let (count, work) = (s.random.count(2, 8), s.random.count(50, 300));
    for i in 0..count {
        let (blocks, length) = (s.random.count(60, 300), s.random.scale(1e-5, 0.001));
        let at = (i as f64 + s.random.between(0.2, 0.8)) / count as f64;
        burst(s, "tokenize", at, blocks, length);
    }
    for _ in 0..work {
        let (born, life) = (s.random.unit(), s.random.between(0.001, 0.01));
        s.block("tokenize", 8 << 10, born, born + life);
    }
}
