//! A recording once more, on any allocator, by as many threads as made it.

use crate::traces::{Recording, Step};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a thread does.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Makes a block that it keeps at a place of its own.
    Make { place: usize, bytes: usize },
    /// Frees it.
    Free { place: usize },
    /// Makes a block that another thread frees.
    Give { slot: usize, bytes: usize },
    /// Frees a block that another thread made.
    Take { slot: usize },
}

/// The steady part of a recording, step by step for the thread that made it. Between phases all threads meet, as they did when it was
/// recorded: whoever hands work to others waits for them.
#[derive(Debug)]
pub struct Replay {
    /// Phases, and in each what every thread does.
    phases: Vec<Vec<Vec<Act>>>,
    /// Places that a thread needs at most.
    places: usize,
    slots: usize,
    allocations: usize,
}

impl Replay {
    /// Of what comes behind loading and warming up.
    pub fn of(recording: &Recording) -> Self {
        let steps = || {
            let made_by = recording.threads[recording.steady..].iter().copied();
            recording.steps[recording.steady..].iter().copied().zip(made_by)
        };
        let threads: Vec<usize> =
            steps().map(|(_, thread)| thread).collect::<BTreeSet<_>>().into_iter().collect();
        let freed_by: HashMap<usize, usize> = steps()
            .filter_map(|(step, thread)| match step {
                Step::Free { block } => Some((block, thread)),
                Step::Alloc { .. } => None,
            })
            .collect();
        let mut replay = Self { phases: Vec::new(), places: 0, slots: 0, allocations: 0 };
        let (mut made, mut leader) = (HashMap::new(), None);
        let mut vacant = vec![Vec::new(); threads.len()];
        let mut taken = vec![0; threads.len()];
        for (step, thread) in steps() {
            let leads = recording.leader() == Some(thread);
            if leader != Some(leads) {
                leader = Some(leads);
                replay.phases.push(vec![Vec::new(); threads.len()]);
            }
            let at = threads.binary_search(&thread).expect("listed above");
            let act = match step {
                Step::Alloc { block, bytes } => {
                    replay.allocations += 1;
                    if freed_by.get(&block).is_some_and(|&other| other != thread) {
                        let slot = replay.slots;
                        replay.slots += 1;
                        made.insert(block, Act::Take { slot });
                        Act::Give { slot, bytes }
                    } else {
                        let place = vacant[at].pop().unwrap_or(taken[at]);
                        taken[at] = taken[at].max(place + 1);
                        made.insert(block, Act::Free { place });
                        Act::Make { place, bytes }
                    }
                }
                // Blocks from before are not there.
                Step::Free { block } => match made.get(&block) {
                    Some(&end) => end,
                    None => continue,
                },
            };
            if let Act::Free { place } = act {
                vacant[at].push(place);
            }
            replay.phases.last_mut().expect("there is one")[at].push(act);
        }
        replay.places = taken.into_iter().max().unwrap_or(0);
        replay
    }

    /// Threads that take part.
    pub fn threads(&self) -> usize {
        self.phases.first().map_or(0, Vec::len)
    }

    /// Blocks that are made.
    pub fn allocations(&self) -> usize {
        self.allocations
    }

    /// Blocks that one thread makes and another frees.
    pub fn handed_over(&self) -> usize {
        self.slots
    }

    /// Time in which the threads do it all `rounds` times. `allocate` makes a block, dropping it is its end; those that
    /// outlive the recording end with their round.
    pub fn run<B: Send>(&self, rounds: u64, allocate: impl Fn(usize) -> B + Sync) -> Duration {
        let slots: Vec<Mutex<Option<B>>> = (0..self.slots).map(|_| Mutex::new(None)).collect();
        let together = Barrier::new(self.threads());
        let start = Instant::now();
        thread::scope(|scope| {
            for at in 0..self.threads() {
                let (slots, together, allocate) = (&slots, &together, &allocate);
                scope.spawn(move || {
                    let mut own: Vec<Option<B>> = (0..self.places).map(|_| None).collect();
                    for _ in 0..rounds {
                        for phase in &self.phases {
                            phase[at].iter().for_each(|&act| perform(act, &mut own, slots, allocate));
                            together.wait();
                        }
                        own.iter_mut().for_each(|block| *block = None);
                    }
                });
            }
        });
        start.elapsed()
    }
}

fn perform<B>(act: Act, own: &mut [Option<B>], slots: &[Mutex<Option<B>>], allocate: impl Fn(usize) -> B) {
    let lock = |slot: usize| slots[slot].lock().unwrap_or_else(PoisonError::into_inner);
    match act {
        Act::Make { place, bytes } => own[place] = Some(allocate(bytes)),
        Act::Free { place } => own[place] = None,
        Act::Give { slot, bytes } => {
            let block = allocate(bytes);
            *lock(slot) = Some(block);
        }
        Act::Take { slot } => loop {
            let taken = lock(slot).take();
            match taken {
                Some(block) => break drop(block),
                None => thread::yield_now(),
            }
        },
    }
}
