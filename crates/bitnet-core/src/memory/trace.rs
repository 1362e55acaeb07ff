//! A trace: what happened to memory, in order of time.

use std::collections::HashMap;
use std::time::Duration;

/// What an event changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A block was allocated.
    Alloc {
        /// Number of the allocation.
        id: u64,
        /// Bytes reserved.
        bytes: usize,
    },
    /// A block was freed.
    Free {
        /// Number of the allocation.
        id: u64,
    },
    /// The pool had to ask the system for more.
    Grow {
        /// Bytes of the request that could not be served.
        wanted: usize,
        /// Bytes that the system gave for it.
        got: usize,
        /// Bytes in free runs just before.
        free: usize,
        /// Longest free run just before.
        largest_free: usize,
        /// Bytes held just after.
        held: usize,
    },
}

/// One moment of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, since the pool was made.
    pub at: Duration,
    /// Device, numbered as the caller likes.
    pub device: u32,
    /// On whose behalf; empty where nobody said.
    pub owner: &'static str,
    /// What happened.
    pub change: Change,
}

/// Events in order of time. A release whose allocation came before the trace is left out.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    events: Vec<Event>,
}

impl Trace {
    /// A trace of events in any order.
    pub fn new(mut events: Vec<Event>) -> Self {
        // A block is freed after it was made even where the clock did not move in between.
        events.sort_by_key(|event| (event.at, matches!(event.change, Change::Free { .. })));
        Self { events }
    }

    /// The events in order of time.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Events that change how much is live, with the difference in bytes.
    pub(super) fn changes(&self) -> impl Iterator<Item = (&Event, isize)> {
        let mut sizes = HashMap::new();
        self.events.iter().filter_map(move |event| {
            let difference = match event.change {
                Change::Alloc { id, bytes } => {
                    sizes.insert((event.device, id), bytes);
                    bytes.cast_signed()
                }
                Change::Free { id } => -sizes.remove(&(event.device, id))?.cast_signed(),
                Change::Grow { .. } => return None,
            };
            Some((event, difference))
        })
    }

    /// One trace of several, such as those of all devices.
    pub fn merge(traces: impl IntoIterator<Item = Self>) -> Self {
        Self::new(traces.into_iter().flat_map(|trace| trace.events).collect())
    }
}
