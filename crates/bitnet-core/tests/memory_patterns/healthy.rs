//! Layers of traces in which nothing is wrong; most resemble something that is.

use super::heap;
use super::story::Story;

/// One layer that adds healthy behaviour.
pub type Layer = fn(&mut Story);

const MIB: usize = 1 << 20;

/// What nearly every process does.
pub const USUAL: [Layer; 4] = [weights, decode, kv, churn];

/// What resembles a pattern.
pub const HARD: [Layer; 19] = [
    cache_plateau,
    cache_with_hot_keys,
    warm_up,
    vocabulary,
    batch_alternation,
    training_steps,
    heavy_tail,
    model_swap,
    admissions,
    sawtooth,
    random_walk,
    double_buffer,
    scratch_per_layer,
    grows_then_flat,
    session_reset,
    heap::coalescing,
    heap::one_size,
    heap::small_requests,
    heap::a_bad_moment,
];

/// What else may go on on a device: at most 25 MiB, a thirtieth of its share of a model, so that nothing is weighed wrongly for it.
const BESIDE: [Layer; 12] = [
    kv,
    churn,
    cache_with_hot_keys,
    vocabulary,
    training_steps,
    heavy_tail,
    sawtooth,
    random_walk,
    double_buffer,
    scratch_per_layer,
    grows_then_flat,
    session_reset,
];

/// What resembles an imbalance; beside these goes on only what is small, as what else is on a device counts.
pub const DEVICES: [Layer; 3] = [mild_imbalance, changing_imbalance, loading_order];

pub fn weights(s: &mut Story) {
    let (count, end) = (s.random.count(10, 100), s.random.between(0.02, 0.08));
    for i in 0..count {
        let bytes = s.random.count(64 << 10, 8 * MIB);
        let born = end * (i as f64 + s.random.unit()) / count as f64;
        s.block("weights", bytes, born, 2.0);
    }
}

pub fn decode(s: &mut Story) {
    let (steps, parts, start) = (s.random.count(150, 500), s.random.count(3, 8), s.random.between(0.0, 0.1));
    let sizes: Vec<usize> = (0..parts).map(|_| s.random.count(1 << 10, 256 << 10)).collect();
    let step = (1.0 - start) / steps as f64;
    for i in 0..steps {
        for (part, &bytes) in sizes.iter().enumerate() {
            let born = start + step * (i as f64 + (part as f64 + 0.5 * s.random.unit()) / parts as f64);
            let died = born + step / parts as f64 * s.random.between(0.8, 1.6);
            s.block("decode", bytes, born, died);
        }
    }
}

pub fn kv(s: &mut Story) {
    let sequences = s.random.count(15, 40);
    for _ in 0..sequences {
        let (born, length) = (s.random.between(-0.1, 1.0), s.random.between(0.03, 0.15));
        let blocks = s.random.count(4, 30);
        for block in 0..blocks {
            s.block("kv", 512 << 10, born + length * block as f64 / blocks as f64, born + length);
        }
    }
}

pub fn churn(s: &mut Story) {
    let (count, life) = (s.random.count(300, 2000), s.random.scale(0.0005, 0.01));
    for _ in 0..count {
        let (bytes, born) = (s.random.scale(64.0, 1e5) as usize, s.random.unit());
        let died = born + life * s.random.exponential();
        s.block("churn", bytes, born, died);
    }
}

fn cache_plateau(s: &mut Story) {
    let (inserts, full) = (s.random.count(200, 1000), s.random.between(0.1, 0.6));
    let capacity = (inserts as f64 * full) as usize;
    let fifo = s.random.chance(0.5);
    let mut kept: Vec<(usize, f64)> = Vec::new();
    for i in 0..inserts {
        let at = (i as f64 + s.random.unit()) / inserts as f64;
        if kept.len() == capacity {
            let victim = if fifo { 0 } else { s.random.count(0, capacity - 1) };
            let (bytes, born) = kept.remove(victim);
            s.block("cache", bytes, born, at);
        }
        kept.push((s.random.count(8 << 10, 64 << 10), at));
    }
    for (bytes, born) in kept {
        s.block("cache", bytes, born, 2.0);
    }
}

fn cache_with_hot_keys(s: &mut Story) {
    let (inserts, hot) = (s.random.count(300, 1000), s.random.count(10, 60));
    for _ in 0..inserts {
        let born = s.random.unit();
        let died = born + 0.02 * s.random.exponential();
        s.block("cache", 16 << 10, born, died);
    }
    for _ in 0..hot {
        let born = s.random.between(0.0, 0.2);
        s.block("cache", 16 << 10, born, 2.0);
    }
}

fn warm_up(s: &mut Story) {
    let (count, tau) = (s.random.count(40, 200), s.random.between(0.04, 0.15));
    for _ in 0..count {
        let (bytes, born) = (s.random.count(32 << 10, MIB), tau * s.random.exponential());
        s.block("workspace", bytes, born, 2.0);
    }
}

/// Entries for what is seen for the first time, which happens less and less often; queries come and go.
fn vocabulary(s: &mut Story) {
    warm_up_of(s, "vocabulary");
    for _ in 0..s.random.count(100, 400) {
        let born = s.random.unit();
        let died = born + s.random.between(0.001, 0.01);
        s.block("vocabulary", 4 << 10, born, died);
    }
}

fn warm_up_of(s: &mut Story, owner: &'static str) {
    let tau = s.random.between(0.05, 0.13);
    for _ in 0..s.random.count(30, 120) {
        let born = tau * s.random.exponential();
        s.block(owner, 4 << 10, born, 2.0);
    }
}

fn batch_alternation(s: &mut Story) {
    let (batches, kinds) = (s.random.count(80, 300), s.random.count(2, 4));
    let sizes: Vec<usize> = (1..=kinds).map(|k| k * s.random.count(1, 4) * MIB + k * 4096).collect();
    let step = 1.0 / batches as f64;
    for i in 0..batches {
        let born = step * i as f64;
        let died = born + step * s.random.between(0.85, 0.99);
        s.block("batch", sizes[i % kinds], born, died);
    }
}

fn training_steps(s: &mut Story) {
    let (steps, layers) = (s.random.count(15, 60), s.random.count(20, 80));
    let forward = s.random.between(0.3, 0.5);
    let step = 1.0 / steps as f64;
    for i in 0..steps {
        for layer in 0..layers {
            let share = layer as f64 / layers as f64;
            let born = step * (i as f64 + forward * share);
            let died = step * (i as f64 + forward + (0.98 - forward) * (1.0 - share));
            s.block("activations", 64 << 10, born, died);
        }
    }
}

fn heavy_tail(s: &mut Story) {
    let (count, median, spread) =
        (s.random.count(300, 1500), s.random.scale(0.002, 0.01), s.random.between(0.8, 1.7));
    for _ in 0..count {
        let born = s.random.unit();
        let died = born + median * (spread * s.random.normal()).exp();
        s.block("requests", 32 << 10, born, died);
    }
}

fn model_swap(s: &mut Story) {
    let (swap, layers) = (s.random.between(0.35, 0.65), s.random.count(20, 60));
    for layer in 0..layers {
        let at = 0.05 * layer as f64 / layers as f64;
        s.block("model", 2 * MIB, at, swap);
        s.block("model", 3 * MIB, swap + at, 2.0);
    }
}

/// Batches of sequences that come at once and stay for long.
fn admissions(s: &mut Story) {
    let (batches, size) = (s.random.count(6, 12), s.random.count(40, 100));
    for batch in 0..batches {
        let at = batch as f64 / batches as f64;
        for _ in 0..size {
            let born = at + 0.001 * s.random.unit();
            let died = at + s.random.between(0.3, 0.95) / batches as f64;
            s.block("sequences", 128 << 10, born, died);
        }
    }
}

fn sawtooth(s: &mut Story) {
    let (periods, blocks) = (s.random.count(4, 12), s.random.count(20, 60));
    for period in 0..periods {
        for block in 0..blocks {
            let at = |share: f64| (period as f64 + share) / periods as f64;
            s.block("log", 64 << 10, at(block as f64 / blocks as f64 * 0.95), at(0.97));
        }
    }
}

fn random_walk(s: &mut Story) {
    let count = s.random.count(300, 900);
    let mut queue = std::collections::VecDeque::new();
    for i in 0..count {
        let at = i as f64 / count as f64;
        // Drawn back to about twenty entries.
        if s.random.chance(0.5 + (20.0 - queue.len() as f64) / 100.0) {
            queue.push_back(at);
        } else if let Some(born) = queue.pop_front() {
            s.block("queue", 48 << 10, born, at);
        }
    }
    for born in queue {
        s.block("queue", 48 << 10, born, 2.0);
    }
}

fn double_buffer(s: &mut Story) {
    let frames = s.random.count(80, 400);
    let step = 1.0 / frames as f64;
    for i in 0..frames {
        let born = step * i as f64;
        let died = born + step * s.random.between(1.1, 1.8);
        s.block("frames", MIB, born, died);
    }
}

fn scratch_per_layer(s: &mut Story) {
    let (uses, share) = (s.random.count(200, 800), s.random.between(0.1, 0.55));
    let step = 1.0 / uses as f64;
    for i in 0..uses {
        let born = step * (i as f64 + 0.05 * s.random.unit());
        let died = born + step * share * s.random.between(0.9, 1.1);
        s.block("scratch", 96 << 10, born, died);
    }
}

fn grows_then_flat(s: &mut Story) {
    let (count, until) = (s.random.count(30, 120), s.random.between(0.3, 0.6));
    for i in 0..count {
        s.block("index", 128 << 10, until * i as f64 / count as f64, 2.0);
    }
}

fn session_reset(s: &mut Story) {
    let (count, reset) = (s.random.count(40, 120), s.random.between(0.5, 0.8));
    for i in 0..count {
        let born = i as f64 / count as f64;
        s.block("session", 128 << 10, born, if born < reset { reset } else { 2.0 });
    }
}

/// Bytes of a piece of a model on a device with the share 1, which has 24 of them.
const PIECE: f64 = 32.0 * MIB as f64;

/// Two to four devices with weights and sequences in the given proportion, which is kept to within some hundredths, and some other work.
fn devices(s: &mut Story, shares: &[f64]) {
    for (device, &share) in shares.iter().enumerate() {
        s.device = device as u32;
        let end = s.random.between(0.03, 0.08);
        for i in 0..24 {
            let bytes = (share * PIECE * s.random.between(0.9, 1.1)) as usize;
            s.block("shard", bytes, end * i as f64 / 24.0, 2.0);
        }
        decode(s);
    }
    for _ in 0..s.random.count(0, 3) {
        s.device = s.random.count(0, shares.len() - 1) as u32;
        s.random.pick(&BESIDE)(s);
    }
    s.device = 0;
}

fn mild_imbalance(s: &mut Story) {
    let more = s.random.between(1.1, 1.85);
    let shares = [&[1.0, more][..], &[1.0, more, 1.0], &[more, 1.0, 1.2, 1.1]];
    let shares = s.random.pick(&shares);
    devices(s, shares);
}

/// Two devices that take turns in holding the batch.
fn changing_imbalance(s: &mut Story) {
    devices(s, &[0.3, 0.3]);
    let turns = s.random.count(6, 20);
    for turn in 0..turns {
        s.device = (turn % 2) as u32;
        let at = |share: f64| (turn as f64 + share) / turns as f64;
        s.block("turn", 800 * MIB, at(0.02), at(0.97));
    }
    s.device = 0;
}

/// The second device is filled long after the first.
fn loading_order(s: &mut Story) {
    let late = s.random.between(0.3, 0.5);
    for (device, start) in [(0, 0.0), (1, late)] {
        s.device = device;
        for i in 0..20 {
            s.block("shard", 10 * MIB, start + 0.05 * i as f64 / 20.0, 2.0);
        }
        decode(s);
    }
    s.device = 0;
}

pub fn skewed(s: &mut Story) {
    let times = s.random.scale(2.15, 8.0);
    let shares = [
        vec![1.0, times],
        vec![times, 1.0],
        vec![1.0, times, 1.1],
        vec![1.0, 1.0 / times, 1.1],
        vec![0.9, 1.0, 1.1, times],
    ];
    let index = s.random.count(0, shares.len() - 1);
    devices(s, &shares[index]);
}
