//! Patterns: what a trace shows of leaks and waste, with the numbers that show it and what to do.

mod balance;
mod burst;
mod cut_up;
mod growth;
mod leak;
mod lives;
mod ping_pong;

use std::fmt;
use std::time::Duration;

use super::{Bytes, Trace};
use lives::Lives;

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// Some blocks are never freed while others of their owner are.
    Leak,
    /// An owner holds more and more.
    Growth,
    /// A block is freed and at once allocated again, over and over.
    PingPong,
    /// Free memory is cut up too much to serve requests.
    Fragmentation,
    /// Many blocks live together for a moment only.
    Burst,
    /// One device holds much more, or much less, than the others.
    Imbalance,
}

impl Pattern {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Leak, Self::Growth, Self::PingPong, Self::Fragmentation, Self::Burst, Self::Imbalance];

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Leak => {
                "look for who keeps the oldest blocks; tracking at `debug` shows where they were made"
            }
            Self::Growth => "bound it: evict, reuse, or reserve its final size at the start",
            Self::PingPong => "keep the block across iterations instead of freeing it",
            Self::Fragmentation => {
                "make long-lived blocks movable and compact, or allocate them first and together"
            }
            Self::Burst => {
                "allocate one block for the whole burst and cut it up, or do the work in smaller parts"
            }
            Self::Imbalance => "move layers or sequences from the fullest device to the emptiest",
        }
    }
}

/// The numbers that show a pattern.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Evidence {
    /// Of a [`Pattern::Leak`].
    Leak {
        /// Blocks that outlive the others by far.
        blocks: usize,
        /// Bytes of those.
        bytes: usize,
        /// Age of the oldest.
        oldest: Duration,
        /// Lifetime that 19 of 20 freed blocks of the owner do not exceed.
        usual: Duration,
    },
    /// Of a [`Pattern::Growth`].
    Growth {
        /// Live bytes near the start.
        from: usize,
        /// Live bytes at the end.
        to: usize,
        /// Bytes added per second.
        per_second: f64,
    },
    /// Of a [`Pattern::PingPong`].
    PingPong {
        /// Size of the block.
        bytes: usize,
        /// Times that it was freed and at once allocated again.
        cycles: usize,
        /// Median time without it.
        gap: Duration,
        /// Median lifetime.
        lifetime: Duration,
    },
    /// Of a [`Pattern::Fragmentation`].
    Fragmentation {
        /// Times that the system was asked although enough was free.
        growths: usize,
        /// Bytes that it gave in those.
        bytes: usize,
        /// Free bytes at the worst of them.
        free: usize,
        /// Longest free run at that time.
        largest_free: usize,
    },
    /// Of a [`Pattern::Burst`].
    Burst {
        /// Bursts.
        bursts: usize,
        /// Most blocks of one that lived at once.
        blocks: usize,
        /// Bytes of those.
        bytes: usize,
        /// Length of that burst.
        length: Duration,
    },
    /// Of a [`Pattern::Imbalance`].
    Imbalance {
        /// Mean live bytes of the device.
        bytes: usize,
        /// Mean live bytes of the others, each.
        others: usize,
    },
}

impl Evidence {
    /// What it shows.
    pub fn pattern(&self) -> Pattern {
        match self {
            Self::Leak { .. } => Pattern::Leak,
            Self::Growth { .. } => Pattern::Growth,
            Self::PingPong { .. } => Pattern::PingPong,
            Self::Fragmentation { .. } => Pattern::Fragmentation,
            Self::Burst { .. } => Pattern::Burst,
            Self::Imbalance { .. } => Pattern::Imbalance,
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Leak { blocks, bytes, oldest, usual } => write!(
                f,
                "leak suspect: {blocks} blocks ({}) up to {oldest:.1?} old where others live {usual:.1?}",
                Bytes(bytes)
            ),
            Self::Growth { from, to, per_second } => write!(
                f,
                "steady growth: {} -> {}, {} per second",
                Bytes(from),
                Bytes(to),
                Bytes(per_second as usize)
            ),
            Self::PingPong { bytes, cycles, gap, lifetime } => write!(
                f,
                "ping-pong: {} freed for {gap:.1?} after {lifetime:.1?}, {cycles} times",
                Bytes(bytes)
            ),
            Self::Fragmentation { growths, bytes, free, largest_free } => write!(
                f,
                "fragmentation: the system gave {} in {growths} parts with up to {} free, in runs of at most {}",
                Bytes(bytes),
                Bytes(free),
                Bytes(largest_free)
            ),
            Self::Burst { bursts, blocks, bytes, length } => write!(
                f,
                "short-lived bursts: {bursts}, up to {blocks} blocks ({}) for {length:.1?}",
                Bytes(bytes)
            ),
            Self::Imbalance { bytes, others } => {
                write!(f, "device imbalance: {} on average where others hold {}", Bytes(bytes), Bytes(others))
            }
        }
    }
}

/// A pattern that a trace shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finding {
    /// The device it is on.
    pub device: u32,
    /// The owner that it is about; empty where it is about the device.
    pub owner: &'static str,
    /// What shows it.
    pub evidence: Evidence,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.owner.is_empty() {
            write!(f, "{}: ", self.owner)?;
        }
        write!(f, "{} -> {}", self.evidence, self.evidence.pattern().advice())
    }
}

/// All that the trace shows. An owner that leaks is not reported as growing too.
pub fn analyse(trace: &Trace) -> Vec<Finding> {
    let lives = Lives::of(trace);
    let mut findings = Vec::new();
    for (&(device, owner), group) in &lives.groups {
        let growth = || growth::find(group, &lives.span, &lives.clock);
        let about_owner = [
            leak::find(group, &lives.span, &lives.clock).or_else(growth),
            ping_pong::find(group),
            burst::find(group, &lives.span),
        ];
        findings.extend(about_owner.into_iter().flatten().map(|evidence| Finding {
            device,
            owner,
            evidence,
        }));
    }
    let about_device = cut_up::find(trace).into_iter().chain(balance::find(&lives));
    findings.extend(about_device.map(|(device, evidence)| Finding { device, owner: "", evidence }));
    findings
}
